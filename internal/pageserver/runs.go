package pageserver

import (
	"encoding/binary"
	"errors"

	"github.com/kup-project/kup/internal/image"
)

// Runs are extents that the restore hands to the page server as one string of bytes: there may be hundreds of thousands.
type Runs []image.Extent

// MarshalBinary implements encoding.BinaryMarshaler.
func (r Runs) MarshalBinary() ([]byte, error) {
	data := make([]byte, 0, 16*len(r))
	for _, e := range r {
		data = binary.LittleEndian.AppendUint64(data, e.Start)
		data = binary.LittleEndian.AppendUint64(data, e.End)
	}
	return data, nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (r *Runs) UnmarshalBinary(data []byte) error {
	if len(data)%16 != 0 {
		return errors.New("not a list of extents")
	}
	*r = make(Runs, 0, len(data)/16)
	for ; len(data) > 0; data = data[16:] {
		*r = append(*r, image.Extent{Start: binary.LittleEndian.Uint64(data), End: binary.LittleEndian.Uint64(data[8:])})
	}
	return nil
}
