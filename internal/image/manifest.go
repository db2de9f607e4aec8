package image

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/zeebo/blake3"
)

// Version is the format version that this package writes, and the latest that it reads. It reads all earlier ones, from 1 on.
const Version = 4

// Arch is the only architecture there is code for, as uname -m calls it.
const Arch = "x86_64"

// Names in an image directory that are not free for contents.
const (
	manifestName = "manifest"
	partialName  = "manifest.partial" // the manifest while it is not yet valid; locked while somebody writes
	stateName    = "state.cbor"
	sealName     = "seal.cbor"
)

// Manifest is the image's table of contents.
type Manifest struct {
	Format  int       `json:"-"`    // version, from the first line
	Tool    string    `json:"tool"` // version of the kup that wrote it
	Created time.Time `json:"created"`
	Arch    string    `json:"arch"`
	Kernel  string    `json:"kernel"` // uname -r
	XCR0    uint64    `json:"xcr0"`   // as Host.XCR0
	VDSO    string    `json:"vdso"`   // Host.VDSO.Hash in hexadecimal
	Files   []Entry   `json:"files"`  // all files of the image but this one, by name
}

// Entry is one file of an image.
type Entry struct {
	Name string    `json:"name"`
	Kind EntryKind `json:"kind"`
	Size int64     `json:"size"`             // bytes
	Hash string    `json:"blake3,omitempty"` // of state and seal, hexadecimal; the seal has those of contents
}

// EntryKind says what a file of an image is.
type EntryKind string

const (
	EntryState EntryKind = "state" // the State, CBOR
	EntrySeal  EntryKind = "seal"  // hashes of the contents, CBOR
	EntryFOAM  EntryKind = "foam"  // page contents
	EntryFile  EntryKind = "file"  // the bytes of a file that was deleted while open
)

// entry returns the entry of a file, nil if there is none.
func (m *Manifest) entry(name string) *Entry {
	for i := range m.Files {
		if m.Files[i].Name == name {
			return &m.Files[i]
		}
	}
	return nil
}

// Sealed says whether the image has hashes of its contents.
func (m *Manifest) Sealed() bool { return m.entry(sealName) != nil }

// The first line of a manifest is for people and programs of all versions: magic, format version, hash of all that follows.
const (
	headMagic  = "kup image "
	headFormat = headMagic + "%d blake3 %s\n"
)

// head returns the first line. From version 3 on the hash is over the version, too: a damaged 3 must not read as a 2.
func head(version int, body []byte) string {
	hashed := body
	if version >= 3 {
		hashed = fmt.Appendf(nil, "%d\n%s", version, body)
	}
	return fmt.Sprintf(headFormat, version, hashHex(hashed))
}

// encode returns the manifest as it stands in the file.
func (m *Manifest) encode() ([]byte, error) {
	body, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the manifest: %w", err)
	}
	body = append(body, '\n')
	return append([]byte(head(Version, body)), body...), nil
}

// parseManifest reads what encode has written. Errors say what is wrong, not where.
func parseManifest(data []byte) (*Manifest, error) {
	first, body, ok := bytes.Cut(data, []byte("\n"))
	if !ok || !bytes.HasPrefix(first, []byte(headMagic)) {
		return nil, reject(ErrNotImage, "the manifest does not begin with %q", headMagic)
	}
	fields := strings.Fields(string(first[len(headMagic):]))
	if len(fields) == 0 {
		return nil, reject(ErrCorrupt, "the manifest's first line is damaged")
	}
	// The version comes before all other checks: a later one may hash or encode differently.
	var version int
	if _, err := fmt.Sscanf(fields[0], "%d", &version); err != nil || fmt.Sprint(version) != fields[0] {
		return nil, reject(ErrCorrupt, "the manifest's first line is damaged")
	}
	if version < 1 || version > Version {
		return nil, reject(ErrVersion, "it has format version %d and this kup reads versions 1 to %d; use the kup that wrote it, or a later one",
			version, Version)
	}
	if string(first)+"\n" != head(version, body) {
		return nil, reject(ErrCorrupt, "the manifest does not fit its hash")
	}
	m := &Manifest{Format: version}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(m); err != nil {
		return nil, reject(ErrCorrupt, "the manifest cannot be decoded: %w", err)
	}
	return m, m.check()
}

// check looks for what the rest of the package relies on.
func (m *Manifest) check() error {
	seen := map[string]bool{}
	for _, e := range m.Files {
		if err := checkEntry(e); err != nil {
			return err
		}
		if seen[e.Name] {
			return reject(ErrCorrupt, "the manifest lists %s twice", e.Name)
		}
		seen[e.Name] = true
	}
	if !seen[stateName] {
		return reject(ErrCorrupt, "the manifest lists no %s", stateName)
	}
	return nil
}

func checkEntry(e Entry) error {
	want := map[EntryKind]string{EntryState: stateName, EntrySeal: sealName}[e.Kind]
	switch {
	case want != "" && e.Name != want:
		return reject(ErrCorrupt, "the manifest calls %q the %s", e.Name, e.Kind)
	case want == "" && e.Kind != EntryFOAM && e.Kind != EntryFile:
		return reject(ErrCorrupt, "the manifest lists %q as %q", e.Name, e.Kind)
	case want == "" && checkName(e.Name) != nil:
		return reject(ErrCorrupt, "the manifest: %w", checkName(e.Name))
	case e.Size < 0 || e.Size == math.MaxInt64:
		return reject(ErrCorrupt, "the manifest gives %s a size of %d", e.Name, e.Size)
	}
	return nil
}

// checkName returns an error if a name cannot be that of contents in an image directory.
func checkName(name string) error {
	switch {
	case name == "" || len(name) > 255 || name[0] == '.' || strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("%q is no name for a file of an image", name)
	case name == manifestName || name == partialName || name == stateName || name == sealName:
		return fmt.Errorf("%q is a reserved name in an image", name)
	}
	return nil
}

// hashHex returns the BLAKE3 hash of data in hexadecimal.
func hashHex(data []byte) string {
	sum := blake3.Sum256(data)
	return hex.EncodeToString(sum[:])
}
