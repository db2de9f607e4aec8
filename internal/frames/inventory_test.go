package frames

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/kexec"
)

const page = kernel.PageSize

// at is a run of small pages whose addresses are given in pages.
func at(addr, frame, count uint64) Run { return Run{Addr: addr * page, Frame: frame, Count: count} }

func place(pid int, addr uint64) Place { return Place{pid, addr * page} }

func TestShareOut(t *testing.T) {
	pid := func(process int) int { return 100 + process }
	for _, tt := range []struct {
		name   string
		claims []claim
		alone  []claim
		shared []Shared
	}{
		{"none", nil, nil, nil},
		{"nobody else", []claim{{0, at(5, 50, 3)}}, []claim{{0, at(5, 50, 3)}}, nil},
		{
			"a fork", []claim{{0, at(5, 50, 3)}, {1, at(5, 50, 3)}}, nil,
			[]Shared{{Frame: 50, Count: 3, Places: []Place{place(100, 5), place(101, 5)}}},
		},
		{
			"a fork that has written to the middle",
			[]claim{{0, at(5, 50, 3)}, {1, at(5, 50, 1)}, {1, at(7, 52, 1)}},
			[]claim{{0, at(6, 51, 1)}},
			[]Shared{
				{Frame: 50, Count: 1, Places: []Place{place(100, 5), place(101, 5)}},
				{Frame: 52, Count: 1, Places: []Place{place(100, 7), place(101, 7)}},
			},
		},
		{
			"three processes with different parts",
			[]claim{{0, at(0, 10, 8)}, {1, at(0, 10, 4)}, {2, at(2, 12, 6)}}, nil,
			[]Shared{
				{Frame: 10, Count: 2, Places: []Place{place(100, 0), place(101, 0)}},
				{Frame: 12, Count: 2, Places: []Place{place(100, 2), place(101, 2), place(102, 2)}},
				{Frame: 14, Count: 4, Places: []Place{place(100, 4), place(102, 4)}},
			},
		},
		{
			"equal pages of one process", []claim{{0, at(5, 50, 1)}, {0, at(9, 50, 1)}}, nil,
			[]Shared{{Frame: 50, Count: 1, Places: []Place{place(100, 5), place(100, 9)}}},
		},
		{
			"pieces that belong together", []claim{{0, at(5, 50, 2)}, {0, at(7, 52, 2)}, {1, at(5, 50, 4)}}, nil,
			[]Shared{{Frame: 50, Count: 4, Places: []Place{place(100, 5), place(101, 5)}}},
		},
		{
			"half of a huge page",
			[]claim{{0, Run{512 * page, 1024, 512, Huge}}, {1, at(512, 1024, 256)}},
			[]claim{{0, at(768, 1280, 256)}},
			[]Shared{{Frame: 1024, Count: 256, Places: []Place{place(100, 512), place(101, 512)}}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			alone, shared := shareOut(tt.claims, pid)
			if diff := cmp.Diff(tt.alone, alone, cmp.AllowUnexported(claim{})); diff != "" {
				t.Errorf("alone: %s", diff)
			}
			if diff := cmp.Diff(tt.shared, shared); diff != "" {
				t.Errorf("shared: %s", diff)
			}
		})
	}
}

func TestWithin(t *testing.T) {
	v := &Inventory{
		Processes: []Resident{
			{PID: 1, Runs: []Run{at(0, 100, 10), at(20, 300, 5)}, Swapped: []image.Extent{{Start: 50 * page, End: 51 * page}}},
			{PID: 2, Runs: []Run{{Addr: 1024 * page, Frame: 1024, Count: 1024, Kind: Huge}}},
		},
		Shared: []Shared{{Frame: 200, Count: 4, Places: []Place{place(1, 30), place(2, 40)}}},
	}
	slice := kexec.NewRanges(framesRange(105, 97), framesRange(304, 10), framesRange(1024+500, 524))
	want := &Inventory{
		Processes: []Resident{
			{PID: 1, Runs: []Run{at(5, 105, 5), at(24, 304, 1)}},
			{PID: 2, Runs: []Run{at(1524, 1524, 12), {Addr: 1536 * page, Frame: 1536, Count: 512, Kind: Huge}}},
		},
		Shared: []Shared{{Frame: 200, Count: 2, Places: []Place{place(1, 30), place(2, 40)}}},
	}
	got := v.Within(slice)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Inventory{})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(got.Memory(), kexec.NewRanges(framesRange(105, 5), framesRange(304, 1), framesRange(1524, 524), framesRange(200, 2))); diff != "" {
		t.Error(diff)
	}
}

func TestDifferences(t *testing.T) {
	runs := func(all ...Run) (out []seenRun) {
		for i, r := range all {
			out = append(out, seenRun{r, i%2 == 0})
		}
		return out
	}
	pages := func(start, end uint64) image.Extent { return image.Extent{Start: start * page, End: end * page} }
	for _, tt := range []struct {
		name        string
		before, now []seenRun
		want        []image.Extent
	}{
		{"nothing", nil, nil, nil},
		{"the same", runs(at(0, 10, 5), at(7, 20, 1)), runs(at(0, 10, 5), at(7, 20, 1)), nil},
		{"the same, in other runs", runs(at(0, 10, 5), at(5, 15, 3)), runs(at(0, 10, 2), at(2, 12, 6)), nil},
		{"moved", runs(at(0, 10, 5)), runs(at(0, 10, 2), at(2, 40, 1), at(3, 13, 2)), []image.Extent{pages(2, 3)}},
		{"gone at the end", runs(at(0, 10, 5)), runs(at(0, 10, 3)), []image.Extent{pages(3, 5)}},
		{"gone in the middle", runs(at(0, 10, 5)), runs(at(0, 10, 1), at(4, 14, 1)), []image.Extent{pages(1, 4)}},
		{"all gone", runs(at(0, 10, 5), at(9, 19, 1)), nil, []image.Extent{pages(0, 5), pages(9, 10)}},
		{"new", runs(at(3, 13, 2)), runs(at(0, 10, 8)), []image.Extent{pages(0, 3), pages(5, 8)}},
		{"all moved", runs(at(0, 10, 5), at(5, 50, 5)), runs(at(0, 20, 10)), []image.Extent{pages(0, 10)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, differences(tt.before, tt.now)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
