package image

import (
	"encoding/binary"
	"errors"
)

// Windows are the windows of a FOAM. There may be hundreds of thousands, if it is in page frames, and they are written and read while applications stand still: in an
// image they are one string of bytes, three numbers (binary.AppendUvarint) for each window: how far its start is behind that of the window before, its size, and how
// far its offset is behind the end of the window before, where the sign is the lowest bit (binary.AppendVarint).
type Windows []Window

// MarshalBinary implements encoding.BinaryMarshaler.
func (ws Windows) MarshalBinary() ([]byte, error) {
	data := make([]byte, 0, 8*len(ws))
	var last Window
	for _, w := range ws {
		data = binary.AppendUvarint(data, w.Start-last.Start)
		data = binary.AppendUvarint(data, w.End-w.Start)
		data = binary.AppendVarint(data, int64(w.Offset-last.behind()))
		last = w
	}
	return data, nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (ws *Windows) UnmarshalBinary(data []byte) error {
	all := make(Windows, 0, len(data)/3)
	var last Window
	for len(data) > 0 {
		var w Window
		start, a := binary.Uvarint(data)
		size, b := binary.Uvarint(data[max(a, 0):])
		offset, c := binary.Varint(data[max(a, 0)+max(b, 0):])
		if a <= 0 || b <= 0 || c <= 0 {
			return errors.New("not a list of windows")
		}
		w.Start = last.Start + start
		w.End = w.Start + size
		w.Offset = last.behind() + uint64(offset)
		all, last, data = append(all, w), w, data[a+b+c:]
	}
	*ws = all
	return nil
}

// behind is the offset of what follows in the file.
func (w Window) behind() uint64 { return w.Offset + (w.End - w.Start) }
