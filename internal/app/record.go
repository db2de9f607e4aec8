package app

import (
	"errors"
	"fmt"
	"regexp"
	"time"
)

// Errors that tell what stands in the way of a command; they are wrapped in sentences.
var (
	ErrUnknown    = errors.New("no such application")
	ErrExists     = errors.New("the name is taken")
	ErrBusy       = errors.New("another kup command is working on it")
	ErrNotRunning = errors.New("it is not running")
	ErrRunning    = errors.New("it is running")
	ErrNoImage    = errors.New("it has no checkpoint")
)

// State says what was last done with an application.
type State string

const (
	Running      State = "running"
	Stopped      State = "stopped"      // by a job-control signal; only in a Status
	Checkpointed State = "checkpointed" // ended after its image was complete
	Restoring    State = "restoring"
	Ended        State = "ended"
)

// Record is what is remembered of an application.
type Record struct {
	Name     string    `json:"name"`
	PID      int       `json:"pid"`        // root of the process tree
	Start    uint64    `json:"start_time"` // of that process: field 22 of /proc/PID/stat, clock ticks since boot
	Boot     string    `json:"boot"`       // /proc/sys/kernel/random/boot_id
	State    State     `json:"state"`
	Since    time.Time `json:"since"` // of State
	Argv     []string  `json:"argv"`
	Env      []string  `json:"env"`
	Cwd      string    `json:"cwd"`
	Detached bool      `json:"detached"`
	Log      string    `json:"log,omitempty"`   // where a detached application's output goes
	Image    string    `json:"image,omitempty"` // the last complete checkpoint
}

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)

// CheckName says what is wrong with a name: it becomes part of file names.
func CheckName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("the name %q: use up to 64 letters, digits and ._@- and begin with a letter or digit", name)
	}
	return nil
}

func (r *Record) set(s State) {
	r.State = s
	r.Since = time.Now().Truncate(time.Second)
}
