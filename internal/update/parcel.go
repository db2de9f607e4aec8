package update

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// onTheWay is where the images of a state directory are, and the journal, if they travel in page frames as the memory does: a folder in memory, before and after.
func onTheWay(stateDir string) string { return filepath.Join("/run/kup/update", stateDir) }

// sentJournal is the journal in there.
const sentJournal = "journal.json"

// takeParcel lets images and journal travel in page frames, so that nothing is written to the disk in the freeze. If /run is not in memory, or images belong to a
// fallback on the disk, they are there, too.
func (u *update) takeParcel() error {
	if u.pool() == nil || u.KeepFallback {
		return nil
	}
	dir := onTheWay(u.Store.Dir())
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return err
	}
	fs, err := kernel.FileSystem(dir)
	if err != nil || fs != kernel.TmpfsMagic {
		return err
	}
	u.parcel, err = u.frames.NewParcel()
	return err
}

// imageDir is where the image of an application goes.
func (u *update) imageDir(name string) (string, error) {
	if u.parcel == nil {
		return u.Store.NextImageDir(name)
	}
	images := filepath.Join(onTheWay(u.Store.Dir()), "images")
	return filepath.Join(images, name), os.MkdirAll(images, 0o700)
}

// errParcel says that images cannot travel in page frames.
var errParcel = errors.New("what describes the applications does not fit into memory")

// tooBig tells whether an error comes from images in memory.
func (u *update) tooBig(err error) bool {
	return u.parcel != nil && (errors.Is(err, errParcel) || errors.Is(err, kernel.ENOSPC))
}

// writeToDisk lets images be on the disk after all. The next kernel finds in the journal that nothing was sent.
func (u *update) writeToDisk(why error) {
	u.note("images go to the disk: " + why.Error())
	u.parcel = nil
}

// send records that all images are complete and the kernel is about to change, where the next one will look for it: in the journal on the disk, or in page frames with the images.
func (u *update) send() error {
	if u.parcel == nil {
		return u.recordSwitched()
	}
	u.journal.Phase = Switched
	data, err := u.journal.encode()
	if err != nil {
		return err
	}
	dir := onTheWay(u.Store.Dir())
	if err := os.WriteFile(filepath.Join(dir, sentJournal), data, 0o600); err != nil {
		return err
	}
	err = u.parcel.Pack(os.DirFS(dir))
	if errors.Is(err, frames.ErrNoRoom) {
		return fmt.Errorf("%w: %w", errParcel, err)
	}
	return err
}

// receive unpacks what the last kernel has sent, and tells whether it has. From here on that journal counts.
func (b *boot) receive() (bool, error) {
	dir := onTheWay(b.Store.Dir())
	bound := b.bindOnce()
	err := frames.Receive(dir)
	switch {
	case errors.Is(err, frames.ErrNoParcel):
		return false, nil
	case errors.Is(err, frames.ErrGone):
		b.note("lost all applications: " + err.Error())
		return false, nil
	case err != nil:
		return false, errors.Join(bound, err)
	}
	sent, err := readJournal(filepath.Join(dir, sentJournal), b.Store.Dir())
	if err != nil || sent == nil || sent.Boot != b.journal.Boot {
		return false, errors.Join(errors.New("what the last kernel has sent belongs to another update"), err)
	}
	b.journal = sent
	return true, nil
}

// lostOnTheWay tells whether an image was sent, and has not got here.
func (b *boot) lostOnTheWay(a *Application, opened error) bool {
	return errors.Is(opened, image.ErrNotImage) && strings.HasPrefix(a.Image, onTheWay(b.Store.Dir())+"/")
}
