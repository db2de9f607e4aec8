package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kup-project/kup/internal/checkpoint"
	"github.com/kup-project/kup/internal/demo/load"
	"github.com/kup-project/kup/internal/kmod"
	"github.com/kup-project/kup/internal/report"
	"github.com/kup-project/kup/internal/restore"
	"github.com/kup-project/kup/internal/vm"
	"github.com/kup-project/kup/internal/vm/trial"
)

const (
	fromLine, toLine = "6.1", "6.12"

	connections = 20
	// think is how long a client waits between two requests, on average. The guest is emulated: without it, requests would be all that it does.
	think = 80 * time.Millisecond
	// calm is how long the load runs before the update and after it.
	calm = 5 * time.Second
	// answerTime is the longest that a connection may take after the jump until it gets an answer.
	answerTime = 3 * time.Minute

	// spareMB is what memcached may use beyond its items, and spareShare so much of them.
	spareMB, spareShare = 64, 8
	// diskRoom is what the disk must have for memory, times that.
	diskRoom = 2
)

// Update is what was found out about one scenario. Times before and after the jump are on the host's clock.
type Update struct {
	Variant   string  `json:"variant"`
	Carrier   string  `json:"carrier"`
	From      string  `json:"from"` // release of the old kernel
	To        string  `json:"to"`
	Megabytes int     `json:"megabytes"` // of items
	Guest     int     `json:"guest_megabytes"`
	Sets      int     `json:"sets"` // percent of requests
	Rate      float64 `json:"rate"` // answers per second before the update
	Written   float64 `json:"written_bytes_per_s"`

	Runs     []report.Duration `json:"runs_ms"`     // the downtimes of all runs; the rest is of the run with their median
	Downtime report.Duration   `json:"downtime_ms"` // from the last answer before the jump to the first one after it

	Precopy report.Duration `json:"precopy_ms"`      // 0 if there was none
	Slowed  float64         `json:"rate_in_precopy"` // answers per second in it

	Frozen  report.Duration `json:"frozen_ms"`       // from the freeze to the jump
	Kernel  report.Duration `json:"kernel_ms"`       // to the first user space of the new kernel
	Init    report.Duration `json:"init_ms"`         // to kup boot: modules and disk
	Restore report.Duration `json:"restore_ms"`      // to the first answer
	All     report.Duration `json:"all_answered_ms"` // from the freeze until every connection has had an answer
	Filled  report.Duration `json:"filled_ms"`       // from the freeze until all memory is back; 0 if it came before the first answer
	Extra   uint64          `json:"extra_bytes"`     // of memory, beyond the application's own, at most
	More    []Hop           `json:"more,omitempty"`  // updates that followed

	Boot report.Steps `json:"boot"` // of kup boot, until the application ran

	// What kup says of itself.
	Capture *checkpoint.Report `json:"capture"`
	Return  *restore.Report    `json:"return"`

	Curve Curve `json:"curve"`
}

// Hop is a further update of the same guest.
type Hop struct {
	Downtime report.Duration `json:"downtime_ms"`
	Kernel   report.Duration `json:"kernel_ms"`
}

// updates measures all chosen scenarios, each run in a guest of its own. What fails does not stop the rest; the error joins all failures.
// Interrupted, it gives what it has.
func (b *bench) updates(ctx context.Context, runs int) ([]Update, error) {
	var all []Update
	var failed []error
	for _, s := range scenarios() {
		if !b.chosen(s.String()) || ctx.Err() != nil {
			continue
		}
		fmt.Printf("%v:\n", s)
		var measured []Update
		for range runs {
			u, err := b.update(ctx, s)
			if err != nil {
				fmt.Printf("  failed: %v\n", err)
				failed = append(failed, fmt.Errorf("%v: %w", s, err))
				continue
			}
			fmt.Print(u.lines())
			measured = append(measured, *u)
		}
		if len(measured) > 0 {
			all = append(all, medianUpdate(measured))
		}
	}
	return all, errors.Join(failed...)
}

func medianUpdate(all []Update) Update {
	slices.SortFunc(all, func(a, b Update) int { return int(a.Downtime - b.Downtime) })
	m := all[len(all)/2]
	for _, u := range all {
		m.Runs = append(m.Runs, u.Downtime)
	}
	return m
}

