package restore

import (
	"fmt"

	"github.com/kup-project/kup/internal/image"
)

// outside stands for the session or process group of whoever restores: processes whose own was led by a process outside of the
// application (a shell) come back in kup's.
const outside = 0

// node is a process to be born.
type node struct {
	process  *image.Process
	children []*node
	born     int // the session it must be born in: a session ID, or outside
}

// plan is the tree of births.
type plan struct {
	roots []*node
	nodes map[int]*node
	// lostSessions and lostGroups are led by processes that have ended: their IDs must be taken for a moment.
	lostSessions map[int]bool
	lostGroups   map[int]bool
}

// newPlan orders the processes of an image.
func newPlan(st *image.State) (*plan, error) {
	p := &plan{nodes: map[int]*node{}, lostSessions: map[int]bool{}, lostGroups: map[int]bool{}}
	for i := range st.Processes {
		proc := &st.Processes[i]
		n := &node{process: proc}
		p.nodes[proc.PID] = n
		if parent, ok := p.nodes[proc.PPID]; ok {
			parent.children = append(parent.children, n)
		} else {
			p.roots = append(p.roots, n)
		}
	}
	foreign := map[int]bool{}
	for _, root := range p.roots {
		foreign[root.process.SID] = p.nodes[root.process.SID] == nil
		foreign[root.process.PGID] = p.nodes[root.process.PGID] == nil
	}
	for _, n := range p.nodes {
		proc := n.process
		switch {
		case foreign[proc.SID]:
			proc.SID = outside
		case p.nodes[proc.SID] == nil:
			p.lostSessions[proc.SID] = true
		}
		switch {
		case foreign[proc.PGID]:
			proc.PGID = outside
		case p.nodes[proc.PGID] == nil && !p.lostSessions[proc.PGID]:
			p.lostGroups[proc.PGID] = true
		}
	}
	for _, root := range p.roots {
		if err := root.settleBirth(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// settleBirth finds the session that a process must be born in. Sessions are inherited, and left only by setsid(2), so a leader
// must have been born in the session of those children that it had before.
func (n *node) settleBirth() error {
	n.born = n.process.SID
	early := -1
	for _, c := range n.children {
		if err := c.settleBirth(); err != nil {
			return err
		}
		if c.flexible() || c.born == n.process.SID {
			continue
		}
		if early != -1 && early != c.born {
			return fmt.Errorf("the children of pid %d are in sessions %d and %d, which it cannot both have been in", n.process.PID, early, c.born)
		}
		early = c.born
	}
	if n.leads() && early != -1 {
		n.born = early
	}
	if !n.leads() && early != -1 && early != n.process.SID {
		return fmt.Errorf("pid %d is in session %d, but has a child that was born in session %d", n.process.PID, n.process.SID, early)
	}
	return nil
}

// leads reports whether the process leads a session.
func (n *node) leads() bool { return n.process.SID == n.process.PID }

// flexible reports whether it does not matter in which session the process is born.
func (n *node) flexible() bool { return n.leads() && n.born == n.process.SID }

// early reports whether a child must be born before its parent, a session leader, calls setsid(2).
func (n *node) early(c *node) bool { return n.leads() && !c.flexible() && c.born != n.process.SID }
