package main

import (
	"slices"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/checkpoint"
	"github.com/kup-project/kup/internal/report"
)

func TestCurveCountsAnswersByTheirDistanceFromTheFreeze(t *testing.T) {
	zero := time.Unix(1000, 0)
	var answers []time.Time
	for _, ms := range []int{-1100, -900, -400, -300, 100, 600, 1600} {
		answers = append(answers, zero.Add(time.Duration(ms)*time.Millisecond))
	}
	c := newCurve(answers, zero)
	// In the steps of half a second: one, two, one, one and none. What is not a whole step is left out at both ends.
	if want := []float64{2, 4, 2, 2, 0}; c.Start != -1 || !slices.Equal(c.Rates, want) {
		t.Errorf("from %v: %v, expected from -1: %v", c.Start, c.Rates, want)
	}
	if line := c.line(-0.5, 0.5); len(line) != 3 || line[0].X != -0.5 || line[2].Y != 2 {
		t.Errorf("from -0.5 to 0.5: %v", line)
	}
}

func TestPrecopyIsFoundFromTheEndOfACheckpoint(t *testing.T) {
	end := time.Unix(1000, 0)
	ms := func(n int) report.Duration { return report.Duration(time.Duration(n) * time.Millisecond) }
	from, to := precopyTime(report.Steps{{Name: "check", Time: ms(7)}, {Name: "pre-copy", Time: ms(300)}, {Name: "freeze", Time: ms(2)}, {Name: "pages", Time: ms(3)}}, end)
	if end.Sub(to) != 5*time.Millisecond || to.Sub(from) != 300*time.Millisecond {
		t.Errorf("it took %v and ended %v before the end", to.Sub(from), end.Sub(to))
	}
	if from, to := precopyTime(report.Steps{{Name: "freeze", Time: ms(2)}}, end); from != to {
		t.Errorf("pre-copy of %v in a checkpoint without it", to.Sub(from))
	}
}

func TestFrozenStepsSumUp(t *testing.T) {
	second := report.Duration(time.Second)
	u := Update{Frozen: 10 * second, Capture: &checkpoint.Report{Steps: report.Steps{{Name: "check", Time: second}, {Name: "freeze", Time: second}, {Name: "pages", Time: 3 * second}}}}
	sum := report.Duration(0)
	for _, step := range u.frozenSteps() {
		sum += step.Time
	}
	if sum != u.Frozen {
		t.Errorf("the steps sum up to %v of %v", sum, u.Frozen)
	}
}
