package kexec

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/kup-project/kup/internal/kernel"
)

// Check does all of Load but the last step: what it accepts can be loaded, barring changes in between. It changes nothing.
// The error joins everything that stands in the way, each a sentence with a remedy; errors.Is finds the sentinels of this package in it.
func Check(opts Options) (*Plan, error) {
	machineErr := CheckMachine()
	plan, err := prepare(opts)
	if err := errors.Join(machineErr, err); err != nil {
		return nil, err
	}
	return plan, nil
}

// prepare reads the files and places them in the memory of this machine.
func prepare(opts Options) (*Plan, error) {
	room, err := readRoom()
	if err != nil {
		return nil, err
	}
	im, imageErr := Open(opts.Kernel)
	initrd, initrdErr := readInitrd(opts.Initrd, room.available)
	memory, memoryErr := ReadMemoryMap()
	in, inheritedErr := readInherited()
	if err := errors.Join(imageErr, initrdErr, memoryErr, inheritedErr); err != nil {
		return nil, err
	}
	if err := errors.Join(checkFit(im), checkCmdLine(opts.CmdLine, im.header.cmdLineSize)); err != nil {
		return nil, err
	}

	plan := &Plan{Version: im.Version, Banner: im.Banner}
	program, err := plan.choose(im, opts.Route)
	if err != nil {
		return nil, err
	}
	seed := make([]byte, rngSeedSize)
	rand.Read(seed)
	plan.Route = program.route
	plan.Segments, plan.Entry, err = place(&cargo{
		header: im.header, program: program, initrd: initrd, cmdLine: opts.CmdLine, seed: seed, memory: memory, inherited: in,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", opts.Kernel, err)
	}
	return plan, room.check(plan.Segments)
}

// choose decides for the route.
func (p *Plan) choose(im *Image, wanted Route) (*program, error) {
	if wanted == RouteBzImage {
		return im.packed(), nil
	}
	program, err := im.unpacked()
	if errors.Is(err, errUnknownCompression) && wanted == "" {
		p.Notes = append(p.Notes, fmt.Sprintf("%s is packed in a way that only its own decompressor understands: "+
			"the switch takes longer, and the kernel chooses its place in memory by itself", im.Path))
		return im.packed(), nil
	}
	return program, err
}

// readInitrd reads the initrd. available is the free memory, in bytes: an initrd lies there twice, here and in the running kernel's keeping.
func readInitrd(path string, available uint64) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadInitrd, err)
	}
	if !info.Mode().IsRegular() || info.Size() == 0 {
		return nil, fmt.Errorf("%w: %s is empty or no file", ErrBadInitrd, path)
	}
	if uint64(info.Size()) > available/2 {
		return nil, fmt.Errorf("%w: the initrd %s has %d MiB, more than half of the %d MiB of available memory; use a smaller one",
			ErrNoMemory, path, info.Size()>>20, available>>20)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadInitrd, err)
	}
	return data, nil
}

func checkCmdLine(line string, limit uint64) error {
	if uint64(len(line)) > limit {
		return fmt.Errorf("%w: it has %d bytes, but the kernel takes %d", ErrCmdLineTooLong, len(line), limit)
	}
	if strings.ContainsAny(line, "\x00\n") {
		return fmt.Errorf("kernel command line %q: it contains a line end or a 0 byte", line)
	}
	return nil
}

// checkFit tells whether the kernel can be started from the state that this machine is in.
func checkFit(im *Image) error {
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return err
	}
	// la57 is listed only where the running kernel uses it, and a kernel entered in 64-bit mode cannot turn it off.
	if hasFlag(string(cpuinfo), "la57") && im.header.xLoadFlags&xlf5LevelEnabled == 0 {
		return fmt.Errorf("%s: %w: it cannot run with five levels of page tables, which the running kernel uses; boot the running kernel with no5lvl",
			im.Path, ErrBadKernel)
	}
	return nil
}

// hasFlag tells whether the first CPU of a /proc/cpuinfo has a flag.
func hasFlag(cpuinfo, flag string) bool {
	for line := range strings.Lines(cpuinfo) {
		name, flags, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) == "flags" {
			return strings.Contains(" "+strings.TrimSpace(flags)+" ", " "+flag+" ")
		}
	}
	return false
}

// room is how much memory the running kernel has, in bytes.
type room struct {
	total     uint64
	available uint64 // what can be had without swapping
}

func readRoom() (room, error) {
	meminfo, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return room{}, err
	}
	return parseRoom(string(meminfo))
}

