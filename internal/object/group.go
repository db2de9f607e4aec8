package object

import (
	"cmp"
	"slices"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// group sorts the descriptors so that duplicates of one open file description are neighbours, and makes an OpenFile for each.
//
// Only what looks alike can be the same description; among those kcmp(2) gives an order, so sorting finds the groups
// with n log n calls.
func (c *Capture) group() error {
	var failed error
	slices.SortStableFunc(c.descriptors, func(a, b *Descriptor) int {
		order, err := compareDescriptions(a, b)
		failed = cmp.Or(failed, err)
		return order
	})
	if failed != nil {
		return failed
	}
	for i, d := range c.descriptors {
		if i > 0 {
			order, err := compareDescriptions(c.descriptors[i-1], d)
			if err != nil {
				return err
			}
			if order == 0 {
				c.files[d] = c.files[c.descriptors[i-1]]
				continue
			}
		}
		f := &image.OpenFile{}
		c.files[d] = f
		c.captured = append(c.captured, captured{d: d, file: f})
	}
	// In the image, files are numbered as the processes' tables name them.
	slices.SortStableFunc(c.captured, func(a, b captured) int {
		return cmp.Or(cmp.Compare(slices.Index(c.pids, a.d.PID), slices.Index(c.pids, b.d.PID)), cmp.Compare(a.d.FD, b.d.FD))
	})
	for i := range c.captured {
		c.captured[i].file.ID = i + 1
	}
	return nil
}

// compareDescriptions orders descriptors by open file description; 0 means the same.
func compareDescriptions(a, b *Descriptor) (int, error) {
	order := cmp.Or(
		cmp.Compare(a.Stat.Dev, b.Stat.Dev),
		cmp.Compare(a.Stat.Ino, b.Stat.Ino),
		cmp.Compare(a.flags(), b.flags()),
		cmp.Compare(a.Info.Pos, b.Info.Pos),
		cmp.Compare(a.Link, b.Link),
	)
	if order != 0 || a == b {
		return order, nil
	}
	return kernel.CompareFiles(a.PID, a.FD, b.PID, b.FD)
}
