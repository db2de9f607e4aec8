package image

import (
	"os"

	"github.com/kup-project/kup/internal/parallel"
)

// ReadPages reads what a FOAM file of the image holds at the addresses of f.Extents, and hands it to take in parts, in any order and to several at
// once; a part is only valid until take returns. What was left to it by PagesLater is compared with the hashes in the seal, a chunk after its last part was taken: nothing
// of it may be believed before ReadPages returns. If it does not fit, the error matches ErrCorrupt.
func (i *Image) ReadPages(f *FOAM, take func(at uint64, pages []byte) error) error {
	file, err := os.Open(i.Path(f.Name))
	if err != nil {
		return damaged(i.Dir, f.Name, "%w", err)
	}
	defer file.Close()
	var jobs []hashJob
	if hashes, ok := i.unverified[f.Name]; ok {
		if jobs, err = comparisons(file, f.Name, cut(f.runs()), hashes); err != nil {
			return damaged(i.Dir, sealName, "%w", err)
		}
	} else {
		for _, c := range cut(f.runs()) {
			jobs = append(jobs, hashJob{file: file, name: f.Name, chunk: c})
		}
	}
	return parallel.Each(jobs, func(j hashJob) error {
		var failed error // of the caller's
		err := j.run(func(offset uint64, part []byte) error {
			failed = take(f.address(offset), part)
			return failed
		})
		if err != nil && failed == nil {
			return damaged(i.Dir, f.Name, "%w", err)
		}
		return failed
	})
}