func parseRoom(meminfo string) (r room, err error) {
	if r.total, err = meminfoField(meminfo, "MemTotal"); err != nil {
		return r, err
	}
	r.available, err = meminfoField(meminfo, "MemAvailable")
	return r, err
}

// meminfoField returns a field of /proc/meminfo in bytes.
func meminfoField(meminfo, name string) (uint64, error) {
	for line := range strings.Lines(meminfo) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kb, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/meminfo has no %s", name)
}

// check tells whether the running kernel can hold the segments until the jump.
func (r room) check(segments []Segment) error {
	var need uint64
	for _, s := range segments {
		need += s.Size()
	}
	// kernel/kexec_core.c, sanity_check_segment_list, refuses more than half of the memory.
	if need > r.total/2 {
		return fmt.Errorf("%w: loading it takes %d MiB, and the running kernel gives at most half of its %d MiB; use a smaller initrd",
			ErrNoMemory, need>>20, r.total>>20)
	}
	if need > r.available {
		return fmt.Errorf("%w: loading it takes %d MiB, but %d MiB are available; free memory or use a smaller initrd",
			ErrNoMemory, need>>20, r.available>>20)
	}
	return nil
}

const (
	loadedFile    = "/sys/kernel/kexec_loaded"
	disabledFile  = "/proc/sys/kernel/kexec_load_disabled"
	loadLimitFile = "/proc/sys/kernel/kexec_load_limit_reboot"
	lockdownFile  = "/sys/kernel/security/lockdown"

	capSysBoot = 22 // include/uapi/linux/capability.h

	// initPidNamespace is /proc/self/ns/pid in the first pid namespace: PROC_PID_INIT_INO of include/linux/proc_ns.h.
	initPidNamespace = "pid:[4026531836]"
)

// CheckMachine tells whether the running kernel lets this process load and start another one, whichever. It changes nothing.
func CheckMachine() error {
	if _, err := os.Stat(loadedFile); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: it was built without CONFIG_KEXEC; boot a kernel that has it", ErrNoKexec)
	}
	if err := checkSysctls(); err != nil {
		return err
	}
	if mode, err := readTrimmed(lockdownFile); err == nil && lockedDown(mode) {
		return fmt.Errorf("%w (%s: %s): it starts signed kernels only, by kexec_file_load, which KUP cannot use; "+
			"turn Secure Boot off or boot without lockdown=", ErrLockdown, lockdownFile, mode)
	}
	if ns, err := os.Readlink("/proc/self/ns/pid"); err == nil && ns != initPidNamespace {
		return fmt.Errorf("%w: this is a container (its pid namespace is not the machine's), and only the machine itself can change its kernel; run kup there", ErrPermission)
	}
	return checkPermission()
}

func checkSysctls() error {
	if text, err := readTrimmed(disabledFile); err == nil && text != "0" {
		return fmt.Errorf("%w: the sysctl kernel.kexec_load_disabled is set, and only a reboot resets it", ErrDisabled)
	}
	if text, err := readTrimmed(loadLimitFile); err == nil && text == "0" {
		return fmt.Errorf("%w: the sysctl kernel.kexec_load_limit_reboot allows no more loading until a reboot", ErrDisabled)
	}
	return nil
}

func checkPermission() error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	if !hasCapability(string(status), capSysBoot) {
		return fmt.Errorf("%w: CAP_SYS_BOOT is missing; run as root", ErrPermission)
	}
	if text, err := readTrimmed(loadLimitFile); err == nil && text != "-1" {
		return nil // asking the kernel would use up one load
	}
	err = explain(kernel.KexecPermitted())
	switch {
	case errors.Is(err, ErrNoKexec):
		return fmt.Errorf("%w; it was built without CONFIG_KEXEC, or a seccomp filter hides it", err)
	case errors.Is(err, ErrPermission):
		return fmt.Errorf("%w; a security module or a seccomp filter forbids kexec_load, see the kernel log", err)
	}
	return err
}

// lockedDown reads "none [integrity] confidentiality", where the brackets mark what is in force.
func lockedDown(mode string) bool {
	return strings.Contains(mode, "[") && !strings.Contains(mode, "[none]")
}

// hasCapability tells whether a /proc/PID/status has a capability in its effective set.
func hasCapability(status string, bit int) bool {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "CapEff:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(rest), 16, 64)
			return err == nil && set>>bit&1 == 1
		}
	}
	return false
}
