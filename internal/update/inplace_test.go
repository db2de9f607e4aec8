package update

import (
	"slices"
	"testing"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kexec"
)

func TestSpareIsWhatNoImageIsIn(t *testing.T) {
	const mb = 1 << 20
	reserved := kexec.Ranges{{Start: 10 * mb, End: 30 * mb}, {Start: 50 * mb, End: 60 * mb}}
	for _, c := range []struct {
		name   string
		needed []image.Extent
		want   kexec.Ranges
	}{
		{"no images", nil, reserved},
		{"in between, in any order", []image.Extent{{Start: 20 * mb, End: 22 * mb}, {Start: 12 * mb, End: 14 * mb}},
			kexec.Ranges{{Start: 10 * mb, End: 12 * mb}, {Start: 14 * mb, End: 20 * mb}, {Start: 22 * mb, End: 30 * mb}, reserved[1]}},
		{"small gaps", []image.Extent{{Start: 10 * mb, End: 15 * mb}, {Start: 15*mb + mb/2, End: 30 * mb}}, reserved[1:]},
		{"in memory that was not reserved", []image.Extent{{Start: 35 * mb, End: 40 * mb}}, reserved},
	} {
		if got := unneeded(reserved, c.needed); !slices.Equal(got, c.want) {
			t.Errorf("%s: expected %v, got %v", c.name, c.want, got)
		}
	}
}
