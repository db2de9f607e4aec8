package image

import (
	"math"
	"slices"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

func TestWindowsAreReadAsTheyWereWritten(t *testing.T) {
	const most = math.MaxUint64
	for _, all := range []Windows{
		{},
		{{Start: 0x1000, End: 0x3000, Offset: 0}},
		{{Start: 0x1000, End: 0x3000, Offset: 0x80000000}, {Start: 0x3000, End: 0x4000, Offset: 0x1000}, {Start: 0x7f0000000000, End: 0x7f0000200000, Offset: 0x200000}},
		{{Start: most, End: 0, Offset: most}, {Start: 5, End: 4, Offset: 1 << 63}}, // nonsense is for Validate to find
	} {
		data, err := encoder.Marshal(FOAM{Windows: all})
		if err != nil {
			t.Fatal(err)
		}
		var got FOAM
		if err := decoder.Unmarshal(data, &got); err != nil || !slices.Equal(got.Windows, all) {
			t.Errorf("%#x instead of %#x: %v", got.Windows, all, err)
		}
	}
}

// Until version 3 they were an array of maps.
func TestWindowsOfOlderImagesAreRead(t *testing.T) {
	all := []Window{{Start: 0x1000, End: 0x3000, Offset: 0x2000}, {Start: 0x5000, End: 0x6000, Offset: 0}}
	data, err := encoder.Marshal(map[string]any{"name": "1.foam", "windows": all, "extents": []Extent{}})
	if err != nil {
		t.Fatal(err)
	}
	var got FOAM
	if err := decoder.Unmarshal(data, &got); err != nil || !slices.Equal(got.Windows, all) {
		t.Errorf("%#x instead of %#x: %v", got.Windows, all, err)
	}
}

func TestDamagedWindowsAreRefused(t *testing.T) {
	good, err := Windows{{Start: 0x7f0000001000, End: 0x7f0000003000, Offset: 0x80000000}}.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n < len(good); n++ {
		data, err := cbor.Marshal(good[:n])
		if err != nil {
			t.Fatal(err)
		}
		var got Windows
		if err := decoder.Unmarshal(data, &got); err == nil {
			t.Errorf("the first %d bytes give %#x", n, got)
		}
	}
}
