package kernel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// subjectBase is where the program of a probe's subject is mapped; its first page begins with the ELF header.
const subjectBase = 0x400000

// subjectCode sleeps until it is killed: mov eax, SYS_pause; syscall; jmp back.
var subjectCode = []byte{0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7}

// subjectProgram is a static ELF executable of one page that runs subjectCode, see elf(5).
func subjectProgram() []byte {
	const header, segment = 64, 56
	le := binary.LittleEndian
	p := make([]byte, header+segment, header+segment+len(subjectCode))
	copy(p, "\x7fELF\x02\x01\x01")
	le.PutUint16(p[16:], 2)                          // e_type: ET_EXEC
	le.PutUint16(p[18:], 62)                         // e_machine: EM_X86_64
	le.PutUint32(p[20:], 1)                          // e_version
	le.PutUint64(p[24:], subjectBase+header+segment) // e_entry
	le.PutUint64(p[32:], header)                     // e_phoff
	le.PutUint16(p[52:], header)                     // e_ehsize
	le.PutUint16(p[54:], segment)                    // e_phentsize
	le.PutUint16(p[56:], 1)                          // e_phnum
	ph := p[header:]
	le.PutUint32(ph[0:], 1)            // p_type: PT_LOAD
	le.PutUint32(ph[4:], 5)            // p_flags: PF_R | PF_X
	le.PutUint64(ph[16:], subjectBase) // p_vaddr
	le.PutUint64(ph[24:], subjectBase) // p_paddr
	size := uint64(len(p) + len(subjectCode))
	le.PutUint64(ph[32:], size)     // p_filesz
	le.PutUint64(ph[40:], size)     // p_memsz
	le.PutUint64(ph[48:], PageSize) // p_align
	return append(p, subjectCode...)
}

// withSubject runs a test on a child made for it, whose descriptor 0 is /dev/null. The calling goroutine keeps its thread meanwhile, as
// ptrace demands.
func withSubject(test func(pid int) error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	program, err := executableMemory(subjectProgram())
	if err != nil {
		return fmt.Errorf("a program in a memfd: %w", err)
	}
	defer program.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	path := fmt.Sprintf("/proc/self/fd/%d", program.Fd())
	pid, err := syscall.ForkExec(path, []string{"kup-probe"}, &syscall.ProcAttr{
		Files: []uintptr{null.Fd()},
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return fmt.Errorf("executing a memfd: %w", err)
	}
	defer func() {
		// A child that we did not wait for keeps its pid, so it is certainly ours.
		unix.Kill(pid, unix.SIGKILL)
		for {
			if _, status, err := Wait(pid, false); err != nil || status.Exited() || status.Signaled() {
				return
			}
		}
	}()
	if err := awaitMapping(pid, subjectBase); err != nil {
		return err
	}
	return test(pid)
}

// awaitMapping waits until the kernel has mapped a program: ForkExec returns when its execve(2) closes descriptors, which comes before that.
func awaitMapping(pid int, addr uint64) error {
	start := fmt.Appendf(nil, "%08x-", addr)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
		if err != nil || bytes.HasPrefix(maps, start) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("pid %d does not execute its program", pid)
		}
	}
}

// withTracee is withSubject, with the child seized and stopped.
func withTracee(test func(pid int) error) error {
	return withSubject(func(pid int) error {
		if err := PtraceSeize(pid, 0); err != nil {
			return fmt.Errorf("PTRACE_SEIZE: %w", err)
		}
		if err := PtraceInterrupt(pid); err != nil {
			return fmt.Errorf("PTRACE_INTERRUPT: %w", err)
		}
		if _, status, err := Wait(pid, false); err != nil || !status.Stopped() {
			return fmt.Errorf("wait for the stop: status %#x, %v", uint32(status), err)
		}
		return test(pid)
	})
}

// executableMemory returns a memfd that may be executed, also where the sysctl vm.memfd_noexec makes the others not so.
func executableMemory(program []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("kup-probe", unix.MFD_CLOEXEC|MfdExec)
	if err == unix.EINVAL { // before v6.3
		fd, err = unix.MemfdCreate("kup-probe", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "memfd:kup-probe")
	if _, err := f.Write(program); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
