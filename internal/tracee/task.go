package tracee

import (
	"fmt"
	"os"
	"time"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
)

// Frozen is a set of process trees of which no thread runs.
type Frozen struct {
	Processes []*Process // parents before children, zombies included
	Since     time.Time  // when the first thread was asked to stop

	tasks     map[int]*Task    // by TID, without exited ones
	processes map[int]*Process // by PID, everything that was met
	tracer    *Tracer
}

// Process is a frozen process.
type Process struct {
	PID        int
	PPID       int
	Comm       string
	Tasks      []*Task // the leader first; none for a zombie
	Zombie     bool
	Stopped    bool // group-stopped by a signal, and will be so after Thaw
	StopSignal int  // the signal that stopped it
	Maps       []procfs.Mapping

	vdso   codeSpace
	mem    *os.File // /proc/PID/mem
	caught uint64   // signals with a handler
	ignore uint64   // signals that are ignored, by SIG_IGN or by default
	held   bool     // a SIGSTOP was held back
}

// String names the process for a person: "pid 4711 (memcached)".
func (p *Process) String() string { return fmt.Sprintf("pid %d (%s)", p.PID, p.Comm) }

// Task is a frozen thread.
type Task struct {
	TID, PID int
	// Regs are the general registers as the application must get them back: a restartable sequence has been aborted. An interrupted
	// system call stands in them as the kernel left it, with rax -512 to -516 and orig_rax its number.
	Regs    kernel.Regs
	SigMask uint64
	// RestartHint is the kernel function (wchan) the thread slept in before the freeze, if it had been interrupted before: then
	// orig_rax is 219 (restart_syscall), and nothing else tells the call it stands for.
	RestartHint string
	// InVDSO says that the thread could not be brought out of the code of the [vdso].
	InVDSO bool
	// Exited says that this is a thread group's leader that has exited while other threads live on. It has no registers.
	Exited bool

	process   *Process
	stopped   bool
	moved     bool // Regs differ from what the kernel holds
	held      uint64
	injection *Injection
}

// String names the thread for a person.
func (t *Task) String() string {
	if t.TID == t.PID {
		return t.process.String()
	}
	return fmt.Sprintf("%v thread %d", t.process, t.TID)
}

// Process is the process that the thread belongs to.
func (t *Task) Process() *Process { return t.process }

// member returns a live thread of the process: the leader may be a zombie, whose memory cannot be reached.
func (p *Process) member() *Task {
	for _, t := range p.Tasks {
		if !t.Exited {
			return t
		}
	}
	return nil
}
