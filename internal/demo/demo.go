package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/kup-project/kup/internal/demo/load"
	"github.com/kup-project/kup/internal/vm"
	"github.com/kup-project/kup/internal/vm/trial"
)

// Config says what to show.
type Config struct {
	Items       int // in memcached
	ItemBytes   int // of each
	Connections int
	OutDir      string // gets the plots and the console's log
	Out         io.Writer
}

// Default is what `make demo` shows.
func Default() Config {
	return Config{Items: 26000, ItemBytes: 4096, Connections: 50, OutDir: "demo-out", Out: os.Stdout}
}

// lines are the kernels, in the order in which the guest runs them.
var lines = []string{"6.1", "6.12", "6.1"}

const (
	// think is how long a client waits between two requests, on average: the guest is emulated and should not be busy with requests alone.
	think = 40 * time.Millisecond
	// calm is how long the load runs before, between and after the updates.
	calm = 5 * time.Second
	// settleTime is the longest that a connection may take after an update until it gets an answer. A peer that has waited long retries seldom.
	settleTime = 60 * time.Second

	guestMemoryMB = 1024
	cacheMemoryMB = 256
)

// show is one demonstration.
type show struct {
	Config
	dir     string
	network *vm.Net
	guest   *trial.Guest
	load    *load.Load
	updates []*change
}

// change is one update, and what the clients saw of it.
type change struct {
	*trial.Timeline
	first, all time.Time // the first answer after it, and when every connection had had one
	gap        time.Duration
}

// Run shows everything, and fails unless every item and every connection is as it should be.
func Run(ctx context.Context, c Config) (err error) {
	s := &show{Config: c}
	if s.dir, err = os.MkdirTemp("", "kup-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	if err := os.MkdirAll(c.OutDir, 0o755); err != nil {
		return err
	}
	if s.network, err = vm.NewNet(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.network.Close()) }()
	defer s.end()
	for _, step := range []func(context.Context) error{s.boot, s.fill, s.run, s.check, s.plot} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	s.say("All %d items are as their clients left them, and all %d connections are the first ones.", s.Items, s.Connections)
	return nil
}

func (s *show) say(format string, args ...any) { fmt.Fprintf(s.Out, format+"\n", args...) }

// end ends the guest; its console's log is kept.
func (s *show) end() {
	if s.load != nil {
		s.load.Close()
	}
	if s.guest == nil {
		return
	}
	s.guest.Close()
	if text, err := os.ReadFile(s.guest.Log); err == nil {
		if err := os.WriteFile(filepath.Join(s.OutDir, "console.log"), text, 0o644); err != nil {
			s.say("The console's log could not be kept: %v", err)
		}
	}
}

func (s *show) boot(ctx context.Context) (err error) {
	s.say("Starting a guest (QEMU, emulated, 2 processors, %d MB) on Linux %s.", guestMemoryMB, lines[0])
	s.guest, err = trial.Start(ctx, trial.Config{
		Dir: s.dir, Lines: lines[:2], Programs: []string{trial.Memcached}, MemoryMB: guestMemoryMB, Net: s.network,
	})
	return err
}

func (s *show) fill(ctx context.Context) error {
	s.load = &load.Load{Protocol: load.Memcached, Items: s.Items, ItemBytes: s.ItemBytes, Think: think, Sets: 10}
	if err := s.guest.StartMemcached(ctx, cacheMemoryMB, s.Connections, s.load); err != nil {
		return err
	}
	began := time.Now()
	s.say("Filling a memcached that kup takes care of with %d random items, %d MB, over %d connections.", s.Items, s.Items*s.ItemBytes/1e6, s.Connections)
	if err := s.load.Fill(); err != nil {
		return err
	}
	s.say("Filled after %.1f s.", time.Since(began).Seconds())
	return nil
}

// run puts load on the guest and changes its kernel.
func (s *show) run(ctx context.Context) error {
	s.load.Run()
	began := time.Now()
	time.Sleep(calm)
	s.say("Under load: %.0f requests per second.", s.load.Rate(began, time.Now()))
	for _, line := range lines[1:] {
		if err := s.update(ctx, line); err != nil {
			return err
		}
		time.Sleep(calm)
	}
	return s.load.Stop()
}

func (s *show) update(ctx context.Context, line string) error {
	s.say("\nkup update --kernel %s", s.guest.Kernel[line])
	t, err := s.guest.Update(ctx, line)
	if err != nil {
		return err
	}
	c := &change{Timeline: t}
	s.updates = append(s.updates, c)
	frozen := t.At("freeze")
	if err := s.load.AwaitAnswers(t.At("jump"), settleTime); err != nil {
		return err
	}
	c.first, c.all = s.load.FirstAnswer(t.At("jump"))
	c.gap = s.load.LongestGap(frozen, c.all)
	s.printTimeline(c)
	return nil
}

func (s *show) check(context.Context) error {
	s.say("\nAsking for every item once more, over the same connections.")
	return s.load.Check()
}
