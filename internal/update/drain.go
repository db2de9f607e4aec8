package update

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kexec"
	"github.com/kup-project/kup/internal/memory"
	"github.com/kup-project/kup/internal/pageserver"
)

// drain is what a boot with CarrierCopy knows of the memory that it gives back, piece by piece, while page servers read it.
type drain struct {
	blockSize uint64
	contents  map[string]contents // of images, by directory
	loan      *frames.Loan        // nil until something can be given back
	moved     time.Time           // when the horizon was
	horizon   uint64
	over      bool // there is none any more
}

// contents are where the pages of an image are.
type contents struct {
	blocks blocks
	all    uint64 // bytes
	atOnce uint64 // of them, what must be copied before the application can run on demand
}

// blocks are memory blocks, by number, with the bytes of contents that they have.
type blocks map[uint64]uint64

// above returns those blocks that have something at an address or above.
func (b blocks) above(address, blockSize uint64) blocks {
	part := blocks{}
	for n, bytes := range b {
		if address < (n+1)*blockSize {
			part[n] = bytes
		}
	}
	return part
}

func (b blocks) add(other blocks) {
	for n, bytes := range other {
		b[n] += bytes
	}
}

// touch tells whether a range has any of the blocks.
func (b blocks) touch(r kexec.Range, blockSize uint64) bool {
	for n := r.Start / blockSize; n*blockSize < r.End; n++ {
		if _, has := b[n]; has {
			return true
		}
	}
	return false
}

// horizon is up to where page servers may go that need blocks: to the end of the second, if there is memory for so much, else of the first. Available are bytes.
func (b blocks) horizon(blockSize, available uint64) uint64 {
	numbers := make([]uint64, 0, len(b))
	for n := range b {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	switch {
	case len(numbers) == 0:
		return math.MaxUint64
	case len(numbers) > 1 && b[numbers[0]]+b[numbers[1]]+spare <= available:
		return (numbers[1] + 1) * blockSize
	}
	return (numbers[0] + 1) * blockSize
}

// spare is what is to stay available for all else, bytes.
const spare = 96 << 20

func newDrain() (*drain, error) {
	size, err := frames.BlockSize()
	if err != nil {
		return nil, err
	}
	return &drain{blockSize: size, contents: map[string]contents{}}, nil
}

// prepareDrain is for CarrierCopy.
func (b *boot) prepareDrain() (err error) {
	if b.journal.Carrier != CarrierCopy {
		return nil
	}
	if b.drain, err = newDrain(); err != nil {
		return err
	}
	if b.meter, err = newMeter(); err != nil {
		return err
	}
	b.overcommit, err = frames.Overcommit(workDir(b.Store.Dir()))
	return err
}

// reads tells whether an application that was restored may still need its image, since a page server reads it.
func (d *drain) reads(a *Application) bool { return d != nil && a.Restored }

// know notes where the contents of an image are.
func (d *drain) know(dir string, st *image.State) {
	c := contents{blocks: blocks{}}
	for _, e := range st.Physical() {
		c.blocks[e.Start/d.blockSize] += e.End - e.Start
		c.all += e.End - e.Start
	}
	c.atOnce = memory.AtOnce(st)
	d.contents[dir] = c
}

// needed returns the blocks that page servers still have to read, and those of applications that are not restored.
func (b *boot) needed() (filling, waiting blocks, err error) {
	filling, waiting = blocks{}, blocks{}
	all, err := pageserver.List()
	if err != nil {
		return nil, nil, err
	}
	for _, f := range all {
		i := slices.IndexFunc(b.journal.Applications, func(a Application) bool { return filepath.Clean(a.Image) == f.Image })
		if i < 0 || b.journal.Applications[i].Lost {
			continue
		}
		c, known := b.drain.contents[b.journal.Applications[i].Image]
		if !known {
			return nil, nil, fmt.Errorf("it is not known which memory the page server (pid %d) reads", f.Server.PID)
		}
		filling.add(c.blocks.above(f.Lowest, b.drain.blockSize))
	}
	for _, a := range b.journal.Applications {
		if !a.over() {
			waiting.add(b.drain.contents[a.Image].blocks)
		}
	}
	return filling, waiting, nil
}

// giveBackSome gives back a unit of memory that nobody needs, and moves the horizon of page servers. It returns false if there was none.
func (b *boot) giveBackSome(ctx context.Context) (gave bool, err error) {
	d := b.drain
	filling, waiting, err := b.needed()
	if err != nil {
		return false, err
	}
	if d.loan == nil {
		if d.loan, err = frames.OpenLoan(ctx); err != nil {
			return false, err
		}
	}
	for _, u := range d.loan.Units() {
		if filling.touch(u, d.blockSize) || waiting.touch(u, d.blockSize) {
			continue
		}
		if err := d.loan.Return(ctx, u); err != nil {
			return false, err
		}
		gave = true
		break
	}
	return gave, b.moveHorizon(filling)
}

// moveHorizon lets page servers go on, and tells them from time to time that somebody is there.
func (b *boot) moveHorizon(filling blocks) error {
	const often = time.Second
	d := b.drain
	available, err := b.meter.read()
	if err != nil {
		return err
	}
	end := filling.horizon(d.blockSize, available)
	if d.over || end == d.horizon && time.Since(d.moved) < often {
		return nil
	}
	d.horizon, d.moved = end, time.Now()
	return (&pageserver.Horizon{Block: d.blockSize, End: end}).Move()
}

// hold keeps page servers, also those that are to be started, from reading everything at once.
func (b *boot) hold() error {
	if b.drain == nil {
		return nil
	}
	filling, waiting, err := b.needed()
	if err != nil {
		return err
	}
	filling.add(waiting)
	return b.moveHorizon(filling)
}

// giveBackUnneeded gives back all memory that nobody needs.
func (b *boot) giveBackUnneeded(ctx context.Context) error {
	if b.drain == nil {
		return nil
	}
	for {
		if gave, err := b.giveBackSome(ctx); err != nil || !gave {
			return err
		}
	}
}

// endDraining lets all page servers that are left go as far as they like.
func (b *boot) endDraining() error {
	if b.drain == nil {
		return nil
	}
	b.drain.over = true
	return pageserver.RemoveHorizon()
}

// errNoRoom says that an application cannot be restored before memory was given back.
var errNoRoom = errors.New("there is not enough memory to restore it")

// makeRoom sees to it that there is memory to restore an application, and tells whether that has to be on demand, because there is not enough for all of it.
func (b *boot) makeRoom(ctx context.Context, a *Application, onDemand bool) (mustDemand bool, err error) {
	if b.drain == nil {
		return onDemand, nil
	}
	if err := b.hold(); err != nil {
		return onDemand, err
	}
	c := b.drain.contents[a.Image]
	need := c.all
	if onDemand {
		need = c.atOnce
	}
	for {
		available, err := b.meter.read()
		if err != nil || available >= need+spare {
			return onDemand, err
		}
		gave, err := b.giveBackSome(ctx)
		switch {
		case err != nil:
			return onDemand, err
		case gave:
		case onDemand || !canDemand():
			return onDemand, fmt.Errorf("%w: it takes %d MB, and %d MB are available", errNoRoom, need>>20, available>>20)
		default:
			b.note("on demand: " + a.Name + ": not all of its memory would fit at once")
			onDemand, need = true, c.atOnce
		}
	}
}
