package image

import (
	"bytes"
	"fmt"
	"os"
)

// verifyContents compares all contents with the seal, but for those in files of the names in later, of which it only notes the hashes.
func (i *Image) verifyContents(later map[string]bool, progress func(done, total int64)) error {
	seals, err := i.loadSeals()
	if err != nil {
		return err
	}
	files, err := foams(i.State)
	if err != nil {
		return err
	}
	i.unverified = map[string][]byte{}
	var jobs []hashJob
	for _, s := range seals.Files {
		f, err := os.Open(i.Path(s.Name))
		if err != nil {
			return damaged(i.Dir, s.Name, "%w", err)
		}
		defer f.Close()
		data := s.Data
		if foam := files[s.Name]; foam != nil {
			data = foam.runs()
		}
		if err := checkHoles(f, i.Manifest.entry(s.Name).Size, data); err != nil {
			return damaged(i.Dir, s.Name, "%w", err)
		}
		all, err := comparisons(f, s.Name, cut(data), s.Hashes)
		if err != nil {
			return damaged(i.Dir, sealName, "%w", err)
		}
		if later[s.Name] {
			i.unverified[s.Name] = s.Hashes
			continue
		}
		jobs = append(jobs, all...)
	}
	if err := hashAll(jobs, progress); err != nil {
		return reject(ErrCorrupt, "image %s: %w; the image is damaged and cannot be used", i.Dir, err)
	}
	return nil
}

// comparisons returns the jobs that compare chunks of a file with their hashes.
func comparisons(f *os.File, name string, chunks []chunk, hashes []byte) (jobs []hashJob, err error) {
	if len(hashes) != len(chunks)*hashSize {
		return nil, fmt.Errorf("it has %d bytes of hashes for the %d chunks of %s", len(hashes), len(chunks), name)
	}
	for n, c := range chunks {
		want := hashes[n*hashSize:][:hashSize]
		jobs = append(jobs, hashJob{f, name, c, func(hash []byte) error {
			if bytes.Equal(hash, want) {
				return nil
			}
			return fmt.Errorf("the bytes between offsets %#x and %#x do not fit their hash", c[0].Start, c[len(c)-1].End)
		}})
	}
	return jobs, nil
}

// loadSeals reads the seal. Afterwards it has one entry for each file of contents.
func (i *Image) loadSeals() (*Seals, error) {
	data, err := readHashed(i.Dir, i.Manifest.entry(sealName))
	if err != nil {
		return nil, err
	}
	var seals Seals
	if err := decoder.Unmarshal(data, &seals); err != nil {
		return nil, damaged(i.Dir, sealName, "decoding it: %w", err)
	}
	n := 0
	for _, e := range i.Manifest.Files {
		if e.Kind != EntryFOAM && e.Kind != EntryFile {
			continue
		}
		if n == len(seals.Files) || seals.Files[n].Name != e.Name {
			return nil, damaged(i.Dir, sealName, "it has no hashes for %s", e.Name)
		}
		// Runs behind the end of the file would read as errors, and overlapping ones without end.
		var last uint64
		for _, r := range seals.Files[n].Data {
			if r.Start < last || r.Start >= r.End || r.End > uint64(e.Size) {
				return nil, damaged(i.Dir, sealName, "it has impossible offsets for %s", e.Name)
			}
			last = r.End
		}
		n++
	}
	if n != len(seals.Files) {
		return nil, damaged(i.Dir, sealName, "it has hashes for %s, which is not in the manifest", seals.Files[n].Name)
	}
	return &seals, nil
}

// checkHoles checks that a file reads as zeros outside of its data.
func checkHoles(f *os.File, size int64, data []Extent) error {
	runs, err := dataRuns(f, size)
	if err != nil {
		return err
	}
	for _, r := range outside(runs, data) {
		err := readRun(f, r, func(offset uint64, part []byte) error {
			if !bytes.Equal(part, zeros[:len(part)]) {
				return fmt.Errorf("there is something at offset %#x or soon after it, where nothing was stored", offset)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// zeros is what a part of a hole reads as.
var zeros [partSize]byte
