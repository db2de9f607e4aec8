package restore

import (
	"testing"

	"github.com/kup-project/kup/internal/image"
)

func proc(pid, ppid, pgid, sid int) image.Process {
	return image.Process{PID: pid, PPID: ppid, PGID: pgid, SID: sid, State: image.Running}
}

func TestPlanFindsTheSessionOfBirth(t *testing.T) {
	for _, c := range []struct {
		name      string
		processes []image.Process
		born      map[int]int
		sessions  []int // lost
		groups    []int // lost
	}{
		{"a leader and its children", []image.Process{proc(10, 1, 10, 10), proc(11, 10, 10, 10), proc(12, 11, 12, 10)},
			map[int]int{11: 10, 12: 10}, nil, nil},
		{"a job of a shell outside", []image.Process{proc(10, 5, 10, 5), proc(11, 10, 10, 5)},
			map[int]int{10: outside, 11: outside}, nil, nil},
		{"a child from before its parent led a session", []image.Process{proc(10, 5, 10, 5), proc(11, 10, 11, 11), proc(12, 11, 10, 5)},
			map[int]int{11: outside, 12: outside}, nil, nil},
		{"a session whose leader has ended", []image.Process{proc(10, 1, 10, 10), proc(11, 10, 20, 20), proc(12, 10, 20, 20)},
			map[int]int{11: 20, 12: 20}, []int{20}, nil},
		{"a group whose leader has ended", []image.Process{proc(10, 1, 10, 10), proc(11, 10, 30, 10)},
			map[int]int{11: 10}, nil, []int{30}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := newPlan(&image.State{Processes: c.processes})
			if err != nil {
				t.Fatal(err)
			}
			for pid, want := range c.born {
				if got := p.nodes[pid].born; got != want {
					t.Errorf("pid %d is to be born in session %d, want %d", pid, got, want)
				}
			}
			wantOnly(t, "sessions", p.lostSessions, c.sessions)
			wantOnly(t, "groups", p.lostGroups, c.groups)
		})
	}
}

func wantOnly(t *testing.T, what string, got map[int]bool, want []int) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("lost %s: %v, want %v", what, got, want)
	}
	for _, id := range want {
		if !got[id] {
			t.Errorf("lost %s: %v, want %v", what, got, want)
		}
	}
}

func TestPlanRefusesImpossibleSessions(t *testing.T) {
	_, err := newPlan(&image.State{Processes: []image.Process{
		proc(10, 1, 10, 10), proc(11, 10, 11, 11), proc(12, 11, 20, 20), proc(13, 11, 21, 21),
	}})
	if err == nil {
		t.Fatal("children born in two foreign sessions were accepted")
	}
	t.Log(err)
}

func TestOffsetHasNoNegativeNanoseconds(t *testing.T) {
	for ns, want := range map[int64]string{0: "0 0", 1: "0 1", -1: "-1 999999999", 2_500_000_000: "2 500000000", -2_500_000_000: "-3 500000000"} {
		if got := offset(ns); got != want {
			t.Errorf("offset(%d) = %q, want %q", ns, got, want)
		}
	}
}
