package kexec

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
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
	im, imageErr := opts.open()
	initrd, initrdErr := readInitrd(opts.Initrd, room.available)
	memory, memoryErr := ReadMemoryMap()
	in, inheritedErr := readInherited()
	if err := errors.Join(imageErr, initrdErr, memoryErr, inheritedErr); err != nil {
		return nil, err
	}
	if err := errors.Join(checkFit(im), checkCmdLine(opts.CmdLine, im.header.cmdLineSize)); err != nil {
		return nil, err
	}

	memory = memory.Free(opts.Free).Keep(opts.Keep, opts.Unit)
	if err := checkReserve(opts.Reserve, memory); err != nil {
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
		header: im.header, program: program, initrd: initrd, cmdLine: opts.CmdLine, seed: seed, memory: memory, reserve: opts.Reserve, inherited: in,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", opts.Kernel, err)
	}
	return plan, checkRoom(plan.Segments)
}

func (o *Options) open() (*Image, error) {
	if o.Image != nil {
		return o.Image, nil
	}
	return Open(o.Kernel)
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
	// A TDX guest's other CPUs cannot be taken back from the running kernel, and its memory must be accepted from the host again.
	if hasFlag(string(cpuinfo), "tdx_guest") {
		return fmt.Errorf("%w: it is a confidential guest (TDX), which cannot be handed from kernel to kernel", ErrUnsupportedMachine)
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

// TotalMemory is the memory of the running kernel, bytes.
func TotalMemory() (uint64, error) {
	r, err := readRoom()
	return r.total, err
}

// AvailableMemory is what the running kernel can still give, bytes.
func AvailableMemory() (uint64, error) {
	r, err := readRoom()
	return r.available, err
}

// SharedMemory is the memory of the running system that is in tmpfs and the like, bytes.
func SharedMemory() (uint64, error) {
	meminfo, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	return meminfoField(string(meminfo), "Shmem")
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

// checkRoom makes sure that loading does not take the last memory: the kernel would rather end an application than refuse.
func checkRoom(segments []Segment) error {
	debug.FreeOSMemory() // what it took to prepare them
	room, err := readRoom()
	if err != nil {
		return err
	}
	room.available -= min(room.available, spareRoom)
	return room.check(segments)
}

// spareRoom is what is to stay available when a kernel is loaded, bytes.
const spareRoom = 64 << 20

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
