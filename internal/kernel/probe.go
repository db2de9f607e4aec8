package kernel

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Errors of features. Those of a probe match one of them, or else the probe itself went wrong.
var (
	// ErrNotSupported matches when the running kernel lacks a feature.
	ErrNotSupported = errors.New("not supported")
	// ErrNotPermitted matches when the kernel has a feature but does not let this process use it.
	ErrNotPermitted = errors.New("not permitted")
)

// Feature is something that the kernel can or cannot do, with the test that tells. The test really tries it, on this process or on a child made
// for the purpose, and changes nothing else; a version number is never asked.
type Feature struct {
	Name   string
	Use    string // what kup needs it for
	Since  string // the version that brought it
	Option string // CONFIG_ option of the kernel that it depends on, if it is one that distributions leave out
	Needs  string // the capability, if it takes one
	How    string // what is tried

	probe func() error
	once  sync.Once
	err   error
}

// Err tries the feature, the first time that it is called, and says why it cannot be used. The error matches ErrNotSupported or
// ErrNotPermitted; its text is the same in `kup check` and where something fails for want of the feature.
func (f *Feature) Err() error {
	f.once.Do(func() { f.err = f.explain(f.probe()) })
	return f.err
}

// explain turns what a probe returned into a sentence.
func (f *Feature) explain(err error) error {
	if err == nil {
		return nil
	}
	// ENOSYS: no such system call. EINVAL, ENOTTY, ENOPROTOOPT, EOPNOTSUPP, ENODEV: the call exists, but does not know this use of it.
	for _, absent := range []Errno{ENOSYS, EINVAL, ENOTTY, unix.ENOPROTOOPT, unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, ENOENT, ENODEV, EIO} {
		if errors.Is(err, absent) || errors.Is(err, ErrNotSupported) {
			return &featureError{f, ErrNotSupported, err}
		}
	}
	for _, forbidden := range []Errno{EPERM, EACCES} {
		if errors.Is(err, forbidden) || errors.Is(err, ErrNotPermitted) {
			return &featureError{f, ErrNotPermitted, err}
		}
	}
	return fmt.Errorf("%s: the test failed: %w", f.Name, err)
}

// featureError is a feature that cannot be used.
type featureError struct {
	feature *Feature
	kind    error
	cause   error
}

func (e *featureError) Error() string {
	f := e.feature
	if e.kind == ErrNotPermitted {
		if f.Needs != "" {
			return fmt.Sprintf("%s not permitted (requires %s)", f.Name, f.Needs)
		}
		return fmt.Sprintf("%s not permitted (%v)", f.Name, e.cause)
	}
	requires := "requires >= v" + f.Since
	if f.Option != "" {
		requires += " with " + f.Option
	}
	return fmt.Sprintf("%s not supported (%s)", f.Name, requires)
}

func (e *featureError) Is(target error) bool { return target == e.kind }
func (e *featureError) Unwrap() error        { return e.cause }
