package pageserver

import (
	"slices"
	"testing"

	"github.com/kup-project/kup/internal/frames"
)

func TestFramesAreBoundOnlyIfNobodyElseLacksThem(t *testing.T) {
	binder := &frames.Binder{}
	for _, c := range []struct {
		name  string
		f     family
		owner bool // the first space
	}{
		{"alone", family{open: true, spaces: []*space{{pid: 5, binder: binder}}}, true},
		{"before the process runs", family{spaces: []*space{{pid: 5, binder: binder}}}, false},
		{"not in page frames", family{open: true, spaces: []*space{{pid: 5}}}, false},
		{"with a child", family{open: true, spaces: []*space{{pid: 5, binder: binder}, {binder: binder}}}, false},
		{"a child that is left over", family{open: true, spaces: []*space{{binder: binder}}}, false},
	} {
		if c.f.assign(); c.f.spaces[0].owner != c.owner {
			t.Errorf("%s: may bind: %v", c.name, c.f.spaces[0].owner)
		}
	}
}

func TestChildrenComeFirstIfTheirParentsFramesCanBeBoundAfterwards(t *testing.T) {
	binder := &frames.Binder{}
	for _, c := range []struct {
		binder *frames.Binder
		want   []int
	}{
		{nil, []int{0, 0, 0, 0, 0}},
		{binder, []int{2, 2, 2, 0, 2}},
	} {
		f := family{spaces: []*space{{binder: c.binder}, {binder: c.binder}, {binder: c.binder}}}
		var got []int
		for range c.want {
			got = append(got, slices.Index(f.spaces, f.turn()))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("expected the order %v, got %v", c.want, got)
		}
	}
}

func TestBindingGoesOnBehindAPageThatCannotBeBound(t *testing.T) {
	list := []frames.Binding{{Address: 0x1000, Start: 0x91000, Length: 0x1000}, {Address: 0x4000, Start: 0x84000, Length: 0x3000}}
	for _, c := range []struct {
		stuck frames.BindError
		want  []frames.Binding
	}{
		{frames.BindError{Binding: 0}, list[1:]},
		{frames.BindError{Binding: 1}, []frames.Binding{{Address: 0x5000, Start: 0x85000, Length: 0x2000}}},
		{frames.BindError{Binding: 1, Offset: 0x1000}, []frames.Binding{{Address: 0x6000, Start: 0x86000, Length: 0x1000}}},
		{frames.BindError{Binding: 1, Offset: 0x2000}, nil},
	} {
		if got := behind(slices.Clone(list), &c.stuck); !slices.Equal(got, c.want) {
			t.Errorf("%+v: expected %v, got %v", c.stuck, c.want, got)
		}
	}
}
