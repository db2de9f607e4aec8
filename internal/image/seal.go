package image

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/parallel"
	"github.com/zeebo/blake3"
)

// chunkSize is how many bytes of contents one hash covers; the last one of a file covers less.
const chunkSize = 4 << 20

// hashSize is the length of a BLAKE3 hash, bytes.
const hashSize = 32

// Seals is what seal.cbor holds: the hashes of all contents.
type Seals struct {
	Files []FileSeal `json:"files"` // by name
}

// FileSeal has the hashes of one file's contents. They are taken over its data: of a FOAM file over its extents, ascending by address;
// of another file over Data. The data are cut into chunks of 4 MiB, counting data only; a hash is that of the chunk's
// runs, each preceded by its file offset and length as 64-bit little-endian words. What is not data must be zeros.
type FileSeal struct {
	Name   string   `json:"name"`
	Data   []Extent `json:"data,omitempty"` // file offsets
	Hashes []byte   `json:"hashes"`         // 32 bytes for each chunk
}

// chunk is what one hash covers: runs of file offsets.
type chunk []Extent

// cut divides runs into chunks.
func cut(runs []Extent) []chunk {
	var chunks []chunk
	var current chunk
	var room uint64 = chunkSize
	for _, r := range runs {
		for r.Start < r.End {
			n := min(room, r.End-r.Start)
			current = append(current, Extent{r.Start, r.Start + n})
			r.Start += n
			room -= n
			if room == 0 {
				chunks, current, room = append(chunks, current), nil, chunkSize
			}
		}
	}
	if len(current) > 0 {
		chunks = append(chunks, current)
	}
	return chunks
}

// size is how many bytes the chunk covers.
func (c chunk) size() int64 {
	var n uint64
	for _, r := range c {
		n += r.End - r.Start
	}
	return int64(n)
}

// hash reads the chunk from f and returns its hash, as FileSeal describes it. Each part of it is handed to take, too.
func (c chunk) hash(f *os.File, take taker) ([]byte, error) {
	h := blake3.New()
	for _, r := range c {
		head := binary.LittleEndian.AppendUint64(nil, r.Start)
		h.Write(binary.LittleEndian.AppendUint64(head, r.End-r.Start))
		err := readRun(f, r, func(offset uint64, part []byte) error {
			h.Write(part)
			return take(offset, part)
		})
		if err != nil {
			return nil, err
		}
	}
	return h.Sum(nil), nil
}

// read reads the chunk from f and hands each part of it to take.
func (c chunk) read(f *os.File, take taker) error {
	for _, r := range c {
		if err := readRun(f, r, take); err != nil {
			return err
		}
	}
	return nil
}

// taker gets what stands at an offset of a file. The bytes are only valid until it returns.
type taker func(offset uint64, part []byte) error

// partSize is how much is read at a time, bytes: it is in a processor's own cache then, for all that is done with it.
const partSize = 512 << 10

// parts are buffers for what is read.
var parts = sync.Pool{New: func() any { return new([partSize]byte) }}

// readRun reads a run of file offsets in parts.
func readRun(f *os.File, r Extent, take taker) error {
	buf := parts.Get().(*[partSize]byte)
	defer parts.Put(buf)
	for at := r.Start; at < r.End; {
		part := buf[:min(uint64(len(buf)), r.End-at)]
		if _, err := f.ReadAt(part, int64(at)); err != nil {
			return fmt.Errorf("reading at offset %#x: %w", at, err)
		}
		if err := take(at, part); err != nil {
			return err
		}
		at += uint64(len(part))
	}
	return nil
}

// runs returns the file offsets of a FOAM's extents, ascending by address. No run goes across a window's border.
func (f *FOAM) runs() []Extent {
	var out []Extent
	i := 0
	for _, w := range f.Windows {
		for ; i < len(f.Extents); i++ {
			start, end := max(f.Extents[i].Start, w.Start), min(f.Extents[i].End, w.End)
			if start < end {
				out = append(out, Extent{w.Offset + (start - w.Start), w.Offset + (end - w.Start)})
			}
			if f.Extents[i].End > w.End {
				break // goes on in a later window
			}
		}
	}
	return out
}

// dataRuns returns where f has data according to its file system, up to size.
func dataRuns(f *os.File, size int64) ([]Extent, error) {
	var out []Extent
	for at := int64(0); at < size; {
		start, err := kernel.SeekData(f, at, size)
		if err != nil || start == size {
			return out, err
		}
		end, err := kernel.SeekHole(f, start)
		if err != nil {
			return nil, err
		}
		at = min(end, size)
		out = append(out, Extent{uint64(start), uint64(at)})
	}
	return out, nil
}

