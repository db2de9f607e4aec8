package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"

	"github.com/kup-project/kup/internal/report"
)

var ofMemcached = regexp.MustCompile(`^memcached (\d+) GB$`)

// plot draws how long memcached stands still, by the size of its memory. Without at least two sizes there is nothing to draw.
func (r *Results) plot(out string) error {
	curves := []struct {
		name string
		of   func(Measured) report.Duration
		line plotter.XYs
	}{
		{"frozen, stop-and-copy", func(m Measured) report.Duration { return m.StopCopy.Frozen }, nil},
		{"frozen, after pre-copy", func(m Measured) report.Duration { return m.Precopy.Frozen }, nil},
		{"restored eagerly, until it runs", func(m Measured) report.Duration { return m.Eager.Running }, nil},
		{"restored on demand, until it runs", func(m Measured) report.Duration { return m.OnDemand.Running }, nil},
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
		for i := range curves {
			c := &curves[i]
			c.line = append(c.line, plotter.XY{X: gigabytes, Y: time.Duration(c.of(m)).Seconds() * 1000})
		}
	}
	if len(curves[0].line) < 2 {
		return nil
	}
	p := plot.New()
	p.Title.Text = "memcached: how long it stands still"
	p.X.Label.Text = fmt.Sprintf("memory (GB); Linux %s, %d processors", r.Kernel, r.Processors)
	p.Y.Label.Text = "milliseconds"
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Legend.Top, p.Legend.Left = true, true
	var lines []any
	for _, c := range curves {
		lines = append(lines, c.name, c.line)
	}
	if err := plotutil.AddLinePoints(p, lines...); err != nil {
		return err
	}
	for _, kind := range []string{"svg", "png"} {
		if err := p.Save(20*vg.Centimeter, 11*vg.Centimeter, filepath.Join(out, "memcached."+kind)); err != nil {
			return err
		}
	}
	return nil
}
