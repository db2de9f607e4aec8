package frames

import (
	"errors"
	"fmt"
	"os"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/kexec"
)

// ErrGone says that memory was not carried over: the machine has been switched off, or has started otherwise than by the update.
var ErrGone = errors.New("memory that was to outlive the change of the kernel is gone")

// Mapping shows frames that have come from the kernel before.
type Mapping struct {
	Pieces [][]byte // of Size bytes each, in the order of the addresses asked for
	mapped [][]byte
}

// CheckKept is ErrGone if the running kernel was not told to leave all of the frames alone.
func CheckKept(addrs []uint64) error {
	if len(addrs) == 0 {
		return nil
	}
	kept, err := Kept()
	if err != nil {
		return err
	}
	memory, err := kexec.ReadMemoryMap()
	if err != nil {
		return err
	}
	soft := memory.Of(kexec.MemorySoft)
	for _, addr := range addrs {
		if frame := (kexec.Range{Start: addr, End: addr + Size}); !kept.Contains(frame) || !soft.Contains(frame) {
			return fmt.Errorf("%w: %v", ErrGone, frame)
		}
	}
	return nil
}

// Map maps frames for reading.
func Map(addrs []uint64) (*Mapping, error) {
	if err := CheckKept(addrs); err != nil {
		return nil, err
	}
	mem, err := os.Open("/dev/mem")
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	m := &Mapping{}
	for len(addrs) > 0 {
		n := 1
		for n < len(addrs) && addrs[n] == addrs[n-1]+Size {
			n++
		}
		run, err := kernel.MapFile(mem, int64(addrs[0]), n*Size, false)
		if err != nil {
			m.Close()
			return nil, fmt.Errorf("/dev/mem at %#x: %w", addrs[0], err)
		}
		m.mapped = append(m.mapped, run)
		for at := 0; at < len(run); at += Size {
			m.Pieces = append(m.Pieces, run[at:at+Size:at+Size])
		}
		addrs = addrs[n:]
	}
	return m, nil
}

// Close ends the mapping.
func (m *Mapping) Close() error {
	var failed []error
	for _, run := range m.mapped {
		failed = append(failed, kernel.Unmap(run))
	}
	return errors.Join(failed...)
}