// outside returns the parts of runs that lie outside of data.
func outside(runs, data []Extent) []Extent {
	sorted := slices.Clone(data)
	slices.SortFunc(sorted, func(a, b Extent) int {
		if a.Start < b.Start {
			return -1
		}
		return 1
	})
	var out []Extent
	i := 0
	for _, r := range runs {
		for i < len(sorted) && sorted[i].End <= r.Start {
			i++
		}
		for j := i; j < len(sorted) && sorted[j].Start < r.End; j++ {
			if sorted[j].Start > r.Start {
				out = append(out, Extent{r.Start, sorted[j].Start})
			}
			r.Start = sorted[j].End
		}
		if r.Start < r.End {
			out = append(out, r)
		}
	}
	return out
}

// hashJob is one chunk to be read by one of several goroutines.
type hashJob struct {
	file  *os.File
	name  string
	chunk chunk
	do    func(hash []byte) error // nil: the hash is not asked for
}

// run reads the chunk, hands its parts to take, and its hash to do.
func (j *hashJob) run(take taker) error {
	if j.do == nil {
		return j.chunk.read(j.file, take)
	}
	hash, err := j.chunk.hash(j.file, take)
	if err != nil {
		return err
	}
	return j.do(hash)
}

// hashAll hashes chunks on all processors and hands each hash to its job, until one returns an error.
func hashAll(jobs []hashJob, progress func(done, total int64)) error {
	var total, done int64
	for _, j := range jobs {
		total += j.chunk.size()
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	progress(0, total)
	var mu sync.Mutex
	return parallel.Each(jobs, func(j hashJob) error {
		if err := j.run(func(uint64, []byte) error { return nil }); err != nil {
			return fmt.Errorf("%s: %w", j.name, err)
		}
		mu.Lock()
		defer mu.Unlock()
		done += j.chunk.size()
		progress(done, total)
		return nil
	})
}

// Seal adds hashes of all contents to the committed image in dir, durably, so that Verify and Open (WithContents) find bit rot. It
// needs no frozen application. A sealed image stays as it is. Progress is called with bytes; it may be nil.
func Seal(dir string, progress func(done, total int64)) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	return seal(dir, progress, func(string) {})
}

func seal(dir string, progress func(done, total int64), reach func(string)) error {
	img, err := load(dir)
	if err != nil || img.Sealed() {
		return err
	}
	partial, err := claim(dir)
	if err != nil {
		return err
	}
	defer partial.Close()
	seals, err := img.hashContents(progress)
	if err != nil {
		return fmt.Errorf("image %s: hashing its contents: %w", dir, err)
	}
	data, err := encoder.Marshal(seals)
	if err != nil {
		return fmt.Errorf("encoding the seal: %w", err)
	}
	reach("contents hashed")
	if err := writeFile(filepath.Join(dir, sealName), data); err != nil {
		return fmt.Errorf("image %s: %w", dir, err)
	}
	reach("seal written")
	m := *img.Manifest
	m.Files = append(slices.Clone(m.Files), Entry{Name: sealName, Kind: EntrySeal, Size: int64(len(data)), Hash: hashHex(data)})
	if err := publish(dir, partial, &m, func(step string) { reach("sealing: " + step) }); err != nil {
		return fmt.Errorf("image %s: %w", dir, err)
	}
	reach("sealed")
	return nil
}

// hashContents computes the seal. Of FOAM files it punches what lies outside of the extents.
func (i *Image) hashContents(progress func(done, total int64)) (*Seals, error) {
	files, err := foams(i.State)
	if err != nil {
		return nil, err
	}
	var seals Seals
	var jobs []hashJob
	for _, e := range i.Manifest.Files {
		if e.Kind != EntryFOAM && e.Kind != EntryFile {
			continue
		}
		f, err := os.OpenFile(i.Path(e.Name), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		s := FileSeal{Name: e.Name}
		data, err := dataRuns(f, e.Size)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name, err)
		}
		if foam := files[e.Name]; foam != nil {
			stale := outside(data, foam.runs())
			data = foam.runs()
			for _, r := range stale {
				if err := kernel.PunchHole(f, int64(r.Start), int64(r.End-r.Start)); err != nil {
					return nil, fmt.Errorf("%s: punching what is no longer used: %w", e.Name, err)
				}
			}
		} else {
			s.Data = data
		}
		chunks := cut(data)
		s.Hashes = make([]byte, len(chunks)*hashSize)
		for n, c := range chunks {
			place := s.Hashes[n*hashSize:][:hashSize]
			jobs = append(jobs, hashJob{f, e.Name, c, func(hash []byte) error { copy(place, hash); return nil }})
		}
		seals.Files = append(seals.Files, s)
	}
	return &seals, hashAll(jobs, progress)
}
