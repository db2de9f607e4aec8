package foam

import (
	"slices"
	"testing"

	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/image"
)

func TestBindingsFollowTheWindows(t *testing.T) {
	f := &File{layout: image.FOAM{Windows: []image.Window{
		{Start: 0x10000, End: 0x12000, Offset: 0x800000},
		{Start: 0x12000, End: 0x13000, Offset: 0x400000},
		{Start: 0x20000, End: 0x24000, Offset: 0x600000},
	}}}
	for _, c := range []struct {
		name           string
		at, from, size uint64
		want           []frames.Binding
	}{
		{"in one window", 0x11000, 0x11000, 0x1000, []frames.Binding{{Address: 0x11000, Start: 0x801000, Length: 0x1000}}},
		{"across windows, somewhere else", 0x71000, 0x11000, 0x2000, []frames.Binding{
			{Address: 0x71000, Start: 0x801000, Length: 0x1000}, {Address: 0x72000, Start: 0x400000, Length: 0x1000},
		}},
		{"where there are none", 0x30000, 0x30000, 0x1000, nil},
	} {
		if got := f.AppendBindings(nil, c.at, c.from, c.size); !slices.Equal(got, c.want) {
			t.Errorf("%s: expected %#x, got %#x", c.name, c.want, got)
		}
	}
}
