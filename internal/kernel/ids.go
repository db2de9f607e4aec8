package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// ReservedIDs is the number of low process and thread IDs that applications do not get: a system that has just booted uses them for itself
// (up to 170 were seen), and a restore after a change of the kernel needs the application's own ones to be free.
const ReservedIDs = 1000

const lastPIDFile = "/proc/sys/kernel/ns_last_pid"

// ReserveIDs lets IDs that the kernel gives continue above the reserved ones, and if it has to, above the highest of those that are still to be restored.
func ReserveIDs(highest int) error {
	text, err := os.ReadFile(lastPIDFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a kernel without CONFIG_CHECKPOINT_RESTORE
	}
	if err != nil {
		return err
	}
	last, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("%s: %w", lastPIDFile, err)
	}
	if last >= ReservedIDs {
		return nil
	}
	if err := os.WriteFile(lastPIDFile, []byte(strconv.Itoa(max(ReservedIDs, highest))), 0); err != nil {
		return fmt.Errorf("reserving low process IDs: %w", err)
	}
	return nil
}
