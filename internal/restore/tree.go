package restore

import (
	"fmt"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/tracee"
)

// tree gives birth to the processes of a plan.
type tree struct {
	plan    *plan
	nursery *tracee.Seed // parentless seeds are its siblings: children of kup
	seeds   map[int]*tracee.Seed
	// sessions holds, for each session that a leader has left behind, the stand-in who leads it until all are born, and whose
	// child it is.
	stand []standIn
}

// standIn is a process that only exists so that its ID names a session or process group.
type standIn struct {
	seed   *tracee.Seed
	parent *tracee.Seed // who must wait for it; nil for kup
}

// birth makes all processes, puts them into their process groups, and lets zombies die.
func (t *tree) birth() error {
	for _, root := range t.plan.roots {
		if err := t.bear(root, nil); err != nil {
			return err
		}
	}
	if err := t.group(); err != nil {
		return err
	}
	if err := t.dismiss(); err != nil {
		return err
	}
	return t.bury()
}

// bear makes a process, its session, and its children.
func (t *tree) bear(n *node, parent *tracee.Seed) error {
	from, flags := parent, uint64(0)
	if parent == nil {
		from, flags = t.nursery, kernel.CloneParent
	}
	// In the session of a leader that has ended, or has left no process of that session but those to be born, a stand-in leads.
	if t.plan.lostSessions[n.born] && (parent == nil || t.bornIn(n) != n.born) {
		lead, err := t.standInFor(n.born, parent)
		if err != nil {
			return err
		}
		from, flags = lead, kernel.CloneParent
	}
	signal := n.process.ExitSignal
	if flags&kernel.CloneParent != 0 {
		signal = 0 // the kernel takes that of the process that clones
	}
	seed, err := from.Clone(tracee.CloneOptions{ID: n.process.PID, Flags: flags, Signal: signal})
	if err != nil {
		return taken(fmt.Errorf("make pid %d (%s): %w", n.process.PID, n.process.Comm, err))
	}
	t.seeds[n.process.PID] = seed
	for _, c := range n.children {
		if n.early(c) {
			if err := t.bear(c, seed); err != nil {
				return err
			}
		}
	}
	if n.leads() {
		if err := call(seed, "lead a session", kernel.SysSetsid); err != nil {
			return err
		}
	}
	for _, c := range n.children {
		if !n.early(c) {
			if err := t.bear(c, seed); err != nil {
				return err
			}
		}
	}
	return nil
}

// bornIn is the session that the parent of a node is in when it bears it.
func (t *tree) bornIn(n *node) int {
	parent := t.plan.nodes[n.process.PPID]
	if parent.early(n) {
		return parent.born
	}
	return parent.process.SID
}

// standInFor makes a process with the ID of a session's leader, which leads that session.
func (t *tree) standInFor(sid int, parent *tracee.Seed) (*tracee.Seed, error) {
	for _, s := range t.stand {
		if s.seed.PID() == sid {
			return s.seed, nil
		}
	}
	seed, err := t.makeStandIn(sid, parent)
	if err != nil {
		return nil, taken(fmt.Errorf("make a stand-in for session leader %d, which has ended: %w", sid, err))
	}
	return seed, call(seed, "lead a session", kernel.SysSetsid)
}

func (t *tree) makeStandIn(id int, parent *tracee.Seed) (*tracee.Seed, error) {
	o := tracee.CloneOptions{ID: id, Signal: int(kernel.SIGCHLD)}
	from := parent
	if parent == nil {
		from, o.Flags, o.Signal = t.nursery, kernel.CloneParent, 0
	}
	seed, err := from.Clone(o)
	if err == nil {
		t.stand = append(t.stand, standIn{seed, parent})
	}
	return seed, err
}

// group puts every process into its process group: leaders first. Those whose group was outside of the application form one with
// its root, so that signals for kup's own group do not reach them.
func (t *tree) group() error {
	for id := range t.plan.lostGroups {
		member := t.memberOf(id)
		seed, err := t.makeStandIn(id, t.seeds[member])
		if err != nil {
			return taken(fmt.Errorf("make a stand-in for process group leader %d, which has ended: %w", id, err))
		}
		if err := call(seed, "lead a process group", kernel.SysSetpgid, 0, 0); err != nil {
			return err
		}
	}
	for _, root := range t.plan.roots {
		if root.process.PGID == outside && !root.leads() {
			if err := call(t.seeds[root.process.PID], "lead a process group", kernel.SysSetpgid, 0, 0); err != nil {
				return err
			}
		}
	}
	for pid, n := range t.plan.nodes {
		if n.process.PGID == pid && !n.leads() {
			if err := call(t.seeds[pid], "lead a process group", kernel.SysSetpgid, 0, 0); err != nil {
				return err
			}
		}
	}
	return t.joinGroups()
}

func (t *tree) joinGroups() error {
	for pid, n := range t.plan.nodes {
		group := n.process.PGID
		if group == outside {
			group = t.rootOf(n).process.PID
		}
		if group == pid || n.leads() {
			continue
		}
		if err := call(t.seeds[pid], fmt.Sprintf("join process group %d", group), kernel.SysSetpgid, 0, group); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) memberOf(group int) int {
	lowest := 0
	for pid, n := range t.plan.nodes {
		if n.process.PGID == group && (lowest == 0 || pid < lowest) {
			lowest = pid
		}
	}
	return lowest
}

func (t *tree) rootOf(n *node) *node {
	for {
		parent, ok := t.plan.nodes[n.process.PPID]
		if !ok {
			return n
		}
		n = parent
	}
}

// dismiss ends the stand-ins.
func (t *tree) dismiss() error {
	for _, s := range t.stand {
		if err := exit(s.seed, 0); err != nil {
			return err
		}
		if s.parent != nil {
			if err := call(s.parent, "wait for a stand-in", kernel.SysWait4, s.seed.PID(), 0, 0, 0); err != nil {
				return err
			}
		}
	}
	t.stand = nil
	return nil
}

// bury lets those die who were zombies.
func (t *tree) bury() error {
	for pid, n := range t.plan.nodes {
		if n.process.State != image.Zombie {
			continue
		}
		seed := t.seeds[pid]
		delete(t.seeds, pid)
		b := tracee.NewBatch(seed)
		b.Must("set the name", kernel.SysPrctl, kernel.PrSetName, b.String(n.process.Comm))
		b.Must("forbid core dumps", kernel.SysPrlimit64, 0, kernel.RlimitCore, b.Words(0, 0), 0)
		if err := b.Run(); err != nil {
			return err
		}
		status := kernel.WaitStatus(n.process.ExitStatus)
		var err error
		if status.Signaled() {
			err = seed.DieOf(status.Signal())
		} else {
			err = exit(seed, status.ExitStatus())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func exit(s *tracee.Seed, code int) error {
	b := tracee.NewBatch(s)
	b.Call(kernel.SysExitGroup, code)
	return s.Leave(b)
}

// call executes one system call in a seed.
func call(s *tracee.Seed, what string, nr int, args ...any) error {
	b := tracee.NewBatch(s)
	b.Must(what, nr, args...)
	return b.Run()
}
