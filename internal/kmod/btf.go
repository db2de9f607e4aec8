package kmod

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// typeInfo is what is of interest of a kernel's description of itself, see Documentation/bpf/btf.rst.
type typeInfo struct {
	functions map[string]bool
	structs   map[string][]string // names of the fields, by the structure's
}

// Kinds of BTF types.
const (
	kindStruct = 4
	kindFunc   = 12
)

// extraSize is how many bytes follow a type of each kind: so many, and so many for each of its members.
var extraSize = map[uint32][2]int{
	1: {4, 0}, 2: {}, 3: {12, 0}, kindStruct: {0, 12}, 5: {0, 12}, 6: {0, 8}, 7: {}, 8: {}, 9: {}, 10: {}, 11: {}, kindFunc: {}, 13: {0, 8}, 14: {4, 0},
	15: {0, 12}, 16: {}, 17: {4, 0}, 18: {}, 19: {0, 12},
}

var errBTF = errors.New("its description of its types (BTF) is of an unknown form")

// parseBTF reads a section .BTF. Little-endian.
func parseBTF(section []byte) (*typeInfo, error) {
	const magic, headerSize, typeSize = 0xeb9f, 24, 12
	le := binary.LittleEndian
	if len(section) < headerSize || le.Uint16(section) != magic {
		return nil, errBTF
	}
	part := func(at int) []byte {
		start := uint64(le.Uint32(section[4:])) + uint64(le.Uint32(section[at:]))
		end := start + uint64(le.Uint32(section[at+4:]))
		if end > uint64(len(section)) {
			return nil
		}
		return section[start:end]
	}
	types, strings := part(8), part(16)
	name := func(b []byte) string {
		at := le.Uint32(b)
		if uint64(at) >= uint64(len(strings)) {
			return ""
		}
		text, _, _ := bytes.Cut(strings[at:], []byte{0})
		return string(text)
	}
	info := &typeInfo{functions: map[string]bool{}, structs: map[string][]string{}}
	for len(types) >= typeSize {
		word := le.Uint32(types[4:])
		kind, members := word>>24&0x1f, int(word&0xffff)
		extra, known := extraSize[kind]
		size := typeSize + extra[0] + members*extra[1]
		if !known || size > len(types) {
			return nil, fmt.Errorf("%w: kind %d", errBTF, kind)
		}
		switch kind {
		case kindFunc:
			info.functions[name(types)] = true
		case kindStruct:
			var fields []string
			for at := typeSize; at < size; at += extra[1] {
				fields = append(fields, name(types[at:]))
			}
			info.structs[name(types)] = fields
		}
		types = types[size:]
	}
	return info, nil
}
