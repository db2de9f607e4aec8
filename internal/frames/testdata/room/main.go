// Room drives the old kernel's side of package frames inside of a guest, and prints what happens as JSON:
//
//	room hold DIR MB      be quiet, take a slice, and hold it until standard input ends; PATIENCE may be set for it
//	room recover DIR
//	room shift DIR MB PID...	scan the processes, which are stopped, take a slice, and see what that has moved
//	room scan PID...      stop the processes, scan them twice, and compare pages, of a quarter of all runs, with what their frames hold
package main

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"time"

	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/kexec"
	"github.com/kup-project/kup/internal/procfs"
)

type answer struct {
	Error   string
	NoSlice bool // the error matches frames.ErrNoSlice
	Seconds float64

	Blocks kexec.Ranges

	Pages     map[string]uint64 // by kind: small, huge, hugetlb, shared, swapped
	Runs      int
	Same      bool // a second scan has found the same
	Moved     uint64
	Scan      float64  // seconds
	Again     float64  // seconds to find out whether anything has moved
	Compared  uint64   // pages whose contents were compared
	Different []string // that are not what their frames hold

	Before uint64 // pages that were in a slice before it was taken
	After  uint64 // and afterwards
}

func main() {
	var a answer
	began := time.Now()
	finish, err := do(&a, os.Args[1], os.Args[2:])
	a.Seconds = time.Since(began).Seconds()
	if err != nil {
		a.Error, a.NoSlice = err.Error(), errors.Is(err, frames.ErrNoSlice)
	}
	if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
		panic(err)
	}
	if finish != nil {
		if err := finish(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}

func do(a *answer, verb string, args []string) (finish func() error, err error) {
	switch verb {
	case "hold":
		return hold(a, args[0], args[1])
	case "recover":
		return nil, frames.Recover(args[0])
	case "scan":
		return nil, scan(a, args)
	case "shift":
		return nil, shift(a, args[0], args[1], args[2:])
	}
	return nil, fmt.Errorf("unknown verb %q", verb)
}

func hold(a *answer, dir, megabytes string) (func() error, error) {
	mb, err := strconv.ParseUint(megabytes, 10, 64)
	if err != nil {
		return nil, err
	}
	patience := frames.Patience
	if text := os.Getenv("PATIENCE"); text != "" {
		if patience, err = time.ParseDuration(text); err != nil {
			return nil, err
		}
	}
	quiet, err := frames.BeQuiet(dir)
	if err != nil {
		return nil, err
	}
	slice, err := frames.TakeSlice(context.Background(), dir, mb<<20, patience)
	if err != nil {
		return nil, errors.Join(err, quiet.Close())
	}
	a.Blocks = slice.Blocks()
	return func() error {
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		return errors.Join(slice.Close(), quiet.Close())
	}, nil
}

// stopped stops processes; the end of this one lets them go on.
func stopped(pids []string) (processes []frames.Process, err error) {
	for _, text := range pids {
		pid, err := strconv.Atoi(text)
		if err != nil {
			return nil, err
		}
		if err := stop(pid); err != nil {
			return nil, err
		}
		mappings, err := frames.PrivateMappings(pid)
		if err != nil {
			return nil, err
		}
		processes = append(processes, frames.Process{PID: pid, Mappings: mappings})
	}
	return processes, nil
}

func goOn(processes []frames.Process) {
	for _, p := range processes {
		if err := kernel.Kill(p.PID, kernel.SIGCONT); err != nil {
			panic(err)
		}
	}
}

func scan(a *answer, pids []string) error {
	processes, err := stopped(pids)
	if err != nil {
		return err
	}
	defer goOn(processes)
	began := time.Now()
	first, err := frames.Scan(processes)
	if err != nil {
		return err
	}
	a.Scan = time.Since(began).Seconds()
	began = time.Now()
	moved, err := first.Moved()
	a.Again = time.Since(began).Seconds()
	if err != nil {
		return err
	}
	a.Moved = pages(moved)
	second, err := frames.Scan(processes)
	if err != nil {
		return err
	}
	a.Same = reflect.DeepEqual(first.Processes, second.Processes) && reflect.DeepEqual(first.Shared, second.Shared)
	a.count(first)
	return a.compare(first)
}

func pages(moved [][]image.Extent) (n uint64) {
	for _, all := range moved {
		for _, e := range all {
			n += (e.End - e.Start) / kernel.PageSize
		}
	}
	return n
}

func shift(a *answer, dir, megabytes string, pids []string) error {
	processes, err := stopped(pids)
	if err != nil {
		return err
	}
	defer goOn(processes)
	first, err := frames.Scan(processes)
	if err != nil {
		return err
	}
	finish, err := hold(a, dir, megabytes)
	if err != nil {
		return err
	}
	moved, err := first.Moved()
	if err != nil {
		return err
	}
	second, err := frames.Scan(processes)
	if err != nil {
		return err
	}
	a.Moved = pages(moved)
	a.Before, a.After = places(first.Within(a.Blocks)), places(second.Within(a.Blocks))
	a.count(second)
	if err := a.compare(second); err != nil {
		return err
	}
	return finish()
}

// places counts pages, those of several processes for each of them.
func places(v *frames.Inventory) (n uint64) {
	for _, p := range v.Processes {
		for _, r := range p.Runs {
			n += r.Count
		}
	}
	for _, s := range v.Shared {
		n += s.Count * uint64(len(s.Places))
	}
	return n
}

// stop stops a process and waits until it stands.
func stop(pid int) error {
	if err := kernel.Kill(pid, kernel.SIGSTOP); err != nil {
		return err
	}
	for {
		stat, err := procfs.ReadStat(pid)
		if err != nil || stat.State == 'T' {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

func (a *answer) count(v *frames.Inventory) {
	names := map[frames.Kind]string{frames.Small: "small", frames.Huge: "huge", frames.HugeTLB: "hugetlb"}
	a.Pages = map[string]uint64{}
	for _, p := range v.Processes {
		a.Runs += len(p.Runs)
		for _, r := range p.Runs {
			a.Pages[names[r.Kind]] += r.Count
		}
		for _, e := range p.Swapped {
			a.Pages["swapped"] += (e.End - e.Start) / kernel.PageSize
		}
	}
	for _, s := range v.Shared {
		a.Pages["shared"] += s.Count
	}
}

// compare looks at every frame through the kernel's own mapping of all memory.
func (a *answer) compare(v *frames.Inventory) error {
	core, err := openCore()
	if err != nil {
		return err
	}
	for _, p := range v.Processes {
		for i, r := range p.Runs {
			if i%4 != 0 {
				continue
			}
			if err := a.compareRun(core, r.Frame, r.Count, frames.Place{PID: p.PID, Addr: r.Addr}); err != nil {
				return err
			}
		}
	}
	for i, s := range v.Shared {
		if i%4 != 0 {
			continue
		}
		for _, place := range s.Places {
			if err := a.compareRun(core, s.Frame, s.Count, place); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *answer) compareRun(core *memoryCore, frame, count uint64, at frames.Place) error {
	const most = 256
	for ; count > 0; count -= min(count, most) {
		there, here := make([]byte, min(count, most)*kernel.PageSize), make([]byte, min(count, most)*kernel.PageSize)
		if err := kernel.PeekMemory(at.PID, at.Addr, there); err != nil {
			return err
		}
		if err := core.read(frame*kernel.PageSize, here); err != nil {
			return err
		}
		if !bytes.Equal(there, here) {
			a.Different = append(a.Different, fmt.Sprintf("pid %d at %#x, frame %#x", at.PID, at.Addr, frame))
		}
		a.Compared += min(count, most)
		frame += most
		at.Addr += most * kernel.PageSize
	}
	return nil
}

// memoryCore is /proc/kcore.
type memoryCore struct{ parts []*elf.Prog }

func openCore() (*memoryCore, error) {
	f, err := elf.Open("/proc/kcore")
	if err != nil {
		return nil, err
	}
	return &memoryCore{f.Progs}, nil
}

func (c *memoryCore) read(physical uint64, into []byte) error {
	for _, p := range c.parts {
		if p.Type == elf.PT_LOAD && p.Paddr <= physical && physical+uint64(len(into)) <= p.Paddr+p.Filesz && p.Paddr+p.Filesz > p.Paddr {
			_, err := p.ReadAt(into, int64(physical-p.Paddr))
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err
		}
	}
	return fmt.Errorf("/proc/kcore does not have %#x", physical)
}
