package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kup-project/kup/internal/report"
)

// Results is everything that was measured natively in one run.
type Results struct {
	Origin
	Rounds   int        `json:"rounds"`
	CopyRate float64    `json:"memcpy_bytes_per_s"` // one thread for each processor, into memory that is there already
	Subjects []Measured `json:"subjects"`
	// AfterRounds and Slowdown are empty if they were not chosen.
	AfterRounds []Rounds  `json:"after_rounds,omitempty"`
	Slowdown    *Slowdown `json:"slowdown,omitempty"`
}

// native measures all chosen subjects.
func (b *bench) native(ctx context.Context, rounds int) (*Results, error) {
	origin, err := newOrigin()
	if err != nil {
		return nil, err
	}
	r := &Results{Origin: origin, Rounds: rounds}
	if r.CopyRate, err = copyRate(rounds); err != nil {
		return nil, err
	}
	for _, s := range subjects() {
		if !b.chosen(s.name) {
			continue
		}
		fmt.Printf("%s:\n", s.name)
		m, err := b.measure(ctx, s, rounds)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		r.Subjects = append(r.Subjects, m)
		fmt.Print(m.lines())
	}
	return r, b.precopy(ctx, r, rounds)
}

// precopy measures what pre-copy costs besides its time.
func (b *bench) precopy(ctx context.Context, r *Results, rounds int) (err error) {
	const afterRounds, slowdown = "pre-copy rounds", "pre-copy slowdown"
	if b.chosen(afterRounds) {
		fmt.Printf("%s:\n", afterRounds)
		if r.AfterRounds, err = b.afterRounds(ctx, rounds); err != nil {
			return fmt.Errorf("%s: %w", afterRounds, err)
		}
		fmt.Print(r.afterRoundsTable())
	}
	if b.chosen(slowdown) {
		fmt.Printf("%s:\n", slowdown)
		s, err := b.slowdown(ctx, rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", slowdown, err)
		}
		r.Slowdown = &s
		fmt.Print(s.line())
	}
	return nil
}

// lines is a subject's figures for whoever watches the run.
func (m Measured) lines() string {
	var b strings.Builder
	fmt.Fprintf(&b, "  %d MB; frozen %v, after pre-copy %v, for a fork %v\n", m.Bytes>>20, m.StopCopy.Frozen, m.Precopy.Frozen, m.Forked.Frozen)
	fmt.Fprintf(&b, "    stop-and-copy: %v\n    pre-copy: %v\n    forked: %v\n", m.StopCopy.Steps, m.Precopy.Steps, m.Forked.Steps)
	fmt.Fprintf(&b, "  eager: running %v, first answer %v\n    %v\n", m.Eager.Running, m.Eager.Answer, m.Eager.Steps)
	fmt.Fprintf(&b, "  on demand: running %v, first answer %v, filled %v\n    %v\n", m.OnDemand.Running, m.OnDemand.Answer, m.OnDemand.Filled, m.OnDemand.Steps)
	return b.String()
}

const nativeFile = "native.json"

// write puts numbers, table and plots into a folder.
func (r *Results) write(out string) error {
	if err := writeJSON(out, nativeFile, r); err != nil {
		return err
	}
	return r.show(out)
}

// show makes table and plots of the numbers.
func (r *Results) show(out string) error {
	if err := os.WriteFile(filepath.Join(out, "native.md"), []byte(r.table()), 0o644); err != nil {
		return err
	}
	return r.plot(out)
}

// table is for people.
func (r *Results) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Checkpoints and restores on one machine\n\n")
	fmt.Fprintf(&b, "Made by `%s` on %s: Linux %s, %d processors (%s), images in memory (tmpfs), medians of %d rounds, in milliseconds.\n",
		r.Command, r.Date, r.Kernel, r.Processors, r.Processor, r.Rounds)
	fmt.Fprintf(&b, "Copying memory with %d threads ran at %.1f GB/s.\n\n", r.Processors, r.CopyRate/1e9)
	b.WriteString("| | stored, MB | frozen, stop-and-copy | of memcpy's rate | frozen, after pre-copy | frozen, for a fork | eager: running | first answer | on demand: running | first answer | filled |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, m := range r.Subjects {
		fmt.Fprintf(&b, "| %s | %d | %s | %.2f | %s | %s | %s | %s | %s | %s | %s |\n", m.Subject, m.Bytes>>20, ms(m.StopCopy.Frozen),
			float64(m.Bytes)/time.Duration(m.StopCopy.Frozen).Seconds()/r.CopyRate, ms(m.Precopy.Frozen), ms(m.Forked.Frozen),
			ms(m.Eager.Running), ms(m.Eager.Answer), ms(m.OnDemand.Running), ms(m.OnDemand.Answer), ms(m.OnDemand.Filled))
	}
	b.WriteString("\nFrozen: from the first process that stops to the last that runs again. Running: until the processes run, as kup reports it. First answer and filled: " +
		"from the start of the command.\n\n## Where the time goes\n\n| | frozen, after pre-copy | restored on demand |\n|---|---|---|\n")
	for _, m := range r.Subjects {
		fmt.Fprintf(&b, "| %s | %v | %v |\n", m.Subject, m.Precopy.Steps, m.OnDemand.Steps)
	}
	b.WriteString(r.precopyTables())
	return b.String()
}

// precopyTables are what pre-copy costs besides its time.
func (r *Results) precopyTables() string {
	var b strings.Builder
	if r.AfterRounds != nil {
		fmt.Fprintf(&b, "\n## A restore costs the same after any number of rounds\n\nA process with %d MB that writes half a GB each second; in milliseconds.\n\n%s",
			r.AfterRounds[0].Stored>>20, r.afterRoundsTable())
	}
	if r.Slowdown != nil {
		fmt.Fprintf(&b, "\n## What clients notice of pre-copy\n\n%s", r.Slowdown.line())
	}
	return b.String()
}

func (r *Results) afterRoundsTable() string {
	var b strings.Builder
	b.WriteString("| rounds | copied in them, MB | stored, MB | frozen | eager: running | on demand: running |\n|---|---|---|---|---|---|\n")
	for _, a := range r.AfterRounds {
		fmt.Fprintf(&b, "| %d | %d | %d | %s | %s | %s |\n", a.Rounds, a.Copied>>20, a.Stored>>20, ms(a.Frozen), ms(a.Eager), ms(a.OnDemand))
	}
	return b.String()
}

func (s *Slowdown) line() string {
	return fmt.Sprintf("memcached with %d GB answers %.0f requests per second of %d clients that never rest, and %.0f (%.0f %%) in the %v of pre-copy "+
		"(medians of intervals of %v; clients, memcached and kup share the processors).\n",
		s.Gigabytes, s.Before, s.Clients, s.During, 100*s.During/s.Before, s.Precopy, rateStep)
}

func ms(d report.Duration) string {
	return fmt.Sprintf("%.1f", float64(time.Duration(d).Microseconds())/1000)
}
