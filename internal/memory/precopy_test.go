package memory

import (
	"slices"
	"testing"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

func run(page, pages uint64) image.Extent {
	return image.Extent{Start: page * kernel.PageSize, End: (page + pages) * kernel.PageSize}
}

func TestHotIsWhatTheLastRoundsFound(t *testing.T) {
	var p Precopy
	p.remember([]image.Extent{run(0, 1000)}) // all there is
	for round := range uint64(image.HotLists) {
		p.remember([]image.Extent{run(10*round, 1)})
		p.remember(nil) // nothing was written
	}
	want := [][]image.Extent{{run(7, 1)}, {run(30, 1)}, {run(20, 1)}, {run(10, 1)}}
	if got := p.hot(foam.Extents{run(7, 1)}); !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("expected %v, got %v", want, got)
	}
	if got := p.hot(nil); !slices.EqualFunc(got, want[1:], slices.Equal) {
		t.Errorf("with nothing left for the freeze, expected %v, got %v", want[1:], got)
	}
}

func TestHotIsSmall(t *testing.T) {
	var p Precopy
	var scattered []image.Extent
	for page := range uint64(10_000) {
		scattered = append(scattered, run(100*page, 1))
	}
	for range 10 {
		p.remember(scattered)
	}
	lists := p.hot(scattered)
	if len(lists) != image.HotLists {
		t.Errorf("expected %d lists, got %d", image.HotLists, len(lists))
	}
	for _, list := range lists {
		if len(list) > image.HotExtents || len(foam.Extents(scattered).Minus(list)) > 0 {
			t.Errorf("a list has %d extents, expected at most %d that cover all", len(list), image.HotExtents)
		}
	}
}
