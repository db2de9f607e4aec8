package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kup-project/kup/internal/report"
)

// UpdateResults is all updates that were measured in one run.
type UpdateResults struct {
	Origin
	Runs    int      `json:"runs"` // of each
	Updates []Update `json:"updates"`

	Bare []BareBoot `json:"bare,omitempty"` // kernels by themselves

	drawn []string // names of plots
}

const updateFile = "update.json"

func newUpdateResults(runs int, updates []Update, bare []BareBoot) (*UpdateResults, error) {
	origin, err := newOrigin()
	return &UpdateResults{Origin: origin, Runs: runs, Updates: updates, Bare: bare}, err
}

// write puts numbers, tables and plots into a folder.
func (r *UpdateResults) write(out string) error {
	if err := writeJSON(out, updateFile, r); err != nil {
		return err
	}
	return r.show(out)
}

// show makes tables and plots of the numbers.
func (r *UpdateResults) show(out string) error {
	for i := range r.Updates {
		u := &r.Updates[i]
		u.Guest = cmp.Or(u.Guest, usualGuestMB) // older results do not say
	}
	if err := r.plot(out); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "update.md"), []byte(r.tables()), 0o644)
}

// frozenSteps are the parts of the time from freeze to jump. All updates have the same ones.
func (u *Update) frozenSteps() report.Steps {
	var steps report.Steps
	rest := u.Frozen
	for _, name := range []string{"freeze", "processes", "mappings", "objects", "pages", "network", "commit"} {
		step := report.Step{Name: name}
		if i := slices.IndexFunc(u.Capture.Steps, func(s report.Step) bool { return s.Name == name }); i >= 0 {
			step = u.Capture.Steps[i]
		}
		steps = append(steps, step)
		rest -= step.Time
	}
	return append(steps, report.Step{Name: "journal, file systems", Time: max(rest, 0)})
}

func (u *Update) name() string {
	name := fmt.Sprintf("%s, %s, %d MB, %d %%", u.Variant, u.Carrier, u.Megabytes, u.Sets)
	if u.Guest != usualGuestMB {
		name += fmt.Sprintf(", of %d MB", u.Guest)
	}
	return name
}

// tables are for people.
func (r *UpdateResults) tables() string {
	var b strings.Builder
	r.introduce(&b)
	r.tableOfParts(&b)
	r.tableOfHops(&b)
	r.tableOfFrozen(&b)
	r.tableOfPrecopy(&b)
	b.WriteString("\n## Restores, step by step\n\n| | kup boot, until the first answer | kup's restore |\n|---|---|---|\n")
	for _, u := range r.Updates {
		fmt.Fprintf(&b, "| %s | %v | %v |\n", u.name(), u.Boot, u.Return.Steps)
	}
	return b.String()
}

// picture shows a plot if there is one.
func (r *UpdateResults) picture(b *strings.Builder, name string) {
	if slices.Contains(r.drawn, name) {
		fmt.Fprintf(b, "\n![%s](%s.svg)\n", name, name)
	}
}

