// Package kup checkpoints and restores running applications, and carries them over a change of the kernel underneath them.
//
// It is what the kup command is made of. An application is a tree of processes, named by its root: either one that Run started and that is
// known by its name, or any other by its process ID. All of this needs root.
package kup

import (
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/kup-project/kup/internal/app"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/refuse"
	"github.com/kup-project/kup/internal/restore"
)

// Errors that others may match, with errors.Is. Each comes in a sentence that says what is wrong and what to do.
var (
	// ErrRefused: something cannot be checkpointed faithfully; nothing was touched.
	ErrRefused = refuse.ErrRefused
	// ErrImage: an image is not acceptable.
	ErrImage = image.ErrNotAcceptable
	// ErrConflict: a process ID, an address or another name that an application needs is taken.
	ErrConflict = restore.ErrConflict
)

// State is the directory where kup keeps its records of applications, and their images unless told otherwise. The zero value is
// the directory that KUP_STATE_DIR names, or else /var/lib/kup. It must outlive a change of the kernel.
type State struct {
	Dir string
}

func (s State) store() (*app.Store, error) { return app.Open(s.Dir) }

// VersionInfo says what is at work here.
type VersionInfo struct {
	Kup    string `json:"kup"`
	Go     string `json:"go"`
	Image  int    `json:"image_format"`
	Kernel string `json:"kernel"` // uname -r
}

// Versions returns the versions of this program, of the images it writes, and of the running kernel.
func Versions() VersionInfo {
	return VersionInfo{Kup: version(), Go: runtime.Version(), Image: image.Version, Kernel: kernelRelease()}
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

func kernelRelease() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(release))
}
