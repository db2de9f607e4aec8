package object

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/refuse"
)

// holders are the descriptors of all processes that are not being checkpointed, by their link.
type holders map[string][]outsider

// outsider is a descriptor of a process outside.
type outsider struct{ pid, fd int }

func (o outsider) String() string {
	comm := "?"
	if stat, err := procfs.ReadStat(o.pid); err == nil {
		comm = stat.Comm
	}
	return fmt.Sprintf("pid %d (%s) as fd %d", o.pid, comm, o.fd)
}

// shareable are the beginnings of links of what matters when an outsider has it too.
var shareable = []string{"pipe:", "anon_inode:[eventfd]", "anon_inode:[timerfd]", "anon_inode:[signalfd]", "anon_inode:[eventpoll]", "socket:", "/"}

// outsiders returns who outside has a descriptor with the same link. It reads the tables of all processes once.
func (c *Capture) outsiders(link string) ([]outsider, error) {
	if c.outside != nil {
		return c.outside[link], nil
	}
	c.outside = holders{}
	pids, err := procfs.Processes()
	if err != nil {
		return nil, err
	}
	self := os.Getpid()
	inside := c.family()
	for _, pid := range pids {
		if inside(pid) || kernel.HasOurTable(pid) && (pid != self || !c.running) {
			continue // kup itself has duplicates once the application is frozen
		}
		numbers, err := procfs.FDs(pid)
		if err != nil {
			continue // ended, or a kernel thread's
		}
		for _, fd := range numbers {
			link, err := kernel.ReadLink(procfs.Path(pid, fmt.Sprintf("fd/%d", fd)))
			if pid == self && strings.HasPrefix(link, "socket:") {
				continue // a duplicate too: sockets have to be asked themselves
			}
			if err == nil && slices.ContainsFunc(shareable, func(s string) bool { return strings.HasPrefix(link, s) }) {
				c.outside[link] = append(c.outside[link], outsider{pid, fd})
			}
		}
	}
	return c.outside[link], nil
}

// family returns a function that tells whether a process belongs to the application, also if it was born after the others were listed.
func (c *Capture) family() func(pid int) bool {
	known := map[int]bool{1: false}
	for _, pid := range c.pids {
		known[pid] = true
	}
	var inside func(pid int) bool
	inside = func(pid int) bool {
		is, seen := known[pid]
		if seen {
			return is
		}
		known[pid] = false
		if stat, err := procfs.ReadStat(pid); err == nil && stat.PPID > 0 {
			known[pid] = inside(stat.PPID)
		}
		return known[pid]
	}
	return inside
}

// checkAlone refuses an object of which a process outside has the same open file description: the two would part. It is looked
// for while the application runs; no descriptor gets out of a process by itself afterwards.
func checkAlone(c *Capture, d *Descriptor) error {
	if !c.running {
		return nil
	}
	others, err := c.outsiders(d.Link)
	if err != nil {
		return err
	}
	for _, o := range others {
		if order, err := kernel.CompareFiles(d.PID, d.FD, o.pid, o.fd); err == nil && order == 0 {
			return refuse.Errorf("%s (%s) is shared with %s, which is not part of the application; close it there, or checkpoint both together", d, d.Link, o)
		}
	}
	return nil
}
