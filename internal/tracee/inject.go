package tracee

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/kup-project/kup/internal/kernel"
)

const (
	pageSize    = 4096
	maxArea     = 16 << 20 // bytes
	cleanupSize = pageSize // the least room for the clean-up table, at the end of the area
)

// Injection makes a frozen thread execute tables of system calls, and heals itself: if kup dies, at any instant, the thread executes
// what Cleanup armed, unmaps the area, puts back its signal mask and registers, and goes on as if nothing had happened. See the drawing in
// the package comment.
//
// The system calls must not sleep, change the thread's signal mask or the disposition of signals, or replace its memory. A process has room for at least one open
// injection, and as a rule for more, of different threads.
type Injection struct {
	task   *Task
	slot   int
	record record
	size   int // of the area's part for tables
	room   int // of the clean-up table: half of that, at the end of the area
}

// Inject opens an injection into a frozen thread, with an area of at least size bytes. The thread's own state is untouched at any
// time, memory below its stack pointer included.
func (t *Task) Inject(size int) (*Injection, error) {
	opened, err := InjectAll([]*Task{t}, func(*Task) int { return size })
	if err != nil {
		return nil, err
	}
	return opened[0], nil
}

// InjectAll is Inject for several threads, which enter at the same time. After an error none is open.
func InjectAll(tasks []*Task, size func(*Task) int) ([]*Injection, error) {
	all := make([]*Injection, 0, len(tasks))
	for _, t := range tasks {
		all = append(all, &Injection{task: t})
	}
	err := beginAll(all, func(i *Injection) error { return i.open(size(i.task)) }, (*Injection).entered)
	if err != nil {
		return nil, errors.Join(err, CloseAll(all))
	}
	return all, nil
}

// Room is how many further injections can be open in the process at the same time.
func (p *Process) Room() (int, error) {
	if err := p.prepare(); err != nil {
		return 0, err
	}
	return p.vdso.room(), nil
}

// open sends the thread on its way to the first stop, with an area for tables of so many bytes.
func (i *Injection) open(size int) error {
	i.room = max(cleanupSize, size/2)
	length := (areaTable + size + i.room + pageSize - 1) &^ (pageSize - 1)
	i.size = length - areaTable - i.room
	return i.enter(length, noQuestions)
}

// enter sends the thread into the blob, with an area of so many bytes.
func (i *Injection) enter(length int, questions int) error {
	t := i.task
	p := t.process
	switch {
	case t.Exited:
		return fmt.Errorf("%v has exited: nothing can be executed in it", t)
	case t.injection != nil:
		return fmt.Errorf("%v: an injection is open already", t)
	}
	if err := p.prepare(); err != nil {
		return err
	}
	sig, err := t.stopSignal()
	if err != nil {
		return err
	}
	if i.slot, err = p.vdso.take(i); err != nil {
		return fmt.Errorf("%v: %w", t, err)
	}
	if err := i.send(length, sig, questions); err != nil {
		p.vdso.records[i.slot] = nil
		return err
	}
	return nil
}

func (i *Injection) send(length int, sig kernel.Signal, questions int) error {
	t := i.task
	addr, err := t.process.areaAddr(i.slot, uint64(length))
	if err != nil {
		return err
	}
	i.record = record{addr: t.process.vdso.record(i.slot), area: addr, length: uint64(length), tid: t.TID, signal: sig,
		regs: t.Regs, mask: t.SigMask, caught: t.process.caught}
	if _, err := t.process.mem.WriteAt(i.record.bytes(), int64(i.record.addr)); err != nil {
		return fmt.Errorf("%v: write to the [vdso] at %#x: %w", t, i.record.addr, err)
	}
	crashPoint("record written")
	regs := i.record.enter(t.process.vdso.blob(), questions)
	// First the registers: from then on the thread finds its way home, which restores the mask too.
	if err := kernel.PtraceSetRegs(t.TID, &regs); err != nil {
		return i.died(err)
	}
	crashPoint("registers set")
	if err := kernel.PtraceSetSigMask(t.TID, ^signalBit(sig)); err != nil {
		return i.died(err)
	}
	crashPoint("mask set")
	return i.resume()
}

