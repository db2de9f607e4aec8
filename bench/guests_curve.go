package main

import (
	"time"

	"gonum.org/v1/plot/plotter"
)

// Curve is answers per second over time; zero is the freeze.
type Curve struct {
	Start float64   `json:"start_s"` // of the first step
	Step  float64   `json:"step_s"`
	Rates []float64 `json:"rates"`
}

// curveStep is fine enough to see a pause, and coarse enough for a rate.
const curveStep = 500 * time.Millisecond

// newCurve counts answers, which are in order. The steps before the first and after the last whole one are left out.
func newCurve(answers []time.Time, zero time.Time) Curve {
	before := int(zero.Sub(answers[0]) / curveStep)
	after := int(answers[len(answers)-1].Sub(zero) / curveStep)
	start := zero.Add(-time.Duration(before) * curveStep)
	c := Curve{Start: start.Sub(zero).Seconds(), Step: curveStep.Seconds(), Rates: make([]float64, before+after)}
	for _, at := range answers {
		if at.Before(start) {
			continue
		}
		if i := int(at.Sub(start) / curveStep); i < len(c.Rates) {
			c.Rates[i] += 1 / curveStep.Seconds()
		}
	}
	return c
}

// line is the curve between two moments, for a plot.
func (c Curve) line(from, to float64) plotter.XYs {
	var line plotter.XYs
	for i, rate := range c.Rates {
		if x := c.Start + float64(i)*c.Step; x >= from && x <= to {
			line = append(line, plotter.XY{X: x, Y: rate})
		}
	}
	return line
}
