package parallel

import (
	"errors"
	"sync/atomic"
	"testing"
)

func TestEachDoesAllOnce(t *testing.T) {
	done := make([]atomic.Int32, 1000)
	var list []int
	for i := range done {
		list = append(list, i)
	}
	if err := Each(list, func(i int) error { done[i].Add(1); return nil }); err != nil {
		t.Fatal(err)
	}
	for i := range done {
		if n := done[i].Load(); n != 1 {
			t.Errorf("%d was done %d times", i, n)
		}
	}
	if err := Each(nil, func(int) error { return errors.New("nothing was to be done") }); err != nil {
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
