package foam

import (
	"errors"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/parallel"
)

// Batch is runs of pages, ascending, that are moved together: a mapping of the file and a system call or two serve them all, however many they are.
type Batch []image.Extent

// Batches cuts extents into batches, each with at most size bytes, a power of two. What lies in no window is left out.
func (f *File) Batches(x Extents, size uint64) []Batch {
	var out []Batch
	bytes := uint64(0) // in the last
	for _, w := range f.layout.Windows {
		sameWindow := false
		for _, e := range x.Within(image.Extent{Start: w.Start, End: w.End}).Chunks(size) {
			bytes += e.End - e.Start
			if last := len(out) - 1; last >= 0 && f.store.together(out[last], sameWindow, e, bytes, size) {
				out[last] = append(out[last], e)
			} else {
				out, bytes = append(out, Batch{e}), e.End-e.Start
			}
			sameWindow = true
		}
	}
	return out
}

// View is a batch that is mapped.
type View struct {
	Parts [][]byte // one for each run
	file  *File
	whole []byte // nil: the parts are mappings of their own
}

// View maps a batch, as Map does a run, until Close.
func (f *File) View(b Batch) (*View, error) {
	v := &View{file: f}
	whole := image.Extent{Start: b[0].Start, End: b[len(b)-1].End}
	if w, _ := f.layout.Window(whole.Start); len(b) > 1 && whole.End <= w.End {
		var err error
		if v.whole, err = f.Map(whole); err != nil {
			return nil, err
		}
		for _, e := range b {
			v.Parts = append(v.Parts, v.whole[e.Start-whole.Start:e.End-whole.Start])
		}
		return v, nil
	}
	for _, e := range b {
		mem, err := f.Map(e)
		if err != nil {
			return nil, errors.Join(err, v.Close())
		}
		v.Parts = append(v.Parts, mem)
	}
	return v, nil
}

// Close ends the mapping.
func (v *View) Close() error {
	if v.whole != nil {
		return v.file.Unmap(v.whole)
	}
	var failed []error
	for _, mem := range v.Parts {
		failed = append(failed, v.file.Unmap(mem))
	}
	return errors.Join(failed...)
}

// Keep maps all that batches, as Batches returns them for the same size, may ever be part of, until Close, with blocks behind their runs and the page tables
// filled: to write to what Map and View return of them is then as fast as memory is. It must not be called twice, nor together with other methods. ENOSPC if
// the file system is full.
func (f *File) Keep(batches []Batch, size uint64) error {
	var runs []image.Extent
	for _, b := range batches {
		w, _ := f.layout.Window(b[0].Start)
		start := max(w.Start, b[0].Start&^(size-1))
		end := min(w.End, b[0].Start&^(size-1)+size)
		if err := f.store.keep(int64(w.Offset+(start-w.Start)), end-start); err != nil {
			return err
		}
		runs = append(runs, b...)
	}
	return parallel.Gently(runs, f.Reserve)
}
