package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/kup-project/kup/internal/report"
	"github.com/kup-project/kup/internal/vm/trial"
)

// BareBoot is how long kernels start that are handed nothing, in a guest without applications: what the kernels of as many updates are measured by.
type BareBoot struct {
	Guest int               `json:"guest_megabytes"`
	Runs  []report.Duration `json:"runs_ms"` // one after the other, from the jump to the first user space
}

// bareBoots measures that in guests like those in which the kernel was changed several times in a row.
func (b *bench) bareBoots(ctx context.Context, updates []Update) ([]BareBoot, error) {
	var guests []int
	for _, u := range updates {
		if len(u.More) > 0 {
			guests = append(guests, u.Guest)
		}
	}
	slices.Sort(guests)
	var all []BareBoot
	for _, guest := range slices.Compact(guests) {
		boot, err := b.bareBoot(ctx, guest)
		if err != nil {
			return all, fmt.Errorf("bare kexec, guest of %d MB: %w", guest, err)
		}
		fmt.Printf("bare kexec, guest of %d MB: kernel %v\n", guest, boot.Runs)
		all = append(all, *boot)
	}
	return all, nil
}

func (b *bench) bareBoot(ctx context.Context, guest int) (boot *BareBoot, err error) {
	dir, err := os.MkdirTemp(b.dir, "guest-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	g, err := trial.Start(ctx, trial.Config{Dir: dir, Lines: []string{fromLine, toLine}, MemoryMB: guest})
	if err != nil {
		return nil, err
	}
	defer g.Close()
	boot = &BareBoot{Guest: guest}
	for range 1 + moreHops {
		t, err := g.Update(ctx, toLine, "--carrier", basic.carrier)
		if err != nil {
			return nil, err
		}
		boot.Runs = append(boot.Runs, kernelTime(t))
	}
	return boot, nil
}

// hops are all updates of the guest: the one that was measured in all its parts, and those that followed.
func (u *Update) hops() []Hop { return append([]Hop{{u.Downtime, u.Kernel}}, u.More...) }

// tableOfHops compares updates in a row, and their kernels with those that are handed nothing.
func (r *UpdateResults) tableOfHops(b *strings.Builder) {
	if len(r.Bare) == 0 {
		return
	}
	b.WriteString("\n## In a row, and the kernel by itself\n\nSeconds. A bare kexec is the same kernel in the same machine without applications, handed nothing: from the jump to its first user space. " +
		"The kernels of updates are compared with it one by one, the first with the first and so on: later ones start more slowly, because the emulator keeps the translated code of " +
		"kernels that were replaced, and writes to memory where code once ran take long (with `-accel tcg,tb-size=64` they do not).\n\n" +
		"| | downtimes | kernel | of a bare kexec, median |\n|---|---|---|---|\n")
	for _, bare := range r.Bare {
		fmt.Fprintf(b, "| bare kexec, of %d MB | | %s | |\n", bare.Guest, list(bare.Runs))
		for _, u := range r.Updates {
			if u.Guest != bare.Guest || len(u.More) == 0 {
				continue
			}
			var downtimes, kernels []report.Duration
			for _, h := range u.hops() {
				downtimes, kernels = append(downtimes, h.Downtime), append(kernels, h.Kernel)
			}
			fmt.Fprintf(b, "| %s | %s | %s | %.0f %% |\n", u.name(), list(downtimes), list(kernels), medianPercent(kernels, bare.Runs))
		}
	}
}

// medianPercent is the median of how many percent durations are of others, one by one, as far as there are any.
func medianPercent(parts, of []report.Duration) float64 {
	var all []float64
	for i := range min(len(parts), len(of)) {
		all = append(all, percent(parts[i], of[i]))
	}
	return median(all, func(p float64) float64 { return p })
}

// list is durations in seconds.
func list(all []report.Duration) string {
	var texts []string
	for _, d := range all {
		texts = append(texts, fmt.Sprintf("%.2f", seconds(d)))
	}
	return strings.Join(texts, ", ")
}