// entered waits for the first stop.
func (i *Injection) entered() error {
	t := i.task
	err := i.await()
	if err == nil {
		crashPoint("area mapped")
		var regs kernel.Regs
		if regs, err = kernel.PtraceGetRegs(t.TID); err != nil {
			err = i.died(err)
		} else if regs.R13 != i.record.area {
			err = errors.Join(i.unmapped(kernel.Errno(-int64(regs.R13))), i.goHome())
		}
	}
	if err != nil {
		t.process.vdso.records[i.slot] = nil
		return err
	}
	t.injection = i
	return nil
}

func (i *Injection) unmapped(errno kernel.Errno) error {
	return fmt.Errorf("%v: map %d bytes in it: %w; raise its limits for address space and locked memory, or the system's for memory",
		i.task, i.record.length, errno)
}

// resume lets the thread run.
func (i *Injection) resume() error {
	if err := kernel.PtraceCont(i.task.TID, 0); err != nil {
		return i.died(err)
	}
	crashPoint("running")
	return nil
}

// await waits for the next stop of a thread that runs.
func (i *Injection) await() error {
	t := i.task
	for {
		_, status, err := kernel.Wait(t.TID, false)
		if err != nil {
			return fmt.Errorf("%v: wait: %w", t, err)
		}
		if status.Exited() || status.Signaled() {
			t.stopped = false
			return fmt.Errorf("%v was killed while kup was working on it (wait status %#x)", t, uint32(status))
		}
		sig, event := status.StopSignal(), int(status)>>16
		switch {
		case event != 0:
			// A stopped process reports more than once that it is.
		case sig == i.record.signal:
			i.holdForeign()
			return nil
		case sig == kernel.SIGSTOP:
			t.process.held = true // it cannot be blocked; it is sent again at the end
		default:
			return fmt.Errorf("%v: unexpected %v while kup was working on it", t, sig)
		}
		if err := i.resume(); err != nil {
			return err
		}
	}
}

// holdForeign notes a signal that is not ours but would be pending now if we had not unblocked it.
func (i *Injection) holdForeign() {
	const tkilled = -6 // SI_TKILL
	t := i.task
	if t.SigMask&signalBit(i.record.signal) == 0 {
		return // it would have been ignored
	}
	info, err := kernel.PtraceGetSigInfo(t.TID)
	if err != nil {
		return
	}
	code, sender := int32(binary.LittleEndian.Uint32(info[8:])), int(binary.LittleEndian.Uint32(info[16:]))
	if code != tkilled || sender != t.PID {
		t.held |= signalBit(i.record.signal)
	}
}

func (i *Injection) died(err error) error {
	if errors.Is(err, kernel.ESRCH) {
		return fmt.Errorf("%v was killed while kup was working on it: %w", i.task, err)
	}
	return fmt.Errorf("%v: %w", i.task, err)
}

// PID is the process that executes the calls.
func (i *Injection) PID() int { return i.task.PID }

// Task is the thread that executes the calls.
func (i *Injection) Task() *Task { return i.task }

// Area is where tables stand.
func (i *Injection) Area() (addr uint64, size int) { return i.record.area + areaTable, i.size }

// Extent is the whole of what the injection has mapped in the target, which is not the target's own.
func (i *Injection) Extent() (addr, size uint64) { return i.record.area, uint64(i.record.length) }

// Begin starts to execute a table, see Remote. If kup dies after that, the thread executes it to its end and then goes home.
func (i *Injection) Begin(at uint64, mem []byte, count int) error {
	t := i.task
	if t.injection != i {
		return fmt.Errorf("%v: the injection is closed", t)
	}
	if err := kernel.WriteMemory(t.TID, at, mem); err != nil {
		return fmt.Errorf("%v: %w", t, err)
	}
	crashPoint("table written")
	if err := i.poke(areaCount, uint64(count)); err != nil {
		return err
	}
	crashPoint("batch ready")
	return i.resume()
}

