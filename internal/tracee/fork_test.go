package tracee

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
)

func TestHolderKeepsMemoryAsItWas(t *testing.T) {
	s := startSurvivor(t, program(t, "survivor", "-mavx2"), survivorParts)
	s.progress(t)
	s.unchanged(t, facts)
	tracer := New()
	defer tracer.Close()
	frozen := freeze(t, tracer, s.pid)
	then, rseq := writable(t, frozen.Processes[0])
	in, err := frozen.Processes[0].Tasks[0].Inject(1000)
	if err != nil {
		t.Fatal(err)
	}
	h, err := in.Fork()
	if err != nil {
		t.Fatal(err)
	}
	if err := frozen.Thaw(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.progress(t)
	}
	changed := 0
	for at, content := range then {
		for _, pid := range []int{s.pid, h.PID()} {
			now := make([]byte, len(content))
			if err := kernel.ReadMemory(pid, at, now); err != nil {
				t.Fatal(err)
			}
			if at <= rseq && rseq < at+uint64(len(now)) {
				clear(now[rseq-at:][:rseqSize])
			}
			switch same := bytes.Equal(now, content); {
			case same:
			case pid == s.pid:
				changed++
			default:
				t.Errorf("the holder's mapping at %#x is not as it was", at)
			}
		}
	}
	if changed == 0 {
		t.Error("nothing has changed in the program, so nothing was tested")
	}
	alone(t, s.pid, h.PID())
	h.Release()
	s.unchanged(t, facts)
	s.progress(t)
}

// rseqSize is sizeof(struct rseq) as of v4.18, bytes. The kernel notes there on which processor a thread runs.
const rseqSize = 32

// writable reads the private memory of a frozen process by address, with the rseq area of the first thread, at rseq, as zeros.
func writable(t *testing.T, p *Process) (content map[uint64][]byte, rseq uint64) {
	t.Helper()
	config, err := kernel.PtraceGetRseq(p.PID)
	if err != nil {
		t.Fatal(err)
	}
	content = map[uint64][]byte{}
	for _, m := range p.Maps {
		if m.Shared || !m.Read || !m.Write {
			continue
		}
		mem := make([]byte, m.Size())
		if err := kernel.ReadMemory(p.PID, m.Start, mem); err != nil {
			t.Fatal(err)
		}
		if m.Start <= config.Pointer && config.Pointer < m.End {
			clear(mem[config.Pointer-m.Start:][:rseqSize])
		}
		content[m.Start] = mem
	}
	return content, config.Pointer
}

// alone checks that a holder shares nothing with the process but private memory.
func alone(t *testing.T, pid, holder int) {
	t.Helper()
	fds, err := procfs.FDs(holder)
	if err != nil || len(fds) > 0 {
		t.Errorf("descriptors of the holder: %v, %v; want none", fds, err)
	}
	maps, err := procfs.ReadMaps(holder)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range maps {
		if m.Shared {
			t.Errorf("the holder has the shared mapping %v %s", &m, m.Path)
		}
	}
	if dir, err := os.Readlink(procfs.Path(holder, "cwd")); dir != "/" {
		t.Errorf("the holder's directory is %s, %v; want /", dir, err)
	}
	st, err := procfs.ReadStat(holder)
	if err != nil {
		t.Fatal(err)
	}
	if st.PPID == pid || st.SID == pid || st.PGID == pid {
		t.Errorf("the holder is of the process's family: %+v", st)
	}
	if got := fmt.Sprint(holders(t, pid)); got != fmt.Sprint([]int{holder}) {
		t.Errorf("holders %s, want %d", got, holder)
	}
}

// TestForkThatFailsHarmsNobody lets a thread have a deadline, whose share of the processor a child could not have as well: EAGAIN.
func TestForkThatFailsHarmsNobody(t *testing.T) {
	s := startSurvivor(t, program(t, "survivor", "-mavx2"), survivorParts)
	s.progress(t)
	s.unchanged(t, facts)
	tracer := New()
	defer tracer.Close()
	frozen := freeze(t, tracer, s.pid)
	in, err := frozen.Processes[0].Tasks[0].Inject(1000)
	if err != nil {
		t.Fatal(err)
	}
	const (
		deadline = 6 // SCHED_DEADLINE
		ms       = 1000 * 1000
	)
	schedule := func(policy, runtime, period uint64) {
		b := NewBatch(in)
		attr := b.Words(policy<<32|kernel.SchedAttrSize, 0, 0, runtime, period, period) // struct sched_attr
		b.Must("schedule it", kernel.SysSchedSetattr, 0, attr, 0)
		if err := b.Run(); err != nil {
			t.Fatal(err)
		}
	}
	schedule(deadline, ms, 100*ms)
	_, err = in.Fork()
	schedule(0, 0, 0)
	if !errors.Is(err, kernel.EAGAIN) || !strings.Contains(err.Error(), "without a fork") {
		t.Errorf("error %v, want EAGAIN with what to do", err)
	}
	if err := frozen.Thaw(); err != nil {
		t.Fatal(err)
	}
	s.unchanged(t, facts)
	s.progress(t)
}
