package demo

import (
	"context"
	"fmt"
	"image/color"
	"path/filepath"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// bin is the width of a step in the plot.
const bin = 500 * time.Millisecond

var (
	rateColor = color.RGBA{R: 0x1f, G: 0x4e, B: 0x79, A: 0xff}
	gapColor  = color.RGBA{R: 0xf4, G: 0xd9, B: 0xb8, A: 0xff}
)

// plot draws requests per second over time.
func (s *show) plot(context.Context) error {
	replies := s.load.Replies()
	start, end := replies[0], replies[len(replies)-1]
	rates := make(plotter.XYs, int(end.Sub(start)/bin)+1)
	highest := 0.0
	for i := range rates {
		rates[i].X = (time.Duration(i) * bin).Seconds()
	}
	for _, at := range replies {
		rate := &rates[at.Sub(start)/bin]
		rate.Y += 1 / bin.Seconds()
		highest = max(highest, rate.Y)
	}
	p := plot.New()
	p.Title.Text = fmt.Sprintf("memcached under %d connections, through two changes of the kernel", s.Connections)
	p.Title.Padding = vg.Points(8)
	p.X.Label.Text = "time (s)"
	p.Y.Label.Text = "requests per second"
	p.X.Min, p.X.Max = 0, end.Sub(start).Seconds()
	p.Y.Min, p.Y.Max = 0, highest*1.25
	if err := s.drawUpdates(p, start); err != nil {
		return err
	}
	line, err := plotter.NewLine(rates)
	if err != nil {
		return err
	}
	line.StepStyle = plotter.PostStep
	line.Color = rateColor
	line.Width = vg.Points(1.2)
	p.Add(line)
	for _, kind := range []string{"svg", "png"} {
		path := filepath.Join(s.OutDir, "requests."+kind)
		if err := p.Save(24*vg.Centimeter, 11*vg.Centimeter, path); err != nil {
			return err
		}
		s.say("Plot: %s", path)
	}
	return nil
}

// drawUpdates shades the time from freeze to first answer, and says which kernel runs where.
func (s *show) drawUpdates(p *plot.Plot, start time.Time) error {
	var labels plotter.XYLabels
	label := func(x float64, text string) {
		labels.XYs = append(labels.XYs, plotter.XY{X: x, Y: p.Y.Max * 0.93})
		labels.Labels = append(labels.Labels, text)
	}
	label(0.5, "Linux "+lines[0])
	for i, c := range s.updates {
		from, to := c.At("freeze").Sub(start).Seconds(), c.first.Sub(start).Seconds()
		band, err := plotter.NewPolygon(plotter.XYs{{X: from, Y: 0}, {X: to, Y: 0}, {X: to, Y: p.Y.Max}, {X: from, Y: p.Y.Max}})
		if err != nil {
			return err
		}
		band.Color = gapColor
		band.LineStyle = draw.LineStyle{}
		p.Add(band)
		label(from, fmt.Sprintf("%.1f s", to-from))
		label(to+0.5, "Linux "+lines[i+1])
	}
	text, err := plotter.NewLabels(labels)
	if err != nil {
		return err
	}
	for i := range text.TextStyle {
		text.TextStyle[i].Font = font.From(plot.DefaultFont, vg.Points(9))
	}
	p.Add(text)
	return nil
}