// update does one update of a guest under load, and fails if a client has noticed more than a pause.
func (b *bench) update(ctx context.Context, s scenario) (u *Update, err error) {
	dir, err := os.MkdirTemp(b.dir, "guest-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	network, err := vm.NewNet()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, network.Close()) }()
	files, err := b.files(ctx)
	if err != nil {
		return nil, err
	}
	g, err := trial.Start(ctx, trial.Config{
		Dir: dir, Lines: []string{fromLine, toLine}, Programs: []string{trial.Memcached}, Files: files,
		MemoryMB: s.guest, DiskMB: usualGuestMB + diskRoom*s.megabytes, Net: network,
	})
	if err != nil {
		return nil, err
	}
	defer g.Close()
	l := &load.Load{
		Protocol: load.Memcached, Items: s.megabytes << 20 / s.itemBytes, ItemBytes: s.itemBytes, Think: think, Sets: s.sets,
	}
	defer l.Close()
	if err := g.StartMemcached(ctx, s.megabytes+spareMB+s.megabytes/spareShare, connections, l); err != nil {
		return nil, err
	}
	if err := l.Fill(); err != nil {
		return nil, err
	}
	l.Run()
	began := time.Now()
	time.Sleep(calm)
	t, err := s.hop(ctx, g, l)
	if err != nil {
		return nil, err
	}
	u = &Update{Variant: s.name, Carrier: s.carrier, To: t.Release, Megabytes: s.megabytes, Guest: s.guest, Sets: s.sets}
	if err := u.journal(ctx, g); err != nil {
		return nil, err
	}
	for range s.hops {
		t, err := s.hop(ctx, g, l)
		if err != nil {
			return nil, err
		}
		u.More = append(u.More, Hop{downtime(t, l), kernelTime(t)})
	}
	if err := l.Stop(); err != nil {
		return nil, err
	}
	u.clients(t, l, began)
	u.Written = u.Rate * float64(u.Sets) / 100 * float64(s.itemBytes)
	return u, l.Check()
}

// hop changes the kernel, and lets the clients work for a while after it.
func (s scenario) hop(ctx context.Context, g *trial.Guest, l *load.Load) (*trial.Timeline, error) {
	options := append([]string{"--carrier", s.carrier, "--append", "kup.boot=" + strings.Join(s.boot, ",")}, s.variant.update...)
	t, err := g.Update(ctx, toLine, options...)
	if err != nil {
		return nil, err
	}
	if err := l.AwaitAnswers(t.At("jump"), answerTime); err != nil {
		return nil, err
	}
	time.Sleep(calm)
	return t, nil
}

// downtime is the time without an answer in an update.
func downtime(t *trial.Timeline, l *load.Load) report.Duration {
	first, _ := l.FirstAnswer(t.At("jump"))
	replies := l.Replies()
	next, _ := slices.BinarySearchFunc(replies, first, time.Time.Compare)
	return report.Duration(first.Sub(replies[next-1]))
}

// kernelTime is from the jump to the first user space of the new kernel.
func kernelTime(t *trial.Timeline) report.Duration {
	return report.Duration(t.At("init started").Sub(t.At("jump")))
}

// files are what the guest must have of the next kernel: its modules that give memory back, and kup's, which is built once.
func (b *bench) files(ctx context.Context) (map[string]string, error) {
	k, err := vm.FindKernel(toLine)
	if err != nil {
		return nil, err
	}
	files, err := vm.GiveBackFiles(k)
	if err != nil {
		return nil, err
	}
	module := filepath.Join(b.dir, "kup-frames.ko")
	files[guestModule] = module
	if _, err := os.Stat(module); err == nil {
		return files, nil
	}
	headers, err := vm.FindHeaders(k)
	if err != nil {
		return nil, err
	}
	_, err = kmod.Build(ctx, kmod.Options{Release: k.Release, Image: k.Image, Headers: headers, Out: module})
	return files, err
}

// journal takes what kup has noted.
func (u *Update) journal(ctx context.Context, g *trial.Guest) error {
	journal, err := g.Journal(ctx)
	if err != nil {
		return err
	}
	if len(journal.Applications) != 1 || journal.Applications[0].Capture == nil || journal.Applications[0].Return == nil {
		return fmt.Errorf("the journal of the update, in phase %s, has no figures of the application", journal.Phase)
	}
	u.From = journal.From
	u.Capture, u.Return = journal.Applications[0].Capture, journal.Applications[0].Return
	u.Extra = journal.Extra
	if u.Carrier == basic.inRAM().carrier {
		u.Extra = uint64(u.Capture.Bytes) // it is there until all of it was copied once more
	}
	return nil
}

// clients takes what the clients saw, and when.
func (u *Update) clients(t *trial.Timeline, l *load.Load, began time.Time) {
	freeze, jump, boot := t.At("freeze"), t.At("jump"), t.At("boot")
	first, all := l.FirstAnswer(jump)
	since := func(from, to time.Time) report.Duration { return report.Duration(to.Sub(from)) }
	u.Downtime = downtime(t, l)
	u.Rate = l.Rate(began, t.Asked)
	u.Frozen, u.Kernel, u.Init, u.Restore = since(freeze, jump), kernelTime(t), since(t.At("init started"), boot), since(boot, first)
	u.All = since(freeze, all)
	if filled := t.At("filled " + trial.Cache); filled.After(first) {
		u.Filled = since(freeze, filled)
	}
	for i, m := range t.Marks {
		if m.At.After(boot) && !m.At.After(first) {
			u.Boot = append(u.Boot, report.Step{Name: m.What, Time: since(t.Marks[i-1].At, m.At)})
		}
	}
	if ahead := t.At("copied ahead"); !ahead.IsZero() {
		for _, step := range u.Capture.Steps {
			if step.Name == "pre-copy" {
				u.Precopy = step.Time
			}
		}
		u.Slowed = l.Rate(ahead.Add(-time.Duration(u.Precopy)), ahead)
	}
	u.Curve = newCurve(l.Replies(), freeze)
}

// ours is what of the downtime is not the new kernel's own boot, from the jump to its first user space.
func (u *Update) ours() report.Duration { return u.Downtime - u.Kernel }

func percent(part, of report.Duration) float64 { return 100 * float64(part) / float64(of) }

// degraded is how long the memory was not all there when the application ran already.
func (u *Update) degraded() report.Duration {
	return max(0, u.Filled-u.Frozen-u.Kernel-u.Init-u.Restore)
}

// lines is an update's figures for whoever watches the run.
func (u *Update) lines() string {
	text := fmt.Sprintf("  down for %v: frozen %v, kernel %v, init %v, restore %v (%.0f %% ours); all answered after %v, memory back %v after the first answer\n",
		u.Downtime, u.Frozen, u.Kernel, u.Init, u.Restore, percent(u.ours(), u.Downtime), u.All, u.degraded())
	if u.Precopy != 0 {
		text += fmt.Sprintf("  pre-copy %v, with %.0f answers per second instead of %.0f\n", u.Precopy, u.Slowed, u.Rate)
	}
	return text + fmt.Sprintf("    captured: %v\n    booted: %v\n    restored: %v\n", u.Capture.Steps, u.Boot, u.Return.Steps)
}
