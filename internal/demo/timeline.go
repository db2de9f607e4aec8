package demo

import (
	"fmt"
	"time"
)

// printTimeline shows an update from the first application that stopped to the last client that got an answer.
func (s *show) printTimeline(c *change) {
	zero := c.At("freeze")
	line := func(at time.Time, what string) {
		if at.IsZero() {
			s.say("           ?  %s", what)
			return
		}
		s.say("  %8.2f s  %s", at.Sub(zero).Seconds(), what)
	}
	line(c.Asked, "asked for; checks, and the new kernel is loaded, while memcached runs")
	if at := c.At("copied ahead"); !at.IsZero() {
		line(at, "most of the memory is on the disk, memcached still runs")
	}
	line(c.At("frozen"), "frozen")
	line(c.At("captured"), "captured: state and memory are on the disk")
	line(c.At("jump"), "jump")
	line(c.At("init started"), fmt.Sprintf("first user space of Linux %s", c.Release))
	line(c.At("silent"), "packets for its connections are dropped from here on")
	line(c.At("network up"), "network up")
	line(c.At("restored cache"), "restored: memcached goes on")
	line(c.first, "first answer")
	line(c.all, "every connection has had an answer")
	if at := c.At("filled cache"); !at.IsZero() {
		line(at, "all of its memory is back")
	}
	s.say("  The longest gap that a client saw: %.2f s.", c.gap.Seconds())
}
