package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/klauspost/cpuid/v2"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/report"
)

// Results is everything that was measured in one run.
type Results struct {
	Command    string     `json:"command"`
	Date       string     `json:"date"`
	Kernel     string     `json:"kernel"`
	Processor  string     `json:"processor"`
	Processors int        `json:"processors"`
	Rounds     int        `json:"rounds"`
	CopyRate   float64    `json:"memcpy_bytes_per_s"` // one thread for each processor, into memory that is there already
	Subjects   []Measured `json:"subjects"`
}

func newResults(rounds int) (*Results, error) {
	release, err := procfs.KernelRelease()
	if err != nil {
		return nil, err
	}
	rate, err := copyRate(rounds)
	return &Results{
		Command: strings.Join(append([]string{"go run ./bench"}, os.Args[1:]...), " "), Date: time.Now().UTC().Format(time.DateOnly), Kernel: release, Processor: cpuid.CPU.BrandName,
		Processors: runtime.NumCPU(), Rounds: rounds, CopyRate: rate,
	}, err
}

// copyRate is how fast memory is copied here, bytes per second.
func copyRate(rounds int) (float64, error) {
	const size = 256 << 20
	buffer := func() ([]byte, error) {
		return kernel.MapAnon(size, kernel.ProtRead|kernel.ProtWrite, kernel.MapPrivate)
	}
	var times []report.Duration
	done := make(chan time.Duration)
	for range rounds {
		var starts []chan bool
		for range runtime.NumCPU() {
			from, err := buffer()
			if err != nil {
				return 0, err
			}
			to, err := buffer()
			if err != nil {
				return 0, err
			}
			fill(from)
			fill(to)
			start := make(chan bool)
			starts = append(starts, start)
			go func() {
				<-start
				begin := time.Now()
				copy(to, from)
				took := time.Since(begin)
				kernel.Unmap(from)
				kernel.Unmap(to)
				done <- took
			}()
		}
		for _, start := range starts {
			close(start)
		}
		slowest := time.Duration(0)
		for range starts {
			slowest = max(slowest, <-done)
		}
		times = append(times, report.Duration(slowest))
	}
	middle := median(times, func(d report.Duration) report.Duration { return d })
	return float64(size*runtime.NumCPU()) / time.Duration(middle).Seconds(), nil
}

func fill(mem []byte) {
	for i := 0; i < len(mem); i += kernel.PageSize {
		mem[i] = byte(i >> 12)
	}
}

// lines is a subject's figures for whoever watches the run.
func (m Measured) lines() string {
	var b strings.Builder
	fmt.Fprintf(&b, "  %d MB; frozen %v, after pre-copy %v\n", m.Bytes>>20, m.StopCopy.Frozen, m.Precopy.Frozen)
	fmt.Fprintf(&b, "    stop-and-copy: %v\n    pre-copy: %v\n", m.StopCopy.Steps, m.Precopy.Steps)
	fmt.Fprintf(&b, "  eager: running %v, first answer %v\n    %v\n", m.Eager.Running, m.Eager.Answer, m.Eager.Steps)
	fmt.Fprintf(&b, "  on demand: running %v, first answer %v, filled %v\n    %v\n", m.OnDemand.Running, m.OnDemand.Answer, m.OnDemand.Filled, m.OnDemand.Steps)
	return b.String()
}

// write puts numbers, table and plots into a folder.
func (r *Results) write(out string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, "native.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, "native.md"), []byte(r.table()), 0o644); err != nil {
		return err
	}
	fmt.Printf("Results: %s\n", out)
	return r.plot(out)
}

// table is for people.
func (r *Results) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Checkpoints and restores on one machine\n\n")
	fmt.Fprintf(&b, "Made by `%s` on %s: Linux %s, %d processors (%s), images in memory (tmpfs), medians of %d rounds, in milliseconds.\n",
		r.Command, r.Date, r.Kernel, r.Processors, r.Processor, r.Rounds)
	fmt.Fprintf(&b, "Copying memory with %d threads ran at %.1f GB/s.\n\n", r.Processors, r.CopyRate/1e9)
	b.WriteString("| | stored, MB | frozen, stop-and-copy | of memcpy's rate | frozen, after pre-copy | eager: running | first answer | on demand: running | first answer | filled |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|\n")
	for _, m := range r.Subjects {
		fmt.Fprintf(&b, "| %s | %d | %s | %.2f | %s | %s | %s | %s | %s | %s |\n", m.Subject, m.Bytes>>20, ms(m.StopCopy.Frozen),
			float64(m.Bytes)/time.Duration(m.StopCopy.Frozen).Seconds()/r.CopyRate, ms(m.Precopy.Frozen),
			ms(m.Eager.Running), ms(m.Eager.Answer), ms(m.OnDemand.Running), ms(m.OnDemand.Answer), ms(m.OnDemand.Filled))
	}
	b.WriteString("\nFrozen: from the first process that stops to the last that runs again. Running: until the processes run, as kup reports it. First answer and filled: " +
		"from the start of the command.\n\n## Where the time goes\n\n| | frozen, after pre-copy | restored on demand |\n|---|---|---|\n")
	for _, m := range r.Subjects {
		fmt.Fprintf(&b, "| %s | %v | %v |\n", m.Subject, m.Precopy.Steps, m.OnDemand.Steps)
	}
	return b.String()
}

func ms(d report.Duration) string {
	return fmt.Sprintf("%.1f", float64(time.Duration(d).Microseconds())/1000)
}
