package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/kup-project/kup"
)

// Exit codes, documented in exitCodes.
const (
	exitFailed   = 1
	exitUsage    = 2
	exitRefused  = 3
	exitImage    = 4
	exitConflict = 5
	exitStopped  = 6
)

const exitCodes = `0  done
1  failed
2  usage: the command line is wrong
3  refused: something cannot be checkpointed faithfully, and nothing was touched
4  the image is not acceptable: incomplete, damaged, somebody else's, or of another kind of machine
5  conflict: a process ID or an address that the application needs is taken; it is named
6  stopped by a signal (SIGINT, SIGTERM, SIGHUP), and everything is as before`

// usageError says that the command line is wrong.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// stoppedError says that a signal has ended what kup was doing.
type stoppedError struct{ os.Signal }

func (e stoppedError) Error() string { return fmt.Sprintf("kup was told to stop (%v)", e.Signal) }

// exitError is an application's own exit code, passed on without a message.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// classify turns an error into an exit code and the word for it in JSON.
func classify(err error) (code int, kind string) {
	var usage usageError
	var stopped stoppedError
	switch {
	case errors.As(err, &usage):
		return exitUsage, "usage"
	case errors.Is(err, kup.ErrRefused):
		return exitRefused, "refused"
	case errors.Is(err, kup.ErrImage):
		return exitImage, "image"
	case errors.Is(err, kup.ErrConflict):
		return exitConflict, "conflict"
	case errors.As(err, &stopped):
		return exitStopped, "stopped"
	}
	return exitFailed, "failed"
}
