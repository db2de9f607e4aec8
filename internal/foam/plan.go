package foam

import (
	"cmp"
	"slices"

	"github.com/kup-project/kup/internal/image"
)

const (
	// Align is what windows begin and end at, bytes: the size of a huge page on x86-64.
	Align = 2 << 20

	// ComfortableSize is the logical file size that Plan stays below if the mappings allow it, bytes. ext4 with blocks of 1 KiB
	// ends at 4 TiB (2^32 blocks, see "Maximum file size" in ext4(5)); tools that copy files are happier far below.
	ComfortableSize = 1 << 40
)

// gaps are the distances up to which mappings share a window, bytes, the most generous first. A wide window leaves room for
// what the application maps in between later on; a narrow one keeps the file short.
var gaps = []uint64{1 << 30, 256 << 20, 64 << 20, 0}

// Plan returns windows that cover ranges, which may come in any order and overlap: as few as possible while the file stays below
// ComfortableSize. Mappings that are larger than that in sum make a larger file; whether the file system takes it is for Create
// to find out.
func Plan(ranges []image.Extent) []image.Window {
	return Grow(nil, ranges)
}

// Grow returns windows with others added, so that they cover ranges too. Addresses that were covered keep their offsets; the
// new ones come behind the end of the file.
func Grow(windows []image.Window, ranges []image.Extent) []image.Window {
	var taken Extents
	var end uint64
	for _, w := range windows {
		taken = taken.Add(image.Extent{Start: w.Start, End: w.End})
		end = max(end, roundUp(w.Offset+(w.End-w.Start)))
	}
	missing := rounded(Merged(ranges...).Minus(taken))
	if len(missing) == 0 {
		return slices.Clone(windows)
	}
	var clusters Extents
	for _, gap := range gaps {
		clusters = missing.Bridged(gap).Minus(taken)
		if end+clusters.Total() <= ComfortableSize {
			break
		}
	}
	out := slices.Clone(windows)
	for _, c := range clusters {
		out = append(out, image.Window{Start: c.Start, End: c.End, Offset: end})
		end += roundUp(c.End - c.Start)
	}
	sortWindows(out)
	return out
}

func sortWindows(windows []image.Window) {
	slices.SortFunc(windows, func(a, b image.Window) int { return cmp.Compare(a.Start, b.Start) })
}

// Single returns the windows of a shared memory of size bytes: one from 0, or none if it is empty.
func Single(size uint64) []image.Window {
	if size == 0 {
		return nil
	}
	return []image.Window{{Start: 0, End: roundUp(size)}}
}

// rounded returns the extents grown to multiples of Align.
func rounded(x Extents) Extents {
	var out Extents
	for _, e := range x {
		out = out.add(image.Extent{Start: e.Start &^ (Align - 1), End: roundUp(e.End)})
	}
	return out
}

func roundUp(n uint64) uint64 { return (n + Align - 1) &^ (Align - 1) }
