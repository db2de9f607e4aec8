package frames

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/kexec"
)

// ErrNoSlice says that no room could be made for the next kernel.
var ErrNoSlice = errors.New("no room for the next kernel beside the applications")

// Slice is memory for the next kernel to start in: whole memory blocks that the running kernel has given up. What applications had there it has moved elsewhere, while
// they ran.
type Slice struct {
	changes  *ledger
	blocks   kexec.Ranges
	patience time.Duration // per block
}

// Patience is how long the kernel may try to empty a block. It does not give up by itself.
const Patience = 20 * time.Second

// Bounds of the work, in blocks that could not be emptied.
const (
	maxSlow   = 6
	maxFailed = 64
)

// spareMemory is what must stay available, bytes: for the applications to go on, and to load a kernel with.
const spareMemory = 256 << 20

// TakeSlice takes memory blocks offline until they have need bytes. It notes in a directory how that is taken back, see Recover. If it fails, all blocks are online
// again; ErrNoSlice says in numbers what there is too little of. The kernel may try to empty each block for a time, such as Patience.
func TakeSlice(ctx context.Context, dir string, need uint64, patience time.Duration) (*Slice, error) {
	l, err := newLedger(dir, sliceLedger)
	if err != nil {
		return nil, err
	}
	s := &Slice{changes: l, patience: patience}
	if err := s.fill(ctx, need); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Blocks is where the slice is.
func (s *Slice) Blocks() kexec.Ranges { return s.blocks }

// Close puts all blocks online again.
func (s *Slice) Close() error { return s.changes.takeBack() }

func (s *Slice) fill(ctx context.Context, need uint64) error {
	size, err := BlockSize()
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: this kernel takes no memory offline (needs CONFIG_MEMORY_HOTREMOVE)", ErrNoSlice)
	}
	if err != nil {
		return err
	}
	if err := checkSpare((need+size-1)/size*size, ErrNoSlice); err != nil {
		return err
	}
	found, err := survey(size, need)
	if err != nil {
		return err
	}
	if err := s.takeOffline(ctx, found, need); err != nil {
		return err
	}
	if got := s.blocks.Size(); got < need {
		return fmt.Errorf("%w: only %d of %d MB could be emptied, and it takes whole blocks of %d MB; others: %v",
			ErrNoSlice, got>>20, need>>20, size>>20, found.trouble)
	}
	return checkSpare(0, ErrNoSlice)
}

// takeOffline takes as many blocks as are needed, if so many can be had. Those that fail get a second chance: what is busy may not be so for long.
func (s *Slice) takeOffline(ctx context.Context, found *candidates, need uint64) error {
	failed, until := 0, time.Now().Add(maxSlow*s.patience)
	for _, b := range slices.Concat(found.blocks, found.blocks) {
		switch {
		case s.blocks.Size() >= need || failed == maxFailed || time.Now().After(until):
			return nil
		case s.blocks.Overlaps(b.Range):
			continue
		}
		if err := checkSpare(b.Size(), ErrNoSlice); err != nil {
			return fmt.Errorf("%w (%d of %d MB were emptied)", err, s.blocks.Size()>>20, need>>20)
		}
		why, err := s.takeBlock(ctx, b)
		if err != nil {
			return err
		}
		if why != "" {
			found.trouble[b.Start] = why
			failed++
		}
	}
	return nil
}

// takeBlock empties a block and adds it to the slice, or says what is the matter with it.
func (s *Slice) takeBlock(ctx context.Context, b block) (why string, err error) {
	if err := s.changes.add(b.state, b.online); err != nil {
		return "", err
	}
	within, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	err = kernel.WriteUntil(within, b.state, "offline")
	if err == nil {
		s.blocks = kexec.NewRanges(append(slices.Clone(s.blocks), b.Range)...)
		return "", nil
	}
	if online, err := isOnline(b.state); err != nil || !online {
		return "neither online nor offline", err // it is still noted
	}
	if err := s.changes.drop(); err != nil {
		return "", err
	}
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("not empty within %v", s.patience), nil
	case errors.Is(err, kernel.EBUSY):
		return "with pages that cannot be moved", nil
	case errors.Is(err, kernel.EINVAL):
		return "with holes", nil
	}
	return fmt.Sprintf("that fail (%v)", errors.Unwrap(err)), nil
}
