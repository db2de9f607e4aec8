// Package report holds what checkpoints and restores tell of themselves: how long they took, and step by step.
package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration is written as a number of milliseconds, to the microsecond.
type Duration time.Duration

// MarshalJSON implements json.Marshaler.
func (d Duration) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(time.Duration(d).Microseconds())/1000, 'f', -1, 64), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(text []byte) error {
	ms, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return fmt.Errorf("milliseconds: %w", err)
	}
	*d = Duration(ms * float64(time.Millisecond))
	return nil
}

// String is for people: three digits are enough.
func (d Duration) String() string {
	t := time.Duration(d)
	switch {
	case t >= 10*time.Second:
		return t.Round(100 * time.Millisecond).String()
	case t >= time.Second:
		return t.Round(10 * time.Millisecond).String()
	case t >= 10*time.Millisecond:
		return t.Round(100 * time.Microsecond).String()
	}
	return t.Round(10 * time.Microsecond).String()
}

// Step is one part of the work.
type Step struct {
	Name string   `json:"name"`
	Time Duration `json:"ms"`
}

// Steps are parts of the work in the order in which they were done.
type Steps []Step

// Do does a step and notes how long it took.
func (s *Steps) Do(name string, do func() error) error {
	begin := time.Now()
	err := do()
	*s = append(*s, Step{name, Duration(time.Since(begin))})
	return err
}

// String lists the steps that took at least a hundredth of all.
func (s Steps) String() string {
	var total Duration
	for _, step := range s {
		total += step.Time
	}
	var parts []string
	for _, step := range s {
		if step.Time >= total/100 {
			parts = append(parts, step.Name+" "+step.Time.String())
		}
	}
	return strings.Join(parts, ", ")
}
