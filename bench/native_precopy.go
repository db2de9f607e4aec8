package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/kup-project/kup/internal/demo/load"
	"github.com/kup-project/kup/internal/report"
)

// Rounds is what a restore costs after so many rounds of pre-copy of an application that writes all the time.
type Rounds struct {
	Rounds   int             `json:"rounds"` // that were done, not the limit
	Copied   int64           `json:"copied"` // bytes, in all rounds
	Stored   int64           `json:"stored"` // bytes
	Frozen   report.Duration `json:"frozen_ms"`
	Eager    report.Duration `json:"eager_running_ms"`
	OnDemand report.Duration `json:"on_demand_running_ms"`
}

// roundLimits are what --rounds is set to.
var roundLimits = []int{1, 2, 4, 8}

// writer is an application that writes to all of its memory.
var writer = shape("a process that writes", "writes", 512)

// afterRounds measures restores after more and more rounds of pre-copy.
func (b *bench) afterRounds(ctx context.Context, runs int) (all []Rounds, err error) {
	a, err := writer.start(ctx, b)
	if a != nil {
		defer func() { err = errors.Join(err, b.end(a)) }()
	}
	if err == nil {
		err = a.answer()
	}
	for _, limit := range roundLimits {
		var measured []Rounds
		for range runs {
			if err != nil {
				return nil, err
			}
			var r Rounds
			r, err = b.afterRoundsOnce(ctx, a, limit)
			measured = append(measured, r)
		}
		m := measured[len(measured)/2]
		m.Frozen = median(measured, func(r Rounds) report.Duration { return r.Frozen })
		m.Eager = median(measured, func(r Rounds) report.Duration { return r.Eager })
		m.OnDemand = median(measured, func(r Rounds) report.Duration { return r.OnDemand })
		all = append(all, m)
	}
	return all, err
}

func (b *bench) afterRoundsOnce(ctx context.Context, a *application, limit int) (r Rounds, err error) {
	precopy := []string{"--precopy", "--rounds", strconv.Itoa(limit)}
	eager, c, err := b.cycle(ctx, a, precopy)
	if err != nil {
		return r, err
	}
	onDemand, _, err := b.cycle(ctx, a, precopy, "--on-demand")
	if err != nil {
		return r, err
	}
	r = Rounds{Rounds: len(c.Precopy.Rounds), Stored: c.Bytes, Frozen: c.Frozen, Eager: eager.Running, OnDemand: onDemand.Running}
	for _, round := range c.Precopy.Rounds {
		r.Copied += round.Bytes
	}
	return r, nil
}

// Slowdown is how much slower memcached answers while its memory is copied ahead. Its clients never rest, and run on the same processors.
type Slowdown struct {
	Gigabytes int             `json:"gigabytes"`
	Clients   int             `json:"clients"`
	Precopy   report.Duration `json:"precopy_ms"` // how long it took
	Before    float64         `json:"rate"`       // answers per second: the median of short intervals
	During    float64         `json:"rate_in_precopy"`
}

// slowdown measures memcached's throughput in pre-copy.
func (b *bench) slowdown(ctx context.Context, runs int) (s Slowdown, err error) {
	s = Slowdown{Gigabytes: 1, Clients: 4}
	a, l, err := b.busyMemcached(ctx, s.Gigabytes, s.Clients)
	if a != nil {
		defer func() { err = errors.Join(err, b.end(a)) }()
	}
	if err != nil {
		return s, err
	}
	l.Run()
	var before, during []float64
	var took []report.Duration
	for range runs {
		begin := time.Now()
		time.Sleep(2 * time.Second)
		before = append(before, rates(l, begin, time.Now())...)
		c, err := b.checkpoint(ctx, a, "--leave-running", "--precopy")
		if err != nil {
			return s, errors.Join(err, l.Stop())
		}
		from, to := precopyTime(c.Steps, time.Now())
		during = append(during, rates(l, from, to)...)
		took = append(took, report.Duration(to.Sub(from)))
		if err := os.RemoveAll(b.image()); err != nil {
			return s, errors.Join(err, l.Stop())
		}
	}
	slices.Sort(before)
	slices.Sort(during)
	if len(during) == 0 {
		return s, errors.Join(fmt.Errorf("pre-copy took less than %v", rateStep), l.Stop())
	}
	s.Precopy = median(took, func(d report.Duration) report.Duration { return d })
	s.Before, s.During = before[len(before)/2], during[len(during)/2]
	return s, l.Stop()
}

// busyMemcached starts and fills a memcached. Its clients are ready to run.
func (b *bench) busyMemcached(ctx context.Context, gigabytes, clients int) (*application, *load.Load, error) {
	const item = 4 << 10
	l := &load.Load{Protocol: load.Memcached, Items: gigabytes << 30 / item, ItemBytes: item, Sets: usualSets}
	a, err := b.startServer(ctx, memcachedCommand(gigabytes), l, clients)
	return a, l, err
}

// precopyTime is when pre-copy began and ended, in a checkpoint that has just ended and had these steps.
func precopyTime(steps report.Steps, end time.Time) (from, to time.Time) {
	to = end
	for _, step := range slices.Backward(steps) {
		if step.Name == "pre-copy" {
			return to.Add(-time.Duration(step.Time)), to
		}
		to = to.Add(-time.Duration(step.Time))
	}
	return to, to
}

// rateStep is long enough for some hundred answers.
const rateStep = 50 * time.Millisecond

// rates are answers per second in the intervals of rateStep from one moment to another.
func rates(l *load.Load, from, to time.Time) []float64 {
	var all []float64
	for ; !from.Add(rateStep).After(to); from = from.Add(rateStep) {
		all = append(all, l.Rate(from, from.Add(rateStep)))
	}
	return all
}
