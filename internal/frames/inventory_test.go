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
	for _, tt := range []struct {
		name   string
		claims []claim
		want   [][]claim
	}{
		{"none", nil, nil},
		{"nobody else", []claim{{0, at(5, 50, 3)}}, [][]claim{{{0, at(5, 50, 3)}}}},
		{"a fork", []claim{{0, at(5, 50, 3)}, {1, at(5, 50, 3)}}, [][]claim{{{0, at(5, 50, 3)}, {1, at(5, 50, 3)}}}},
		{
			"a fork that has written to the middle",
			[]claim{{0, at(5, 50, 3)}, {1, at(5, 50, 1)}, {1, at(7, 52, 1)}},
			[][]claim{{{0, at(5, 50, 1)}, {1, at(5, 50, 1)}}, {{0, at(6, 51, 1)}}, {{0, at(7, 52, 1)}, {1, at(7, 52, 1)}}},
		},
		{
			"three processes with different parts",
			[]claim{{0, at(0, 10, 8)}, {1, at(0, 10, 4)}, {2, at(2, 12, 6)}},
			[][]claim{
				{{0, at(0, 10, 2)}, {1, at(0, 10, 2)}}, {{0, at(2, 12, 2)}, {1, at(2, 12, 2)}, {2, at(2, 12, 2)}}, {{0, at(4, 14, 4)}, {2, at(4, 14, 4)}},
			},
		},
		{"equal pages of one process", []claim{{0, at(5, 50, 1)}, {0, at(9, 50, 1)}}, [][]claim{{{0, at(5, 50, 1)}, {0, at(9, 50, 1)}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got [][]claim
			for _, h := range shareOut(tt.claims) {
				got = append(got, h.claims)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(claim{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestKindsOfSharedFrames splits what two processes have in common.
func TestKindsOfSharedFrames(t *testing.T) {
	kinds := func(k Kind) func(uint64) (Kind, error) { return func(uint64) (Kind, error) { return k, nil } }
	both := func(addr, frame, count uint64, k Kind) holding {
		r := Run{Addr: addr * page, Frame: frame, Count: count, Kind: k}
		return holding{[]claim{{0, r}, {1, r}}}
	}
	apart := holding{[]claim{{0, at(512, 1024, 512)}, {1, at(513, 1024, 512)}}}
	for _, tt := range []struct {
		name string
		have holding
		kind Kind // of whatever is asked for
		want []holding
	}{
		{"small pages", both(5, 50, 3, Small), Huge, []holding{both(5, 50, 3, Small)}},
		{"many small pages", both(512, 1024, 512, Small), Small, []holding{both(512, 1024, 512, Small)}},
		{"the huge zero page", both(512, 1024, 512, Small), zeroes, []holding{both(512, 1024, 512, zeroes)}},
		{
			"a huge page with neighbours", both(510, 1022, 516, Small), Huge,
			[]holding{both(510, 1022, 2, Small), both(512, 1024, 512, Huge), both(1024, 1536, 2, Small)},
		},
		{"two of the pool", both(512, 1024, 1024, Small), HugeTLB, []holding{both(512, 1024, 1024, HugeTLB)}},
		{"a huge page that is not mapped as one", both(513, 1024, 512, Small), Huge, []holding{both(513, 1024, 512, Small)}},
		{"a huge page that one has elsewhere", apart, Huge, []holding{apart}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.have.byKind(kinds(tt.kind))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(holding{}, claim{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSharedRunsAreJoined(t *testing.T) {
	shared := func(frame, count, addr0, addr1 uint64) Shared {
		return Shared{Frame: frame, Count: count, Places: []Place{place(1, addr0), place(2, addr1)}}
	}
	var all []Shared
	for _, s := range []Shared{shared(10, 2, 0, 100), shared(12, 1, 2, 102), shared(13, 1, 3, 104), shared(15, 1, 5, 106)} {
		all = addShared(all, s)
	}
	if diff := cmp.Diff([]Shared{shared(10, 3, 0, 100), shared(13, 1, 3, 104), shared(15, 1, 5, 106)}, all); diff != "" {
		t.Error(diff)
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
