package image

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// maxMetadata caps the size of manifest, state and seal, bytes. A state of a thousand threads with AVX-512 has 11 MB.
const maxMetadata = 1 << 30

// encoder writes the same bytes for the same state: RFC 8949, section 4.2.1.
var encoder = func() cbor.EncMode {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	return mode
}()

// decoder accepts what encoder writes and little more. Memory of a decoded state is proportional to the input, which is capped.
var decoder = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		MaxNestedLevels:   16,
		MaxArrayElements:  1 << 24,
		MaxMapPairs:       1 << 10,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		// Paths and names are bytes to the kernel; a file may be called "\xff".
		UTF8: cbor.UTF8DecodeInvalid,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return mode
}()

// encodeState returns the state as it stands in state.cbor.
func encodeState(st *State) ([]byte, error) {
	data, err := encoder.Marshal(st)
	if err != nil {
		return nil, fmt.Errorf("encoding the state: %w", err)
	}
	// What nobody can read must fail now, not at restore.
	if len(data) > maxMetadata {
		return nil, fmt.Errorf("the state takes %d MiB, and no image may have more than %d MiB", len(data)>>20, maxMetadata>>20)
	}
	if err := decoder.Wellformed(data); err != nil {
		return nil, fmt.Errorf("the state is too large for an image: %w", err)
	}
	return data, nil
}

// decodeState reads what encodeState has written and validates it.
func decodeState(data []byte) (*State, error) {
	st := new(State)
	if err := decoder.Unmarshal(data, st); err != nil {
		return nil, fmt.Errorf("decoding the state: %w", err)
	}
	return st, Validate(st)
}
