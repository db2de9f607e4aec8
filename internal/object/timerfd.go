package object

import (
	"fmt"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/tracee"
)

// timerfd handles timerfd_create(2). A timer goes on with the time that it had left, except one for a given moment of
// CLOCK_REALTIME: that moment stays.
var timerfd = &Handler{
	Kind:    image.KindTimerFD,
	Claims:  func(d *Descriptor) bool { return d.Link == "anon_inode:[timerfd]" },
	Check:   checkAlone,
	Capture: captureTimerFD,
	Rebuild: rebuildTimerFD,
	Connect: armTimerFD,
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
	now, err := kernel.ClockTime(kernel.ClockRealtime)
	if err != nil {
		return err
	}
	if t.Time.Value, t.Time.Interval, err = kernel.TimerFDTime(d.File); err != nil {
		return fmt.Errorf("%s: timerfd_gettime: %w", d, err)
	}
	if wallClock(t) && t.Time.Value != 0 {
		t.Due = now + t.Time.Value
	}
	// timerfd_gettime has added the periods that were over: so the count is read after it.
	if d.Info, err = procfs.ReadFDInfo(d.PID, d.FD); err != nil {
		return fmt.Errorf("%s: %w", d, err)
	}
	return d.value("ticks", "%d", &t.Ticks)
}

// wallClock reports whether a timer was armed for a moment of CLOCK_REALTIME.
func wallClock(t *image.TimerFD) bool {
	return t.Flags&kernel.TimerAbsolute != 0 && (t.Clock == kernel.ClockRealtime || t.Clock == kernel.ClockRealtimeAlarm)
}

func rebuildTimerFD(_ *Rebuild, f *image.OpenFile) (int, error) {
	fd, err := kernel.TimerFD(f.Timer.Clock)
	if err != nil {
		return -1, fmt.Errorf("timerfd_create for clock %d: %w", f.Timer.Clock, err)
	}
	return fd, nil
}

// armTimerFD starts the timer late, so that the time it takes to restore is not counted.
func armTimerFD(r *Rebuild, f *image.OpenFile, _ *tracee.Seed, _ int) error { return r.startTimer(f) }

func (r *Rebuild) startTimer(f *image.OpenFile) error {
	t, fd := f.Timer, r.fds[f.ID]
	value, flags := t.Time.Value, t.Flags&^(kernel.TimerAbsolute|kernel.TimerCancelOnSet)
	if t.Due != 0 {
		value, flags = t.Due, t.Flags
	}
	if err := kernel.SetTimerFD(fd, flags, value, t.Time.Interval); err != nil {
		return fmt.Errorf("timerfd_settime: %w", err)
	}
	if t.Ticks == 0 {
		return nil
	}
	if err := kernel.SetTimerFDTicks(fd, t.Ticks); err != nil {
		return fmt.Errorf("%d expiries of the timer not yet read (TFD_IOC_SET_TICKS, needs a kernel with CONFIG_CHECKPOINT_RESTORE): %w", t.Ticks, err)
	}
	return nil
}
