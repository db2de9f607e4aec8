package tracee

import (
	"cmp"

	"github.com/kup-project/kup/internal/kernel"
)

// AskAll asks frozen threads of one process what only they can tell of themselves. Of a thread that cannot answer everything the result is nil: a
// Batch in an Injection, which is slower, tells what is the matter, or, on kernels whose [vdso] has no room for the questions, answers.
//
// As many threads as there is room for in the process are on their way at the same time, each until its only stop.
func AskAll(tasks []*Task) (all []*Self, err error) {
	if len(tasks) == 0 {
		return nil, nil
	}
	room, err := tasks[0].process.Room()
	if err != nil {
		return nil, err
	}
	room = max(room, 1) // without room, opening says so
	all = make([]*Self, len(tasks))
	if !tasks[0].process.vdso.asks() {
		return all, nil
	}
	asked := make([]*Injection, len(tasks))
	for n := range len(tasks) + room {
		if first := n - room; first >= 0 && asked[first] != nil {
			var failed error
			all[first], failed = asked[first].answer()
			err = cmp.Or(err, failed)
		}
		if n < len(tasks) && err == nil {
			i := &Injection{task: tasks[n]}
			if err = i.ask(); err == nil {
				asked[n] = i
			}
		}
	}
	return all, err
}

// ask sends the thread on its way to the questions.
func (i *Injection) ask() error { return i.enter(pageSize, theQuestions) }

// answer waits until the thread has answered, and puts it back to where it was frozen.
func (i *Injection) answer() (*Self, error) {
	t := i.task
	blob := t.process.vdso.blob()
	for {
		if err := i.await(); err != nil {
			return nil, err
		}
		regs, err := kernel.PtraceGetRegs(t.TID)
		if err != nil {
			return nil, i.died(err)
		}
		switch regs.Rip {
		case blob + blobAsked, blob + blobHome:
			crashPoint("asked")
			if err := i.goHome(); err != nil {
				return nil, err
			}
			t.process.vdso.records[i.slot] = nil
			if self, complete := answers(&regs); complete && regs.Rip == blob+blobAsked {
				return &self, nil
			}
			return nil, nil
		}
		// The stop came from somebody else's signal.
		if err := i.resume(); err != nil {
			return nil, err
		}
	}
}
