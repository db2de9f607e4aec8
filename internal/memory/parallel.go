package memory

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/kup-project/kup/internal/image"
)

// chunk is how much one worker moves at a time, bytes: large enough that setting up is cheap, small enough to share.
const chunk = 16 << 20

// inParallel calls work for each extent on as many threads as there are processors, of which the caller's is one, and returns the first error.
func inParallel(extents []image.Extent, work func(image.Extent) error) error {
	workers := min(runtime.NumCPU(), len(extents))
	var (
		next  atomic.Int64
		once  sync.Once
		first error
		group sync.WaitGroup
	)
	worker := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(extents) {
				return
			}
			if err := work(extents[i]); err != nil {
				once.Do(func() { first = err })
				next.Store(int64(len(extents)))
			}
		}
	}
	for range workers - 1 {
		group.Go(worker)
	}
	worker()
	group.Wait()
	return first
}
