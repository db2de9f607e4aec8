package kup

import (
	"errors"

	"github.com/kup-project/kup/internal/kernel"
)

// Errors of features, which errors of this package may match.
var (
	ErrNotSupported = kernel.ErrNotSupported // the running kernel lacks it
	ErrNotPermitted = kernel.ErrNotPermitted // the kernel has it, but does not let this process use it
)

// CheckReport says what kup can do here.
type CheckReport struct {
	Kernel   string    `json:"kernel"`   // uname -r
	Lockdown string    `json:"lockdown"` // none, integrity, confidentiality; unknown where the kernel does not tell
	Jobs     []Job     `json:"jobs"`
	Features []Feature `json:"features"`
}

// Job is something that kup can be asked for.
type Job struct {
	Name     string   `json:"name"`
	Text     string   `json:"text"`
	Possible bool     `json:"possible"`
	Way      string   `json:"way,omitempty"`     // which of several ways it will be done
	Missing  []string `json:"missing,omitempty"` // what stands in the way, a sentence each
	Limits   []string `json:"limits,omitempty"`  // what is possible for most applications only, a sentence each
}

// Feature is something that the kernel can or cannot do.
type Feature struct {
	Name    string `json:"name"`
	Use     string `json:"use"`
	Since   string `json:"since"`
	Option  string `json:"option,omitempty"`
	How     string `json:"how"` // how it was tried
	State   string `json:"state"`
	Problem string `json:"problem,omitempty"`
}

// States of a Feature.
const (
	Present      = "present"
	Absent       = "absent"
	NotPermitted = "not permitted"
	Unclear      = "unclear" // the test went wrong
)

// Check tries out each feature of the running kernel that kup makes use of. It changes nothing.
func Check() *CheckReport {
	report := &CheckReport{Kernel: kernelRelease(), Lockdown: kernel.Lockdown()}
	for _, f := range kernel.Features() {
		report.Features = append(report.Features, checkFeature(f))
	}
	for _, j := range kernel.Jobs {
		report.Jobs = append(report.Jobs, checkJob(j))
	}
	return report
}

// Main tells whether what everything else builds on is possible: checkpoint and restore.
func (r *CheckReport) Main() bool {
	for _, j := range r.Jobs {
		if (j.Name == "checkpoint" || j.Name == "restore") && !j.Possible {
			return false
		}
	}
	return true
}

func checkFeature(f *kernel.Feature) Feature {
	result := Feature{Name: f.Name, Use: f.Use, Since: "v" + f.Since, Option: f.Option, How: f.How, State: Present}
	err := f.Err()
	switch {
	case err == nil:
		return result
	case errors.Is(err, ErrNotSupported):
		result.State = Absent
	case errors.Is(err, ErrNotPermitted):
		result.State = NotPermitted
	default:
		result.State = Unclear
	}
	result.Problem = err.Error()
	return result
}

func checkJob(j kernel.Job) Job {
	result := Job{Name: j.Name, Text: j.Text}
	way, possible := j.Open()
	if possible {
		result.Possible, result.Way = true, way.Name
		_, some := way.Missing()
		for _, n := range some {
			result.Limits = append(result.Limits, n.Err().Error()+": not for "+n.Only)
		}
		return result
	}
	for _, w := range j.Ways {
		all, _ := w.Missing()
		for _, n := range all {
			result.Missing = append(result.Missing, n.Err().Error())
		}
	}
	return result
}
