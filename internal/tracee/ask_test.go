package tracee

import (
	"encoding/binary"
	"testing"

	"github.com/kup-project/kup/internal/kernel"
)

// TestThreadsAnswerAsInABatch asks the same by both ways.
func TestThreadsAnswerAsInABatch(t *testing.T) {
	pid := start(t, program(t, "threads"), "20")
	tracer := New()
	defer tracer.Close()
	f := freeze(t, tracer, pid)
	tasks := f.Processes[0].Tasks
	for n, task := range tasks {
		distinguish(t, task, n)
	}
	all, err := AskAll(tasks)
	if err != nil {
		t.Fatal(err)
	}
	for n, task := range tasks {
		if all[n] == nil {
			t.Errorf("thread %d could not answer", task.TID)
			continue
		}
		if want := asked(t, task); *all[n] != want {
			t.Errorf("thread %d answers %+v, want %+v", task.TID, *all[n], want)
		}
	}
	if err := f.Thaw(); err != nil {
		t.Fatal(err)
	}
}

// distinguish gives a thread what no other has.
func distinguish(t *testing.T, task *Task, n int) {
	t.Helper()
	const noRandomize, noSetuidFixup, killEarly, segv = 0x40000, 1 << 2, 1, 2
	i, err := task.Inject(1000)
	if err != nil {
		t.Fatal(err)
	}
	b := NewBatch(i)
	b.Must("death", kernel.SysPrctl, kernel.PrSetPDeathSig, 1+n)
	b.Must("slack", kernel.SysPrctl, kernel.PrSetTimerSlack, 1<<33+n)
	b.Must("stack", kernel.SysSigaltstack, b.Words(uint64(1<<33+n<<12), 0, uint64(1<<14+n<<12)), 0)
	b.Must("secure bits", kernel.SysPrctl, kernel.PrSetSecureBits, noSetuidFixup)
	b.Must("MCE policy", kernel.SysPrctl, kernel.PrMCEKill, kernel.PrMCEKillSet, killEarly, 0, 0)
	if n%2 == 1 {
		b.Must("tsc", kernel.SysPrctl, kernel.PrSetTSC, segv)
		b.Must("personality", kernel.SysPersonality, noRandomize)
		b.Must("tid", kernel.SysSetTidAddress, 1<<40+n)
	}
	if err := b.Run(); err != nil {
		t.Fatal(err)
	}
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
}

// asked asks a thread by a Batch.
func asked(t *testing.T, task *Task) (s Self) {
	t.Helper()
	i, err := task.Inject(1000)
	if err != nil {
		t.Fatal(err)
	}
	b := NewBatch(i)
	tid, death, tsc, stack := b.Space(8), b.Space(8), b.Space(8), b.Space(24)
	b.Must("tid", kernel.SysPrctl, kernel.PrGetTIDAddress, tid)
	b.Must("death", kernel.SysPrctl, kernel.PrGetPDeathSig, death)
	b.Must("tsc", kernel.SysPrctl, kernel.PrGetTSC, tsc)
	b.Must("stack", kernel.SysSigaltstack, 0, stack)
	secure := b.Must("secure bits", kernel.SysPrctl, kernel.PrGetSecureBits)
	slack := b.Must("timer slack", kernel.SysPrctl, kernel.PrGetTimerSlack)
	mce := b.Must("MCE policy", kernel.SysPrctl, kernel.PrMCEKillGet, 0, 0, 0, 0)
	personality := b.Must("personality", kernel.SysPersonality, 0xffffffff)
	if err := b.Run(); err != nil {
		t.Fatal(err)
	}
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	return Self{ClearTID: tid.Word(0), DeathSignal: int(death.Word(0)), TSC: int(tsc.Word(0)),
		StackAddr: stack.Word(0), StackFlags: int32(binary.LittleEndian.Uint32(stack.Data[8:])), StackSize: stack.Word(2),
		SecureBits: uint32(secure.Value()), TimerSlack: uint64(slack.Value()), MCEKill: int(mce.Value()), Personality: uint32(personality.Value())}
}

// TestCodeFitsIntoShortTails has sizes of real kernels first: 6.18, and 6.12 of Debian 12.
func TestCodeFitsIntoShortTails(t *testing.T) {
	for _, c := range []struct {
		size, records int
		asks          bool
	}{{1504, 3, true}, {992, 1, true}, {700, 1, false}, {600, 0, false}} {
		space := codeSpace{tail: 0x10000, end: 0x10000 + uint64(c.size)}
		if records := space.fit(); records != c.records || space.asks() != c.asks {
			t.Errorf("%d bytes: room for %d records, questions %v; want %d, %v", c.size, records, space.asks(), c.records, c.asks)
		}
	}
}
