package object

import (
	"fmt"
	"os"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/tracee"
)

// timerfd handles timerfd_create(2). A timer armed for a moment (TFD_TIMER_ABSTIME) keeps that moment, by the clock as the
// application sees it; every other one goes on with the time that it had left.
var timerfd = &Handler{
	Kind:    image.KindTimerFD,
	Claims:  func(d *Descriptor) bool { return d.Link == "anon_inode:[timerfd]" },
	Check:   checkAlone,
	Capture: captureTimerFD,
	Rebuild: rebuildTimerFD,
	Connect: startTimerFD,
}

func captureTimerFD(_ *Capture, d *Descriptor, f *image.OpenFile) error {
	t := &image.TimerFD{}
	f.Timer = t
	if err := d.value("clockid", "%d", &t.Clock); err != nil {
		return err
	}
	if err := d.value("settime flags", "%o", &t.Flags); err != nil {
		return err
	}
	now, err := kernel.ClockTime(t.Clock)
	if err != nil {
		return fmt.Errorf("%s: clock %d: %w", d, t.Clock, err)
	}
	if t.Time.Value, t.Time.Interval, err = kernel.TimerFDTime(d.File); err != nil {
		return fmt.Errorf("%s: timerfd_gettime: %w", d, err)
	}
	if t.Flags&kernel.TimerAbsolute != 0 && t.Time.Value != 0 {
		shift, err := clockShift(d.PID, t.Clock)
		if err != nil {
			return fmt.Errorf("%s: %w", d, err)
		}
		t.Due = now + shift + t.Time.Value
	}
	// timerfd_gettime has added the periods that were over: so the count is read after it.
	if d.Info, err = procfs.ReadFDInfo(d.PID, d.FD); err != nil {
		return fmt.Errorf("%s: %w", d, err)
	}
	return d.value("ticks", "%d", &t.Ticks)
}

// clockShift is how far a process's clock is ahead of kup's, ns: time namespaces shift clocks.
func clockShift(pid, clock int) (int64, error) {
	theirs, err := procfs.ReadTimeOffsets(pid)
	if err != nil {
		return 0, err
	}
	ours, err := procfs.ReadTimeOffsets(os.Getpid())
	if err != nil {
		return 0, err
	}
	switch clock {
	case kernel.ClockMonotonic:
		return theirs.Monotonic - ours.Monotonic, nil
	case kernel.ClockBoottime, kernel.ClockBoottimeAlarm:
		return theirs.Boottime - ours.Boottime, nil
	}
	return 0, nil
}

func rebuildTimerFD(_ *Rebuild, f *image.OpenFile) (int, error) {
	fd, err := kernel.TimerFD(f.Timer.Clock)
	if err != nil {
		return -1, fmt.Errorf("timerfd_create for clock %d: %w", f.Timer.Clock, err)
	}
	return fd, nil
}

// startTimerFD starts the timer late, so that the time it takes to restore is not counted. The owner does it, in whose time
// namespace the moment is meant.
func startTimerFD(r *Rebuild, f *image.OpenFile, owner *tracee.Seed, fd int) error {
	t := f.Timer
	value, flags := t.Time.Value, 0
	if t.Due != 0 {
		value, flags = t.Due, t.Flags
	}
	const second = 1_000_000_000
	b := tracee.NewBatch(owner)
	spec := b.Words(uint64(t.Time.Interval/second), uint64(t.Time.Interval%second), uint64(value/second), uint64(value%second))
	b.Must("timerfd_settime", kernel.SysTimerfdSettime, fd, flags, spec, 0)
	if err := b.Run(); err != nil {
		return err
	}
	if t.Ticks == 0 {
		return nil
	}
	if err := kernel.SetTimerFDTicks(r.fds[f.ID], t.Ticks); err != nil {
		return fmt.Errorf("%d expiries of the timer not yet read (TFD_IOC_SET_TICKS, needs a kernel with CONFIG_CHECKPOINT_RESTORE): %w", t.Ticks, err)
	}
	return nil
}
