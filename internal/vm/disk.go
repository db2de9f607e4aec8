package vm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// DiskMount is where a guest finds its disk.
const DiskMount = "/data"

// CreateDisk makes a sparse file with an ext4 file system of 4 KiB blocks for a guest. It holds the content of the folder
// from, unless that is empty; all files belong to root.
func CreateDisk(ctx context.Context, path string, megabytes int, from string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(int64(megabytes) << 20); err != nil {
		return err
	}
	args := []string{"-q", "-F", "-b", "4096", "-E", "root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1"}
	if from != "" {
		args = append(args, "-d", from)
	}
	out, err := exec.CommandContext(ctx, "mkfs.ext4", append(args, path)...).CombinedOutput()
	if err != nil {
		os.Remove(path)
		return fmt.Errorf("mkfs.ext4 %s: %w: %s", path, err, strings.TrimSpace(string(out)))
	}
	return nil
}
