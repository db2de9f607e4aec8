package image

import (
	"errors"
	"fmt"
)

// ErrNotAcceptable matches, with errors.Is, every reason for which an image is refused. Commands turn it into exit code 4.
var ErrNotAcceptable = errors.New("image not acceptable")

// Reasons for refusing what is in a directory.
var (
	// ErrNotImage: there is no image, or something that was never one.
	ErrNotImage error = reason("not an image")
	// ErrIncomplete: the checkpoint that wrote it was interrupted.
	ErrIncomplete error = reason("incomplete image")
	// ErrOwner: somebody else than root could have written or read it.
	ErrOwner error = reason("image with foreign owner or open mode")
	// ErrVersion: it is of a format that this program does not know.
	ErrVersion error = reason("image of another format version")
	// ErrCorrupt: hashes, sizes or cross references do not fit.
	ErrCorrupt error = reason("corrupt image")
	// ErrArch: it was made on another kind of processor.
	ErrArch error = reason("image of another architecture")
	// ErrCPU: its threads use features that this processor has not.
	ErrCPU error = reason("image needs a better processor")
	// ErrNotSealed: it has no hashes of its contents, so they cannot be verified.
	ErrNotSealed error = reason("image without hashes of its contents")
)

// Reasons for not writing into a directory, or not removing it.
var (
	// ErrExists: there is something in it already.
	ErrExists = errors.New("directory is in use")
	// ErrBusy: another process is writing an image there.
	ErrBusy = errors.New("image is being written")
)

type reason string

func (r reason) Error() string        { return string(r) }
func (r reason) Is(target error) bool { return target == ErrNotAcceptable }

// rejection is a sentence that matches a reason.
type rejection struct {
	text error
	why  error
}

func (r rejection) Error() string   { return r.text.Error() }
func (r rejection) Unwrap() []error { return []error{r.text, r.why} }

// reject returns an error that matches why. It formats like fmt.Errorf, %w included.
func reject(why error, format string, args ...any) error {
	return rejection{fmt.Errorf(format, args...), why}
}
