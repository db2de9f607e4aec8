package frames

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/kexec"
)

// ErrGone says that memory was not carried over: the machine has been switched off, or has started otherwise than by the update.
var ErrGone = errors.New("memory that was to outlive the change of the kernel is gone")

// CheckKept is ErrGone if the running kernel was not told to leave all of these physical addresses alone, or has got them back.
func CheckKept(places []image.Extent) error {
	if len(places) == 0 {
		return nil
	}
	kept, err := Kept()
	if err != nil {
		return err
	}
	returned, err := givenBack()
	if err != nil {
		return err
	}
	memory, err := kexec.ReadMemoryMap()
	if err != nil {
		return err
	}
	reserved, err := Reserved()
	if err != nil {
		return err
	}
	soft := memory.Of(kexec.MemorySoft)
	for _, p := range places {
		if r := kexec.Range(p); !reserved.Contains(r) && (!kept.Contains(r) || !soft.Contains(r) || returned.Overlaps(r)) {
			return fmt.Errorf("%w: %v", ErrGone, r)
		}
	}
	return nil
}

// Memory shows physical memory that the kernel before has left. Its methods, Close excepted, may be called by several goroutines.
type Memory struct {
	binder *Binder // for what the kernel has reserved; nil if nothing is

	file  *os.File // /dev/mem
	mu    sync.Mutex
	panes map[uint64][]byte // by physical address; each shows Size bytes
}

// OpenMemory opens physical memory for reading. What is read must have passed CheckKept.
func OpenMemory() (*Memory, error) {
	m := &Memory{panes: map[uint64][]byte{}}
	reserved, err := Reserved()
	if err != nil {
		return nil, err
	}
	if len(reserved) > 0 {
		m.binder, err = OpenBinder()
		return m, err
	}
	m.file, err = os.Open("/dev/mem")
	return m, err
}

// Binder binds what is shown, until Close; nil if it can only be copied.
func (m *Memory) Binder() *Binder { return m.binder }

// At returns size bytes at a physical address, which do not cross a multiple of Size, until Close.
func (m *Memory) At(addr, size uint64) ([]byte, error) {
	if m.binder != nil {
		copied := make([]byte, size)
		if _, err := m.binder.ReadAt(copied, int64(addr)); err != nil {
			return nil, fmt.Errorf("reserved memory at %#x: %w", addr, err)
		}
		return copied, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	start := addr &^ (Size - 1)
	pane := m.panes[start]
	if pane == nil {
		var err error
		if pane, err = kernel.MapFile(m.file, int64(start), Size, false); err != nil {
			return nil, fmt.Errorf("/dev/mem at %#x: %w", start, err)
		}
		m.panes[start] = pane
	}
	return pane[addr-start:][:size:size], nil
}

// Release ends what is shown below a physical address, which nobody may be reading.
func (m *Memory) Release(below uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var failed []error
	for start, pane := range m.panes {
		if start+Size <= below {
			failed = append(failed, kernel.Unmap(pane))
			delete(m.panes, start)
		}
	}
	return errors.Join(failed...)
}

// Close ends what is shown.
func (m *Memory) Close() error {
	if m.binder != nil {
		return m.binder.Close()
	}
	failed := []error{m.file.Close()}
	for _, pane := range m.panes {
		failed = append(failed, kernel.Unmap(pane))
	}
	return errors.Join(failed...)
}
