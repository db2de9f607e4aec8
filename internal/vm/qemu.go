package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/kup-project/kup/internal/kernel"
)

// Config describes a guest.
type Config struct {
	Kernel    Kernel
	Initramfs string // path of what Initramfs.Write made
	Append    string // more for the kernel's command line
	MemoryMB  int    // 0 means 1024
	CPUs      int    // 0 means 2
	Disk      string // path of what CreateDisk made; empty: no disk
	Net       *Net   // nil: no network
	Log       string // the console's log is appended to this file
	Firmware  string // path of a firmware image, as OVMF.fd for EFI; empty: SeaBIOS
	// ThreadPerCPU emulates each of the guest's CPUs by a thread of its own. That is faster where the host has processors to
	// spare, but now and then a CPU executes an int3 that the kernel's code patching has already replaced (text_poke_bp in
	// arch/x86/kernel/alternative.c), and the kernel panics: seen in one of some fifty boots of 6.12. A first boot is tried
	// again then, but nobody can try again what comes after a kexec. One thread for all CPUs has no such window.
	ThreadPerCPU bool
}

const qemuProgram = "qemu-system-x86_64"

// process is a running QEMU.
type process struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	exited chan struct{} // closed when the process is gone; then err says how it went
	err    error
}

// launch starts QEMU; the connection goes to the guest's agent.
func launch(ctx context.Context, c Config, con *console) (*process, net.Conn, error) {
	dir, err := os.MkdirTemp("", "kup-vm-")
	if err != nil {
		return nil, nil, err
	}
	// Once QEMU has connected nobody needs the socket's name, so nothing can stay behind later.
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "agent")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, nil, err
	}
	defer listener.Close()

	output, input, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	p := &process{cmd: exec.Command(qemuProgram, c.arguments(socket)...), exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = input, &p.stderr
	p.cmd.SysProcAttr = kernel.DieWithParent()
	err = p.start(c.Net)
	input.Close()
	if err != nil {
		output.Close()
		return nil, nil, fmt.Errorf("%s: %w; the package qemu-system-x86 brings it", qemuProgram, err)
	}
	go con.follow(output)

	accepted := make(chan net.Conn, 1)
	go func() {
		if conn, err := listener.Accept(); err == nil {
			accepted <- conn
		}
		close(accepted) // an error: the listener was closed below
	}()
	select {
	case conn := <-accepted:
		return p, conn, nil
	case <-p.exited:
		return nil, nil, fmt.Errorf("%s did not start: %w: %s", qemuProgram, p.err, strings.TrimSpace(p.stderr.String()))
	case <-ctx.Done():
		p.kill()
		return nil, nil, ctx.Err()
	}
}

// start starts the process, in the network's namespace, on a thread that stays until the process is gone: QEMU dies with
// the thread that started it, see kernel.DieWithParent.
func (p *process) start(n *Net) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread may have failed to come back from the namespace
		run := p.cmd.Start
		if n != nil {
			run = func() error {
				_, err := n.visit(p.cmd.Start)
				return err
			}
		}
		err := run()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.exited)
		}
	}()
	return <-started
}

// kill ends the process and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // the one error is that it has ended by itself
	<-p.exited
}

// crashed says whether QEMU itself broke, rather than what ran in it.
func (p *process) crashed() bool {
	failed, ok := errors.AsType[*exec.ExitError](p.err)
	if !ok {
		return false
	}
	status, ok := failed.Sys().(kernel.WaitStatus)
	return ok && status.Signaled()
}

func (c Config) arguments(agentSocket string) []string {
	// no_timer_check: on a busy host the emulated timer ticks too late for the kernel's check of the IO-APIC, which then
	// panics. Kernels that see a hypervisor they know skip it by themselves.
	line := "console=ttyS0 quiet panic=-1 no_timer_check"
	threads := "single"
	if c.ThreadPerCPU {
		threads = "multi"
	}
	args := []string{
		"-accel", "tcg,thread=" + threads, "-cpu", "max",
		"-smp", strconv.Itoa(orDefault(c.CPUs, 2)), "-m", strconv.Itoa(orDefault(c.MemoryMB, 1024)),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-chardev", "socket,id=agent,path=" + escape(agentSocket),
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent",
	}
	if c.Firmware != "" {
		args = append(args, "-bios", c.Firmware)
	}
	if c.Disk != "" {
		// unsafe: only the host's own crash could lose what the guest wrote.
		args = append(args, "-drive", "if=none,id=disk,format=raw,cache=unsafe,file="+escape(c.Disk),
			"-device", "virtio-blk-pci,drive=disk")
		line += " kup.data=/dev/vda"
	}
	if c.Net != nil {
		args = append(args, "-netdev", "tap,id=net,script=no,downscript=no,ifname="+tapName,
			"-device", "virtio-net-pci,netdev=net,mac=52:54:00:6b:75:70,romfile=")
		line += " " + c.Net.guestParameter()
	}
	return append(args, "-kernel", c.Kernel.Image, "-initrd", c.Initramfs, "-append", strings.TrimSpace(line+" "+c.Append))
}

func orDefault(n, standard int) int {
	if n == 0 {
		return standard
	}
	return n
}

// escape protects a path in an option list of QEMU.
func escape(path string) string { return strings.ReplaceAll(path, ",", ",,") }

// describe is how a QEMU that is gone went.
func (p *process) describe() string {
	how := "exit code 0 (power off, reset or kernel panic)"
	if p.err != nil {
		how = p.err.Error()
	}
	if text := strings.TrimSpace(p.stderr.String()); text != "" {
		how += ": " + text
	}
	return how
}

// bootTimeout bounds a first boot. Emulated guests on a busy machine are slow, but not that slow.
const bootTimeout = 5 * time.Minute
