package main

import (
	"encoding/json"
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

// Origin says where and when results were made, and how they can be made again.
type Origin struct {
	Command    string `json:"command"`
	Date       string `json:"date"`
	Kernel     string `json:"kernel"`
	Processor  string `json:"processor"`
	Processors int    `json:"processors"`
}

func newOrigin() (Origin, error) {
	release, err := procfs.KernelRelease()
	return Origin{
		Command: commandLine(), Date: time.Now().UTC().Format(time.DateOnly), Kernel: release,
		Processor: cpuid.CPU.BrandName, Processors: runtime.NumCPU(),
	}, err
}

// commandLine is this run's command, with arguments quoted for a shell where they need it.
func commandLine() string {
	words := []string{"go run ./bench"}
	for _, arg := range os.Args[1:] {
		if strings.ContainsAny(arg, " |*?[]()$") {
			arg = "'" + arg + "'"
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}

// writeJSON writes results for programs.
func writeJSON(out, name string, results any) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, name), append(text, '\n'), 0o644)
}

// readJSON reads what writeJSON has written.
func readJSON(out, name string, results any) error {
	text, err := os.ReadFile(filepath.Join(out, name))
	if err != nil {
		return err
	}
	return json.Unmarshal(text, results)
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
