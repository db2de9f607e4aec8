// Package refuse marks errors that mean "this cannot be checkpointed (or restored) faithfully, and nothing was touched".
//
// A refusal is a sentence for the person at the terminal: it names the process, the resource, what it is and what to do.
// Commands turn it into exit code 3.
package refuse

import (
	"errors"
	"fmt"
)

// ErrRefused matches, with errors.Is, every error made by Errorf.
var ErrRefused = errors.New("refused")

type refusal struct{ err error }

func (r refusal) Error() string        { return r.err.Error() }
func (r refusal) Unwrap() error        { return r.err }
func (r refusal) Is(target error) bool { return target == ErrRefused }

// Errorf returns a refusal. It formats like fmt.Errorf, %w included.
func Errorf(format string, args ...any) error { return refusal{fmt.Errorf(format, args...)} }

// ErrPassing matches refusals made by Passingf.
var ErrPassing = errors.New("passing")

type passing struct{ refusal }

func (p passing) Is(target error) bool { return target == ErrPassing || p.refusal.Is(target) }

// Passingf returns a refusal of a state that applications usually leave by themselves within milliseconds.
func Passingf(format string, args ...any) error { return passing{refusal{fmt.Errorf(format, args...)}} }

// Passing reports whether an error is such a refusal, or consists of such only.
func Passing(err error) bool {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return errors.Is(err, ErrPassing)
	}
	for _, one := range joined.Unwrap() {
		if !Passing(one) {
			return false
		}
	}
	return true
}
