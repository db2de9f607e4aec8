// Package parallel shares work out to all processors.
package parallel

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Each calls work for each of a list, on as many threads as there are processors, of which the caller's is one, and returns the first error. Whoever is
// free takes the next: a caller that comes before all others does not wait for much.
func Each[T any](list []T, work func(T) error) error {
	workers := min(runtime.NumCPU(), len(list))
	var (
		next  atomic.Int64
		once  sync.Once
		first error
		group sync.WaitGroup
	)
	worker := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(list) {
				return
			}
			if err := work(list[i]); err != nil {
				once.Do(func() { first = err })
				next.Store(int64(len(list)))
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