// End waits until a table is executed, see Remote.
func (i *Injection) End(at uint64, mem []byte) error {
	t := i.task
	head := areaTable - areaCount
	result := make([]byte, head+len(mem))
	for {
		if err := i.await(); err != nil {
			return err
		}
		crashPoint("batch executed")
		if err := kernel.ReadMemory(t.TID, i.record.area+areaCount, result); err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
		if binary.LittleEndian.Uint64(result) == 0 {
			copy(mem, result[head:])
			return nil
		}
		// The stop came from somebody else's signal.
		if err := i.resume(); err != nil {
			return err
		}
	}
}

func (i *Injection) poke(offset int, word uint64) error {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], word)
	if err := kernel.WriteMemory(i.task.TID, i.record.area+uint64(offset), b[:]); err != nil {
		return fmt.Errorf("%v: %w", i.task, err)
	}
	return nil
}

// Cleanup returns an empty batch. Its Run arms the calls instead of executing them, and replaces those armed before: the thread executes them
// at Close, or by itself if kup dies. Arm what undoes a batch before that batch, naming descriptors and addresses that are still free: undoing what
// has not happened then fails harmlessly. There is room for about fifty calls, or more in a large area: half its size.
func (i *Injection) Cleanup() *Batch { return NewBatch(&cleanup{i}) }

// CleanupArgument is where an argument of an armed call stands, both counted from 0. A call can store its result there (Result.StoreAt), so
// that what it makes is undone from the first instant.
func (i *Injection) CleanupArgument(call, argument int) uint64 {
	addr, _ := (&cleanup{i}).Area()
	return addr + uint64(chainSlot{call, argument + 1}.offset())
}

type cleanup struct{ injection *Injection }

func (c *cleanup) PID() int { return c.injection.PID() }

func (c *cleanup) Area() (addr uint64, size int) {
	return c.injection.record.area + uint64(c.offset()), c.injection.room
}

func (c *cleanup) End(uint64, []byte) error { return nil }

func (c *cleanup) offset() int { return int(c.injection.record.length) - c.injection.room }

func (c *cleanup) Begin(at uint64, mem []byte, count int) error {
	i := c.injection
	if err := i.poke(areaCleanN, 0); err != nil {
		return err
	}
	if err := kernel.WriteMemory(i.task.TID, at, mem); err != nil {
		return fmt.Errorf("%v: %w", i.task, err)
	}
	if err := i.poke(areaCleanAt, uint64(c.offset())); err != nil {
		return err
	}
	crashPoint("clean-up written")
	if err := i.poke(areaCleanN, uint64(count)); err != nil {
		return err
	}
	crashPoint("clean-up armed")
	return nil
}

// Close executes the clean-up, removes the area and puts the thread back to where it was frozen.
func (i *Injection) Close() error { return CloseAll([]*Injection{i}) }

// CloseAll is Close for injections into several threads, which go home at the same time. Those that are not open are left out.
func CloseAll(all []*Injection) error {
	open := slices.DeleteFunc(slices.Clone(all), func(i *Injection) bool { return i.task.injection != i })
	var errs []error
	for len(open) > 0 {
		n := 0
		errs = append(errs, beginAll(open, func(i *Injection) error {
			n++
			i.task.injection = nil
			return i.resume()
		}, (*Injection).left))
		open = open[n:] // behind one that failed
	}
	return errors.Join(errs...)
}

// left waits for the last stop.
func (i *Injection) left() error {
	t := i.task
	for home := t.process.vdso.blob() + blobHome; ; {
		if err := i.await(); err != nil {
			return err
		}
		regs, err := kernel.PtraceGetRegs(t.TID)
		if err != nil {
			return i.died(err)
		}
		if regs.Rip == home {
			break
		}
		if err := i.resume(); err != nil {
			return err
		}
	}
	crashPoint("area gone")
	if err := i.goHome(); err != nil {
		return err
	}
	t.process.vdso.records[i.slot] = nil
	return nil
}

// goHome puts back the thread's own mask and registers, in this order: with its own registers only, it could not restore the
// mask any more.
func (i *Injection) goHome() error {
	t := i.task
	if err := kernel.PtraceSetSigMask(t.TID, t.SigMask); err != nil {
		return i.died(err)
	}
	crashPoint("mask put back")
	if err := kernel.PtraceSetRegs(t.TID, &t.Regs); err != nil {
		return i.died(err)
	}
	t.moved = false
	crashPoint("registers put back")
	return nil
}
