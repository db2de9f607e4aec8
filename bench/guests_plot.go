package main

import (
	"fmt"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"github.com/kup-project/kup/internal/report"
)

// Seconds of the throughput plot: enough before the freeze to see pre-copy, and enough after it to see all variants come back.
const (
	plotFrom, plotTo = -30, 45
)

// plot draws everything for which there are enough figures.
func (r *UpdateResults) plot(out string) error {
	r.drawn = nil
	for _, draw := range []func(string) error{r.plotThroughput, r.plotDowntime, r.plotSizes, r.plotWrites, r.plotParts, r.plotFrozen} {
		if err := draw(out); err != nil {
			return err
		}
	}
	return nil
}

// save writes a plot, and remembers that it is there.
func (r *UpdateResults) save(p *plot.Plot, out, name string) error {
	r.drawn = append(r.drawn, name)
	return save(p, out, name)
}

// compared are the updates in which variants are compared.
func (r *UpdateResults) compared() []Update {
	var all []Update
	for _, u := range r.Updates {
		if u.Megabytes == largestMegabytes && u.Guest < largeGuestMB && u.Sets == usualSets {
			all = append(all, u)
		}
	}
	return all
}

func newPlot(title string, r *UpdateResults) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	if len(r.Updates) > 0 {
		p.Title.Text += fmt.Sprintf("\nmemcached, Linux %s to %s, emulated (QEMU TCG)", r.Updates[0].From, r.Updates[0].To)
	}
	p.Y.Min = 0
	p.Legend.Top = true
	return p
}

// plotThroughput draws the figure of the paper.
func (r *UpdateResults) plotThroughput(out string) error {
	all := r.compared()
	if len(all) == 0 {
		return nil
	}
	p := newPlot(fmt.Sprintf("Throughput through a change of the kernel, %d MB", all[0].Megabytes), r)
	p.X.Label.Text = "seconds since the freeze"
	p.Y.Label.Text = "answers per second"
	for i, u := range all {
		line, err := plotter.NewLine(u.Curve.line(plotFrom, plotTo))
		if err != nil {
			return err
		}
		line.Color, line.Width = palette[i%len(palette)], vg.Points(1.3)
		p.Add(line)
		p.Legend.Add(fmt.Sprintf("%s, %s", u.Variant, u.Carrier), line)
	}
	p.X.Min, p.X.Max, p.Y.Min = plotFrom, plotTo, 0
	p.Y.Max *= 1.3 // room for the legend
	return r.save(p, out, "update-throughput")
}

// plotDowntime draws the downtime by the size of the memory, in the usual guest.
func (r *UpdateResults) plotDowntime(out string) error {
	return r.plotBySize(out, "update-downtime", "Downtime by size of memory", func(guest int) bool { return guest < largeGuestMB })
}

// plotSizes draws the same for much memory.
func (r *UpdateResults) plotSizes(out string) error {
	return r.plotBySize(out, "update-sizes", fmt.Sprintf("Downtime by size of memory, of a machine with %d MB", largeGuestMB), func(guest int) bool { return guest == largeGuestMB })
}

func (r *UpdateResults) plotBySize(out, file, title string, in func(guest int) bool) error {
	var lines []series
	for _, v := range variants {
		s := series{name: v.name + ", " + v.carrier}
		for _, u := range r.Updates {
			if u.Variant == v.name && u.Carrier == v.carrier && u.Sets == usualSets && in(u.Guest) {
				s.points = append(s.points, plotter.XY{X: float64(u.Megabytes), Y: seconds(u.Downtime)})
			}
		}
		if len(s.points) > 1 {
			lines = append(lines, s)
		}
	}
	if len(lines) == 0 {
		return nil
	}
	p := newPlot(title, r)
	p.X.Label.Text = "items in memcached (MB)"
	p.Y.Label.Text = "seconds without an answer"
	p.Legend.Left = true
	if err := addLines(p, lines); err != nil {
		return err
	}
	p.Y.Min = 0
	return r.save(p, out, file)
}

// plotWrites draws downtime and its first part by how much the clients write.
func (r *UpdateResults) plotWrites(out string) error {
	down, frozen := series{name: foam.name + ": downtime"}, series{name: foam.name + ": frozen"}
	for _, u := range r.Updates {
		if u.Variant == foam.name && u.Carrier == foam.carrier && u.Megabytes == usualMegabytes {
			x := float64(u.Sets)
			down.points = append(down.points, plotter.XY{X: x, Y: seconds(u.Downtime)})
			frozen.points = append(frozen.points, plotter.XY{X: x, Y: seconds(u.Frozen)})
		}
	}
	if len(down.points) < 2 {
		return nil
	}
	p := newPlot(fmt.Sprintf("Downtime by how much the clients write, %d MB", usualMegabytes), r)
	p.X.Label.Text = "sets among the requests (%)"
	p.Y.Label.Text = "seconds"
	if err := addLines(p, []series{down, frozen}); err != nil {
		return err
	}
	p.Y.Min = 0
	p.Y.Max *= 1.3
	return r.save(p, out, "update-writes")
}

// plotParts draws what the downtime consists of.
func (r *UpdateResults) plotParts(out string) error {
	parts := []string{"frozen", "the kernel's boot", "init: modules, disk", "restore, until the first answer"}
	of := make([]plotter.Values, len(parts))
	for _, u := range r.compared() {
		for i, d := range []report.Duration{u.Frozen, u.Kernel, u.Init, u.Restore} {
			of[i] = append(of[i], seconds(d))
		}
	}
	return r.plotStacks(out, "update-parts", "What the downtime consists of", parts, of)
}

// plotFrozen draws what the frozen time consists of.
func (r *UpdateResults) plotFrozen(out string) error {
	var parts []string
	var of []plotter.Values
	for n, u := range r.compared() {
		for i, step := range u.frozenSteps() {
			if n == 0 {
				parts, of = append(parts, step.Name), append(of, nil)
			}
			of[i] = append(of[i], seconds(step.Time))
		}
	}
	return r.plotStacks(out, "update-frozen", "What the frozen time consists of", parts, of)
}

func (r *UpdateResults) plotStacks(out, file, title string, parts []string, of []plotter.Values) error {
	var names []string
	for _, u := range r.compared() {
		names = append(names, fmt.Sprintf("%s, %s, %d MB", u.Variant, u.Carrier, u.Megabytes))
	}
	if len(names) == 0 {
		return nil
	}
	p := newPlot(title, r)
	p.Y.Label.Text = "seconds"
	if err := addStacks(p, names, parts, of); err != nil {
		return err
	}
	p.Y.Max *= 1.5 // room for the legend
	return r.save(p, out, file)
}

func seconds(d report.Duration) float64 { return time.Duration(d).Seconds() }
