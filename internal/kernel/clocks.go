package kernel

import "golang.org/x/sys/unix"

// ClockReadings are the clocks that a checkpoint notes, ns.
type ClockReadings struct{ Realtime, Monotonic, Boottime int64 }

// Clocks reads them one after the other, in the caller's time namespace.
func Clocks() (c ClockReadings, err error) {
	for clock, into := range map[int32]*int64{unix.CLOCK_REALTIME: &c.Realtime, unix.CLOCK_MONOTONIC: &c.Monotonic, unix.CLOCK_BOOTTIME: &c.Boottime} {
		var ts unix.Timespec
		if err := unix.ClockGettime(clock, &ts); err != nil {
			return c, err
		}
		*into = ts.Nano()
	}
	return c, nil
}

// RlimitCore is RLIMIT_CORE.
const RlimitCore = unix.RLIMIT_CORE
