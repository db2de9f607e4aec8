package kexec

import (
	"encoding/binary"
	"errors"
	"testing"
)

// TestReservedMemoryIsToldAndLeftAlone reads setup_data as the next kernel does.
func TestReservedMemoryIsToldAndLeftAlone(t *testing.T) {
	const mb = 1 << 20
	reserve := Ranges{{1 * mb, 20 * mb}, {100 * mb, 128 * mb}}
	c := testCargo(t, ram(Range{0, 128 * mb}), 3*mb)
	c.reserve = reserve
	segments, _, err := place(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range segments {
		if reserve.Overlaps(s.Range) {
			t.Errorf("%s lies in reserved memory, at %v", s.Name, s.Range)
		}
	}
	boot := segments[len(segments)-1]
	le := binary.LittleEndian
	var told []Range
	for next := le.Uint64(boot.at(boot.Start + trampolineSize)[offSetupData:]); next != 0; {
		item := boot.at(next)
		next = le.Uint64(item)
		if le.Uint32(item[8:]) != setupIndirect {
			continue
		}
		size, typ := le.Uint32(item[12:]), le.Uint32(item[16:])
		if size != 24 || typ != 0x804b5550 {
			t.Errorf("setup_indirect of %d bytes, type %#x", size, typ)
		}
		start := le.Uint64(item[32:])
		told = append(told, Range{start, start + le.Uint64(item[24:])})
	}
	if len(told) != 2 || told[0] != reserve[0] || told[1] != reserve[1] {
		t.Errorf("the next kernel would reserve %v instead of %v", told, reserve)
	}
}

func TestReservationsThatKernelsCannotTakeAreRefused(t *testing.T) {
	memory := MemoryMap{{Range{0, 1 << 30}, MemoryRAM}, {Range{1 << 30, 2 << 30}, MemorySoft}}
	var many Ranges
	for i := range uint64(reserveMax + 1) {
		many = append(many, Range{i * 2 * pageSize, (i*2 + 1) * pageSize})
	}
	for _, tt := range []struct {
		name    string
		reserve Ranges
		want    error
	}{
		{"none", nil, nil},
		{"as many as there can be", many[:reserveMax], nil},
		{"too many", many, ErrUnsupportedMachine},
		{"no RAM", Ranges{{1 << 30, 2 << 30}}, ErrUnsupportedMachine},
		{"partly no RAM", Ranges{{1<<30 - pageSize, 1<<30 + pageSize}}, ErrUnsupportedMachine},
	} {
		if err := checkReserve(tt.reserve, memory); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if err := checkReserve(Ranges{{pageSize / 2, pageSize}}, memory); err == nil {
		t.Error("half a page is accepted")
	}
}
