package image

import (
	"fmt"

	"github.com/zeebo/blake3"
)

// HashSize is the length of the hash of a page, bytes: the beginning of its BLAKE3. That is enough against accidents.
const HashSize = 8

// HashPages puts the hashes of whole pages into a list of them.
func HashPages(hashes, pages []byte) {
	for len(pages) > 0 {
		sum := blake3.Sum256(pages[:pageSize])
		copy(hashes[:HashSize], sum[:])
		hashes, pages = hashes[HashSize:], pages[pageSize:]
	}
}

// checkHashes checks that there is a hash for each page, or none at all.
func (f *FOAM) checkHashes() error {
	want := int(f.Stored() / pageSize * HashSize)
	if n := len(f.Hashes); n > 0 && (n != want || !f.Physical) {
		return fmt.Errorf("%s: %d bytes of hashes of pages, instead of %d, or none for what is in a file", f.Name, n, want)
	}
	return nil
}
