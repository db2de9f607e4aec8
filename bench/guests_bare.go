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

// BareBoot is how long a kernel starts that is handed nothing, in a guest without applications: what the kernels of updates are measured by.
type BareBoot struct {
	Guest  int               `json:"guest_megabytes"`
	Runs   []report.Duration `json:"runs_ms"`
	Kernel report.Duration   `json:"kernel_ms"` // their median, from the jump to the first user space
}

// bareRuns is how often the kernel is started so in each guest.
const bareRuns = 3

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
		fmt.Printf("bare kexec, guest of %d MB: kernel %v\n", guest, boot.Kernel)
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
	for range bareRuns {
		t, err := g.Update(ctx, toLine, "--carrier", basic.carrier)
		if err != nil {
			return nil, err
		}
		boot.Runs = append(boot.Runs, kernelTime(t))
	}
	boot.Kernel = median(boot.Runs, itself)
	return boot, nil
}

// hops are all updates of the guest: the one that was measured in all its parts, and those that followed.
func (u *Update) hops() []Hop { return append([]Hop{{u.Downtime, u.Kernel}}, u.More...) }

// tableOfHops compares updates in a row, and their kernels with those that are handed nothing.
func (r *UpdateResults) tableOfHops(b *strings.Builder) {
	if len(r.Bare) == 0 {
		return
	}
	kernelOf := func(h Hop) report.Duration { return h.Kernel }
	b.WriteString("\n## In a row, and the kernel by itself\n\nSeconds. A bare kexec is the same kernel in the same machine without applications, handed nothing: from the jump to its first user space.\n\n" +
		"| | downtimes | kernel | median | of a bare kexec |\n|---|---|---|---|---|\n")
	for _, bare := range r.Bare {
		fmt.Fprintf(b, "| bare kexec, of %d MB | | %s | %.2f | |\n", bare.Guest, list(bare.Runs, itself), seconds(bare.Kernel))
		for _, u := range r.Updates {
			if u.Guest != bare.Guest || len(u.More) == 0 {
				continue
			}
			hops := u.hops()
			kernel := median(hops, kernelOf)
			fmt.Fprintf(b, "| %s | %s | %s | %.2f | %.0f %% |\n", u.name(), list(hops, func(h Hop) report.Duration { return h.Downtime }), list(hops, kernelOf),
				seconds(kernel), percent(kernel, bare.Kernel))
		}
	}
}

func itself(d report.Duration) report.Duration { return d }

// list is durations in seconds.
func list[T any](all []T, of func(T) report.Duration) string {
	var texts []string
	for _, one := range all {
		texts = append(texts, fmt.Sprintf("%.2f", seconds(of(one))))
	}
	return strings.Join(texts, ", ")
}
