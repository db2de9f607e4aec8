package kexec

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestRangeOverlapsOnlyWithABytePresentInBoth(t *testing.T) {
	for _, tt := range []struct {
		name string
		a, b Range
		want bool
	}{
		{"apart", Range{0, 10}, Range{20, 30}, false},
		{"touching", Range{0, 10}, Range{10, 20}, false},
		{"last byte", Range{0, 10}, Range{9, 20}, true},
		{"inside", Range{0, 10}, Range{4, 5}, true},
		{"the same", Range{3, 5}, Range{3, 5}, true},
		{"empty inside", Range{0, 10}, Range{5, 5}, false},
		{"reversed", Range{0, 10}, Range{6, 5}, false},
		{"top of memory", Range{math.MaxUint64 - 1, math.MaxUint64}, Range{0, math.MaxUint64}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.a.Overlaps(tt.b); got != tt.want {
				t.Errorf("%v overlaps %v = %t, want %t", tt.a, tt.b, got, tt.want)
			}
			if got := tt.b.Overlaps(tt.a); got != tt.want {
				t.Errorf("%v overlaps %v = %t, want %t", tt.b, tt.a, got, tt.want)
			}
		})
	}
}

func TestNewRangesSortsAndJoins(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   []Range
		want Ranges
	}{
		{"nothing", nil, nil},
		{"empty members", []Range{{5, 5}, {9, 3}}, nil},
		{"unsorted", []Range{{20, 30}, {0, 10}}, Ranges{{0, 10}, {20, 30}}},
		{"touching", []Range{{0, 10}, {10, 20}}, Ranges{{0, 20}}},
		{"overlapping", []Range{{5, 20}, {0, 10}}, Ranges{{0, 20}}},
		{"one inside the other", []Range{{0, 100}, {10, 20}, {30, 40}}, Ranges{{0, 100}}},
		{"twice the same", []Range{{0, 1}, {0, 1}}, Ranges{{0, 1}}},
		{"a chain", []Range{{20, 30}, {10, 20}, {0, 10}, {40, 50}}, Ranges{{0, 30}, {40, 50}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, NewRanges(tt.in...)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMinusRemovesExactlyTheRange(t *testing.T) {
	ram := Ranges{{0, 100}, {200, 300}}
	for _, tt := range []struct {
		name string
		cut  Range
		want Ranges
	}{
		{"outside", Range{100, 200}, ram},
		{"empty", Range{50, 50}, ram},
		{"start", Range{0, 10}, Ranges{{10, 100}, {200, 300}}},
		{"end", Range{90, 100}, Ranges{{0, 90}, {200, 300}}},
		{"middle", Range{40, 60}, Ranges{{0, 40}, {60, 100}, {200, 300}}},
		{"a whole member", Range{200, 300}, Ranges{{0, 100}}},
		{"over a gap", Range{50, 250}, Ranges{{0, 50}, {250, 300}}},
		{"everything", Range{0, 1000}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, ram.Minus(tt.cut)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWithinKeepsOnlyTheRange(t *testing.T) {
	ram := Ranges{{0, 100}, {200, 300}}
	for _, tt := range []struct {
		name string
		keep Range
		want Ranges
	}{
		{"gap", Range{100, 200}, nil},
		{"part of one", Range{10, 20}, Ranges{{10, 20}}},
		{"parts of both", Range{50, 250}, Ranges{{50, 100}, {200, 250}}},
		{"everything", Range{0, 1000}, ram},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, ram.Within(tt.keep)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRangesOverlapsAndContains(t *testing.T) {
	ram := Ranges{{0, 100}, {200, 300}}
	for _, tt := range []struct {
		name               string
		r                  Range
		overlaps, contains bool
	}{
		{"inside", Range{10, 20}, true, true},
		{"a whole member", Range{200, 300}, true, true},
		{"in the gap", Range{100, 200}, false, false},
		{"half in the gap", Range{90, 110}, true, false},
		{"over the gap", Range{50, 250}, true, false},
		{"above", Range{300, 400}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := ram.Overlaps(tt.r); got != tt.overlaps {
				t.Errorf("overlaps = %t, want %t", got, tt.overlaps)
			}
			if got := ram.Contains(tt.r); got != tt.contains {
				t.Errorf("contains = %t, want %t", got, tt.contains)
			}
		})
	}
}

func TestFindSpaceHonoursSizeAndAlignment(t *testing.T) {
	ram := Ranges{{0x1000, 0x9f000}, {0x100000, 0x8000000}, {0x100000000, 0x140000000}}
	for _, tt := range []struct {
		name        string
		ram         Ranges
		size, align uint64
		low, high   Range
		found       bool
	}{
		{"a page", ram, 0x1000, 0x1000, Range{0x1000, 0x2000}, Range{0x13ffff000, 0x140000000}, true},
		{"exactly the first", ram, 0x9e000, 0x1000, Range{0x1000, 0x9f000}, Range{0x13ff62000, 0x140000000}, true},
		{"too large for the first", ram, 0x9f000, 0x1000, Range{0x100000, 0x19f000}, Range{0x13ff61000, 0x140000000}, true},
		{"2 MB aligned", ram, 0x200000, 0x200000, Range{0x200000, 0x400000}, Range{0x13fe00000, 0x140000000}, true},
		{"odd size", ram, 0x1801, 0x1000, Range{0x1000, 0x2801}, Range{0x13fffe000, 0x13ffff801}, true},
		{"only above 4 GB", ram, 0x10000000, 0x200000, Range{0x100000000, 0x110000000}, Range{0x130000000, 0x140000000}, true},
		{"larger than all", ram, 0x80000000, 0x1000, Range{}, Range{}, false},
		{"lost to alignment", Ranges{{0x1000, 0x3ff000}}, 0x200000, 0x200000, Range{}, Range{}, false},
		{"no memory", nil, 1, 1, Range{}, Range{}, false},
		{"end of the address space", Ranges{{math.MaxUint64 - 10, math.MaxUint64}}, 1, 0x1000, Range{}, Range{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			low, ok := tt.ram.FindSpace(tt.size, tt.align)
			if low != tt.low || ok != tt.found {
				t.Errorf("lowest = %v, %t; want %v, %t", low, ok, tt.low, tt.found)
			}
			high, ok := tt.ram.FindSpaceHigh(tt.size, tt.align)
			if high != tt.high || ok != tt.found {
				t.Errorf("highest = %v, %t; want %v, %t", high, ok, tt.high, tt.found)
			}
		})
	}
}

func TestRangesSize(t *testing.T) {
	if got := (Ranges{{0, 100}, {200, 300}}).Size(); got != 200 {
		t.Errorf("size = %d, want 200", got)
	}
}

// TestRangesAgreeWithASetOfBytes compares every operation with the obvious implementation on a small address space.
func TestRangesAgreeWithASetOfBytes(t *testing.T) {
	const space = 64
	bytesOf := func(rs ...Range) (set [space]bool) {
		for _, r := range rs {
			for i := r.Start; i < r.End; i++ {
				set[i] = true
			}
		}
		return set
	}
	rapid.Check(t, func(t *rapid.T) {
		draw := rapid.Custom(func(t *rapid.T) Range {
			start := rapid.Uint64Range(0, space).Draw(t, "start")
			return Range{start, rapid.Uint64Range(start, space).Draw(t, "end")}
		})
		members := rapid.SliceOfN(draw, 0, 8).Draw(t, "members")
		r := draw.Draw(t, "r")
		rs := NewRanges(members...)
		have, cut := bytesOf(members...), bytesOf(r)
		if bytesOf(rs...) != have {
			t.Fatalf("NewRanges(%v) = %v", members, rs)
		}
		minus, within, overlaps := have, have, false
		for i := range have {
			minus[i] = have[i] && !cut[i]
			within[i] = have[i] && cut[i]
			overlaps = overlaps || within[i]
		}
		if got := rs.Minus(r); bytesOf(got...) != minus {
			t.Fatalf("%v minus %v = %v", rs, r, got)
		}
		if got := rs.Within(r); bytesOf(got...) != within {
			t.Fatalf("%v within %v = %v", rs, r, got)
		}
		if rs.Overlaps(r) != overlaps {
			t.Fatalf("%v overlaps %v = %t", rs, r, !overlaps)
		}
		if r.Size() > 0 && rs.Contains(r) != (within == cut) {
			t.Fatalf("%v contains %v = %t", rs, r, rs.Contains(r))
		}
	})
}
