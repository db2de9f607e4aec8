package frames

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNoFrameIsClaimedTwice(t *testing.T) {
	var s pageSet
	first := s.claim(nil, Run{Addr: 0x10000, Frame: 100, Count: 4})
	if diff := cmp.Diff([]Run{{Addr: 0x10000, Frame: 100, Count: 4}}, first); diff != "" {
		t.Error(diff)
	}
	// 102 and 103 are somebody else's.
	second := s.claim(nil, Run{Addr: 0x20000, Frame: 98, Count: 8})
	if diff := cmp.Diff([]Run{{Addr: 0x20000, Frame: 98, Count: 2}, {Addr: 0x26000, Frame: 104, Count: 2}}, second); diff != "" {
		t.Error(diff)
	}
	if third := s.claim(nil, Run{Addr: 0x30000, Frame: 98, Count: 8}); third != nil {
		t.Errorf("claimed again: %+v", third)
	}
}
