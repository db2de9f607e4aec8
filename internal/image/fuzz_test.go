package image

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzDecodeState feeds the decoder with what no hash has protected.
func FuzzDecodeState(f *testing.F) {
	for n := range 5 {
		data, err := encodeState(states().Example(n))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte{0xa1, 0x65, 'f', 'i', 'l', 'e', 's', 0x9a, 0xff, 0xff, 0xff, 0xff}) // four billion files
	f.Add(bytes.Repeat([]byte{0x81}, 1000))                                          // a thousand lists in each other
	f.Fuzz(func(t *testing.T, data []byte) {
		st, err := decodeState(data)
		if err != nil {
			return
		}
		again, err := encodeState(st)
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		if _, err := decodeState(again); err != nil {
			t.Fatalf("what was decoded and encoded cannot be decoded: %v", err)
		}
		NeedsXCR0(st)
		if err := (&View{Manifest: &Manifest{}, State: st}).WriteJSON(new(bytes.Buffer)); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzParseManifest feeds the manifest's parser with bodies whose hash fits.
func FuzzParseManifest(f *testing.F) {
	data, err := os.ReadFile(filepath.Join(write(f, minimal(), true), manifestName))
	if err != nil {
		f.Fatal(err)
	}
	_, body, _ := bytes.Cut(data, []byte("\n"))
	f.Add(body)
	f.Add([]byte(`{"files":[{"name":"state.cbor","kind":"state"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		parseManifest(body)
		head := []byte(head(Version, body))
		m, err := parseManifest(append(head, body...))
		if err != nil {
			return
		}
		for _, e := range m.Files {
			if e.Name != filepath.Base(e.Name) {
				t.Fatalf("file %q would lie outside of the image", e.Name)
			}
		}
	})
}
