package object

import (
	"errors"
	"fmt"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/refuse"
)

// CheckOutlive refuses, of running processes, files that are gone when the kernel is: those in memory (tmpfs, ramfs). A restore
// under another kernel could not open them again. What is only read in the initial root file system is left out: the initramfs brings it
// again. Deleted files are saved in the image wherever they are.
func CheckOutlive(pids []int) error {
	root, err := kernel.StatPath("/")
	if err != nil {
		return fmt.Errorf("/: %w", err)
	}
	var refusals []error
	for _, pid := range pids {
		table, err := readTable(pid)
		if err != nil {
			return err
		}
		for _, d := range table {
			if d.Link[0] != '/' || d.fileType() != kernel.ModeRegular || isMemfd(d) || d.deleted() {
				continue
			}
			magic, err := kernel.FileSystem(d.path())
			if err != nil || magic != kernel.TmpfsMagic && magic != kernel.RamfsMagic {
				continue
			}
			if d.Stat.Dev == root.Dev && !d.writable() {
				continue
			}
			refusals = append(refusals, refuse.Errorf("%s is %s in a file system that is in memory and does not outlive the kernel; put the file on a disk", d, d.Link))
		}
	}
	return errors.Join(refusals...)
}
