package main

import (
	"fmt"
	"regexp"
	"strconv"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"

	"github.com/kup-project/kup/internal/report"
)

var ofMemcached = regexp.MustCompile(`^memcached (\d+) GB$`)

// plot draws how long memcached stands still, by the size of its memory. Without at least two sizes there is nothing to draw.
func (r *Results) plot(out string) error {
	of := []func(Measured) report.Duration{
		func(m Measured) report.Duration { return m.StopCopy.Frozen },
		func(m Measured) report.Duration { return m.Precopy.Frozen },
		func(m Measured) report.Duration { return m.Eager.Running },
		func(m Measured) report.Duration { return m.OnDemand.Running },
	}
	lines := []series{
		{name: "frozen, stop-and-copy"}, {name: "frozen, after pre-copy"},
		{name: "restored eagerly, until it runs"}, {name: "restored on demand, until it runs"},
	}
	for _, m := range r.Subjects {
		size := ofMemcached.FindStringSubmatch(m.Subject)
		if size == nil {
			continue
		}
		gigabytes, err := strconv.ParseFloat(size[1], 64)
		if err != nil {
			return err
		}
		for i := range lines {
			lines[i].points = append(lines[i].points, plotter.XY{X: gigabytes, Y: time.Duration(of[i](m)).Seconds() * 1000})
		}
	}
	if len(lines[0].points) < 2 {
		return nil
	}
	p := plot.New()
	p.Title.Text = "memcached: how long it stands still"
	p.X.Label.Text = fmt.Sprintf("memory (GB); Linux %s, %d processors", r.Kernel, r.Processors)
	p.Y.Label.Text = "milliseconds"
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Legend.Top, p.Legend.Left = true, true
	if err := addLines(p, lines); err != nil {
		return err
	}
	return save(p, out, "memcached")
}
