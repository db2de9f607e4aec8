package memory

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/frames"
)

func TestRunsWithinPages(t *testing.T) {
	const page = 4096
	runs := []frames.Run{{Addr: 10 * page, Frame: 100, Count: 5}, {Addr: 15 * page, Frame: 300, Count: 1}, {Addr: 20 * page, Frame: 200, Count: 10}}
	pages := foam.Extents{{Start: 0, End: 2 * page}, {Start: 12 * page, End: 16 * page}, {Start: 19 * page, End: 21 * page}, {Start: 25 * page, End: 26 * page}, {Start: 40 * page, End: 50 * page}}
	want := []frames.Run{
		{Addr: 12 * page, Frame: 102, Count: 3}, {Addr: 15 * page, Frame: 300, Count: 1}, {Addr: 20 * page, Frame: 200, Count: 1}, {Addr: 25 * page, Frame: 205, Count: 1},
	}
	if diff := cmp.Diff(want, within(runs, pages)); diff != "" {
		t.Error(diff)
	}
}
