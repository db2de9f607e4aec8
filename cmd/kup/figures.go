package main

import (
	"fmt"

	"github.com/kup-project/kup"
)

// say prints a line for people on standard error, unless the output is data.
func (c *command) say(format string, args ...any) {
	if !c.json {
		fmt.Fprintf(c.stderr, "kup: "+format+"\n", args...)
	}
}

// tellCheckpoint says how long a checkpoint took, and where the time went.
func (c *command) tellCheckpoint(r *kup.Checkpointed) {
	c.say("%d processes, %d threads: frozen for %v of %v; %s stored, %s skipped",
		r.Processes, r.Threads, r.Frozen, r.Total, size(uint64(r.Bytes)), size(uint64(r.Skipped)))
	if p := r.Precopy; p != nil {
		c.say("pre-copy by %s: %d rounds, %s; %s left for the freeze", p.Backend, len(p.Rounds), p.Ended, size(uint64(p.Left)))
		for i, round := range p.Rounds {
			if c.verbose {
				c.say("round %d: %d pages in %v, frozen for %v, %s/s written", i+1, round.Pages, round.Time, round.Frozen, size(uint64(round.PerSec)))
			}
		}
	}
	if f := r.Fork; f != nil {
		c.say("forked: %s copied while the application ran on", size(uint64(f.Bytes)))
		for _, p := range f.InFreeze {
			c.say("pid %d was copied in the freeze: %s", p.PID, p.Why)
		}
	}
	if c.verbose {
		c.say("steps: %v", r.Steps)
	}
}

// tellRestore is tellCheckpoint for a restore.
func (c *command) tellRestore(r *kup.Restored) {
	if r.Pages != nil {
		c.say("running after %v; %s of %s are still to come, from pid %d", r.Total, size(uint64(r.Pages.Left)), size(uint64(r.Bytes)), r.Pages.Server)
	} else {
		c.say("running after %v with all of %s", r.Total, size(uint64(r.Bytes)))
	}
	if c.verbose {
		c.say("steps: %v", r.Steps)
	}
}
