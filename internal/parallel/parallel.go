// Package parallel shares work out to all processors.
package parallel

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/kup-project/kup/internal/kernel"
)

// Each calls work for each of a list, on as many threads as there are processors, of which the caller's is one, and returns the first error. Whoever is
// free takes the next: a caller that comes before all others does not wait for much.
func Each[T any](list []T, work func(T) error) error { return Few(runtime.NumCPU(), list, work) }

// Few is Each on so many threads at most, of which the caller's is one.
func Few[T any](threads int, list []T, work func(T) error) error {
	s := share[T]{list: list, work: work}
	for range min(threads, len(list)) - 1 {
		s.group.Go(s.worker)
	}
	s.worker()
	s.group.Wait()
	return s.first
}

// Urgently is Each for short work. If the caller comes before all ordinary threads (kernel.SchedFIFO), its helpers do so too, lest it waits for one of them that
// waits for a processor.
func Urgently[T any](list []T, work func(T) error) error {
	s := share[T]{list: list, work: work}
	helper := s.worker
	if s.workers() > 1 && kernel.IsFIFO() {
		helper = func() { hasten(s.worker) }
	}
	for range s.workers() - 1 {
		s.group.Go(helper)
	}
	s.worker()
	s.group.Wait()
	return s.first
}

// hasten calls do at a priority that comes first. Where that cannot be had, it is only slower.
func hasten(do func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if was, err := kernel.SchedGetAttr(0); err == nil && kernel.SchedFIFO() == nil {
		defer kernel.SchedSetAttr(was)
	}
	do()
}

// gentle is the nice value of threads that let others go first: where processors are busy, they get about a tenth of what an ordinary thread gets
// (kernel/sched/core.c, sched_prio_to_weight).
const gentle = 10

// Gently is Each for work that can wait: applications that are busy meanwhile come first.
func Gently[T any](list []T, work func(T) error) error {
	s := share[T]{list: list, work: work}
	for range s.workers() {
		s.group.Go(func() {
			runtime.LockOSThread()     // for ever: the thread ends with the goroutine, and nothing else inherits its priority
			_ = kernel.SetNice(gentle) // a lower priority is always granted
			s.worker()
		})
	}
	s.group.Wait()
	return s.first
}

// share is work that is shared out.
type share[T any] struct {
	list []T
	work func(T) error

	next  atomic.Int64 // index of what nobody has taken yet
	once  sync.Once
	first error
	group sync.WaitGroup
}

func (s *share[T]) workers() int { return min(runtime.NumCPU(), len(s.list)) }

func (s *share[T]) worker() {
	for {
		i := int(s.next.Add(1)) - 1
		if i >= len(s.list) {
			return
		}
		if err := s.work(s.list[i]); err != nil {
			s.once.Do(func() { s.first = err })
			s.next.Store(int64(len(s.list)))
		}
	}
}
