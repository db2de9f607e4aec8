package kmod

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
)

// testBTF is a section with an int, a structure userfaultfd_ctx of the given fields, and functions.
func testBTF(fields, functions []string) []byte {
	names := []byte{0}
	name := func(text string) uint32 {
		at := len(names)
		names = append(append(names, text...), 0)
		return uint32(at)
	}
	var types []byte
	words := func(ws ...uint32) {
		for _, w := range ws {
			types = binary.LittleEndian.AppendUint32(types, w)
		}
	}
	words(name("int"), 1<<24, 4, 32) // has one word more
	words(name("userfaultfd_ctx"), kindStruct<<24|uint32(len(fields)), 100)
	for _, f := range fields {
		words(name(f), 1, 0)
	}
	words(0, 13<<24|1, 1, name("parameter"), 1) // a prototype
	for _, f := range functions {
		words(name(f), kindFunc<<24, 3)
	}
	section := binary.LittleEndian.AppendUint32(nil, 0x0001eb9f)
	for _, w := range []int{24, 0, len(types), len(types), len(names)} {
		section = binary.LittleEndian.AppendUint32(section, uint32(w))
	}
	return append(append(section, types...), names...)
}

func TestMissingFunctionsAreNamed(t *testing.T) {
	built := []byte("\x00mfill_atomic_install_pte\x00__pte_alloc\x00")
	for _, tt := range []struct {
		name              string
		fields, functions []string
		says              string
	}{
		{"all is there", uffdFields, []string{"__pte_alloc", "mfill_atomic_install_pte"}, ""},
		{"more than is needed", slices.Insert(slices.Clone(uffdFields), 9, "map_changing_lock"), []string{"a", "__pte_alloc", "mfill_atomic_install_pte"}, ""},
		{"a function is missing", uffdFields, []string{"__pte_alloc"}, "no function mfill_atomic_install_pte"},
		{"a structure has changed", uffdFields[1:], []string{"__pte_alloc", "mfill_atomic_install_pte"}, "userfaultfd_ctx"},
	} {
		info, err := parseBTF(testBTF(tt.fields, tt.functions))
		if err != nil {
			t.Fatal(err)
		}
		names, err := checkTypes(info, built)
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if !slices.Equal(names, []string{"mfill_atomic_install_pte", "__pte_alloc"}) {
			t.Errorf("%s: looked for %v", tt.name, names)
		}
	}
}

func TestDamagedBTFIsRefused(t *testing.T) {
	whole := testBTF(uffdFields, []string{"f"})
	for n := range len(whole) {
		// What is cut off must not be read; whether it is missed depends on where the cut is.
		if info, err := parseBTF(whole[:n]); err == nil && info.functions["f"] {
			t.Errorf("%d bytes of %d are enough", n, len(whole))
		}
	}
	whole[24+7] = 31 // the kind of the first type
	if _, err := parseBTF(whole); !errors.Is(err, errBTF) {
		t.Error(err)
	}
}
