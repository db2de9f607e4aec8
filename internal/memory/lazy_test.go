package memory

import (
	"slices"
	"testing"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/pageserver"
)

func TestMissingPagesCrossNoWindow(t *testing.T) {
	windows := []image.Window{{Start: 10, End: 20, Offset: 500}, {Start: 20, End: 25, Offset: 100}, {Start: 40, End: 60, Offset: 200}}
	pages := foam.Extents{{Start: 12, End: 24}, {Start: 40, End: 45}, {Start: 45, End: 50}}
	want := pageserver.Runs{{Start: 12, End: 20}, {Start: 20, End: 24}, {Start: 40, End: 45}, {Start: 45, End: 50}}
	if got := byWindow(pages, windows); !slices.Equal(got, want) {
		t.Errorf("expected %v, got %v", want, got)
	}
}
