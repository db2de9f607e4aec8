package parallel

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/kup-project/kup/internal/kernel"
)

func TestAllIsDoneOnce(t *testing.T) {
	t.Run("each", func(t *testing.T) { doesAllOnce(t, Each[int]) })
	t.Run("urgently", func(t *testing.T) { doesAllOnce(t, Urgently[int]) })
	t.Run("gently", func(t *testing.T) { doesAllOnce(t, Gently[int]) })
}

func doesAllOnce(t *testing.T, all func([]int, func(int) error) error) {
	t.Helper()
	done := make([]atomic.Int32, 1000)
	var list []int
	for i := range done {
		list = append(list, i)
	}
	if err := all(list, func(i int) error { done[i].Add(1); return nil }); err != nil {
		t.Fatal(err)
	}
	for i := range done {
		if n := done[i].Load(); n != 1 {
			t.Errorf("%d was done %d times", i, n)
		}
	}
	if err := all(nil, func(int) error { return errors.New("nothing was to be done") }); err != nil {
		t.Error(err)
	}
}

func TestEachReturnsTheErrorAndEndsEarly(t *testing.T) {
	failed := errors.New("failed")
	var after atomic.Int32
	err := Each(make([]int, 1<<20), func(int) error {
		after.Add(1)
		return failed
	})
	if !errors.Is(err, failed) {
		t.Errorf("error %v", err)
	}
	if n := after.Load(); n == 1<<20 {
		t.Errorf("all %d were done in spite of the error", n)
	}
}

func TestGentleThreadsLetOthersGoFirst(t *testing.T) {
	if err := Gently(make([]int, 100), func(int) error {
		attr, err := kernel.SchedGetAttr(0)
		if err == nil && attr.Nice != gentle {
			err = fmt.Errorf("nice value %d", attr.Nice)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	if attr, err := kernel.SchedGetAttr(0); err != nil || attr.Nice == gentle {
		t.Errorf("afterwards: %+v, %v", attr, err)
	}
}

func TestHelpersOfUrgentCallersAreUrgent(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	was, err := kernel.SchedGetAttr(0)
	if err != nil {
		t.Fatal(err)
	}
	if err := kernel.SchedFIFO(); err != nil {
		t.Skipf("no real-time priority here: %v", err)
	}
	err = Urgently(make([]int, 100), func(int) error {
		if !kernel.IsFIFO() {
			return errors.New("a helper has an ordinary priority")
		}
		return nil
	})
	if err := errors.Join(err, kernel.SchedSetAttr(was)); err != nil {
		t.Error(err)
	}
	if err := Urgently(make([]int, 100), func(int) error {
		if kernel.IsFIFO() {
			return errors.New("a helper has kept its priority, or took one that its caller had not")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