func (r *UpdateResults) introduce(b *strings.Builder) {
	b.WriteString("# Changes of the kernel under load\n\n")
	if len(r.Updates) > 0 {
		fmt.Fprintf(b, "Linux %s to %s, as memcached's clients see it. ", r.Updates[0].From, r.Updates[0].To)
	}
	fmt.Fprintf(b, "Made by `%s` on %s; ", r.Command, r.Date)
	how := "each figure is of a single run"
	if r.Runs > 1 {
		how = fmt.Sprintf("each row is the run with the median downtime of %d", r.Runs)
	}
	fmt.Fprintf(b, "%s. `go run ./bench -part plots` draws and writes this again from [%s](%s).\n\n", how, updateFile, updateFile)
	fmt.Fprintf(b, "**All times are those of an emulated machine** (QEMU TCG, without hardware virtualisation; 2 processors, emulated by one thread, %d MB) on Linux %s, "+
		"%d processors (%s). A real machine is many times as fast: compare the rows with one another. %d connections, items of %d bytes, %v between "+
		"two requests of a connection.\n\n", usualGuestMB, r.Kernel, r.Processors, r.Processor, connections, usualItemBytes, think)
	b.WriteString("| | pre-copy | restore |\n|---|---|---|\n")
	for _, v := range variants {
		if v.carrier == basic.inRAM().carrier {
			continue // the same with another one
		}
		title, precopy, restore := v.name, "yes", "on demand"
		if v.inPlace() {
			title += ", " + v.carrier
		}
		switch v.carrier {
		case ppp.carrier:
			precopy, restore = "nothing is copied", "page frames are bound on demand"
		case ppp.copied().carrier:
			precopy, restore = "nothing is copied", "page frames are copied on demand, and given back block by block"
		}
		if slices.Contains(v.update, "--no-precopy") {
			precopy = "no"
		}
		if slices.Contains(v.boot, "--eager") {
			restore = "eager"
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", title, precopy, restore)
	}
	r.picture(b, "update-throughput")
}

func (r *UpdateResults) tableOfParts(b *strings.Builder) {
	fmt.Fprintf(b, "\n## Downtime\n\nFrom the last answer to the first one after it, in seconds, and its parts: frozen, the new kernel's own boot, its init (modules, disk), and from the "+
		"start of `kup boot` to the first answer. Ours is all of it but the kernel's boot. All answered counts from the freeze; memory back from the first answer: until then some of it may be missing. "+
		"Extra is memory that was in use beyond the applications' own: the carrier's, or what was copied and not given back yet. "+
		"The rows of a machine with %d MB are for %d connections with items of %d bytes.\n\n"+
		"| variant, carrier, memory, sets | answers/s | downtime | frozen | kernel | init | restore | ours | all answered | memory back | extra, MB |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
		largeGuestMB, connections, largeItemBytes)
	for _, u := range r.Updates {
		filled := "at once"
		if u.Filled != 0 {
			filled = fmt.Sprintf("+%.2f", seconds(u.degraded()))
		}
		fmt.Fprintf(b, "| %s | %.0f | **%.2f** | %.2f | %.2f | %.2f | %.2f | %.0f %% | %.2f | %s | %s |\n", u.name(), u.Rate, seconds(u.Downtime),
			seconds(u.Frozen), seconds(u.Kernel), seconds(u.Init), seconds(u.Restore), percent(u.ours(), u.Downtime), seconds(u.All), filled, u.extra())
	}
	r.picture(b, "update-downtime")
	r.picture(b, "update-sizes")
	r.picture(b, "update-parts")
	r.picture(b, "update-writes")
}

// extra is what the update took of memory beside the application's own.
func (u *Update) extra() string {
	if u.Carrier == basic.carrier {
		return "on disk"
	}
	return fmt.Sprintf("%.0f", float64(u.Extra)/1e6)
}

func (r *UpdateResults) tableOfFrozen(b *strings.Builder) {
	if len(r.Updates) == 0 {
		return
	}
	b.WriteString("\n## Frozen, step by step\n\nIn milliseconds.\n\n| |")
	line := "\n|---|"
	for _, step := range r.Updates[0].frozenSteps() {
		b.WriteString(" " + step.Name + " |")
		line += "---|"
	}
	b.WriteString(line + "\n")
	for _, u := range r.Updates {
		fmt.Fprintf(b, "| %s |", u.name())
		for _, step := range u.frozenSteps() {
			fmt.Fprintf(b, " %.0f |", seconds(step.Time)*1000)
		}
		b.WriteString("\n")
	}
	r.picture(b, "update-frozen")
}

func (r *UpdateResults) tableOfPrecopy(b *strings.Builder) {
	b.WriteString("\n## Pre-copy\n\n| | clients write, kB/s | pre-copy, s | rounds | ended because | left for the freeze, MB | answers/s before | in it |\n|---|---|---|---|---|---|---|---|\n")
	for _, u := range r.Updates {
		if p := u.Capture.Precopy; p != nil {
			fmt.Fprintf(b, "| %s | %.0f | %.1f | %d | %s | %.1f | %.0f | %.0f |\n", u.name(), u.Written/1e3, seconds(u.Precopy), len(p.Rounds), p.Ended,
				float64(p.Left)/1e6, u.Rate, u.Slowed)
		}
	}
}
