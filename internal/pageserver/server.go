package pageserver

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/kernel"
)

// Run is a page server: it reads from in what to do, answers on out when it serves, and returns when the last page is in. An error means
// that the application has lost its memory; whoever gets it ends at once, so that the guard ends the application.
func Run(in, out *os.File) error {
	// Only who kills ends the application with it.
	signal.Ignore(kernel.TerminatingSignals...)
	var c config
	err := cbor.NewDecoder(in).Decode(&c)
	if errors.Is(err, io.EOF) {
		return nil // there is nothing to serve
	}
	if err != nil {
		return fmt.Errorf("page server: configuration: %w", err)
	}
	s := &server{gate: int(in.Fd()), risen: make(chan struct{}, 1)}
	if err := s.prepare(&c); err != nil {
		fmt.Fprintln(out, err)
		return err
	}
	if _, err := io.WriteString(out, ready); err != nil {
		return err
	}
	out.Close()
	return s.serve()
}

// server is a page server at work.
type server struct {
	gate     int
	filling  Filling
	left     []atomic.Uint64 // as filling.Processes
	families []*family
	sources  []*foam.File
	guard    *kernel.Guard
	outlook  *outlook         // of families whose pages are in page frames; nil: there is no horizon
	lowest   []*atomic.Uint64 // of families with an outlook
	risen    chan struct{}    // has something when one of them has changed
}

// prepare takes over the descriptors and opens the FOAM files; then it sets up the guard.
func (s *server) prepare(c *config) (err error) {
	if s.filling.Server, err = identify(os.Getpid()); err != nil {
		return err
	}
	s.filling.Image = c.Image
	pidfds, err := s.meet(c.Processes)
	if err != nil {
		return err
	}
	kup, err := kernel.PidfdOpen(c.Kup)
	if err != nil {
		return fmt.Errorf("find kup (pid %d): %w", c.Kup, err)
	}
	defer kernel.Close(kup)
	zeros, err := kernel.MapAnon(pageSize, kernel.ProtRead, kernel.MapPrivate)
	if err != nil {
		return err
	}
	for i := range c.Spaces {
		if err := s.takeOver(&c.Spaces[i], kup, zeros); err != nil {
			return fmt.Errorf("take over pid %d: %w", c.Spaces[i].PID, err)
		}
	}
	if err := forget(s.filling.Processes); err != nil {
		return err
	}
	// The guard comes first: whatever is in the file, there is an undertaker for.
	if s.guard, err = kernel.NewGuard([]string{"/proc/self/exe", Verb, UndertakerFlag, s.filling.path()}, pidfds); err != nil {
		return err
	}
	return s.filling.save()
}

// meet notes the processes of the application, and returns descriptors of them for the guard.
func (s *server) meet(pids []int) (pidfds []int, err error) {
	s.left = make([]atomic.Uint64, len(pids))
	for _, pid := range pids {
		id, err := identify(pid)
		if err != nil {
			return nil, err
		}
		s.filling.Processes = append(s.filling.Processes, Process{Identity: id})
		pidfd, err := kernel.PidfdOpen(pid)
		if err != nil {
			return nil, err
		}
		pidfds = append(pidfds, pidfd)
	}
	return pidfds, nil
}

func (s *server) takeOver(p *Space, kup int, zeros []byte) error {
	i := slices.IndexFunc(s.filling.Processes, func(known Process) bool { return known.PID == p.PID })
	if i < 0 {
		return errors.New("it is not one of the application's processes")
	}
	src, err := foam.Open(p.Path, p.FOAM)
	if err != nil {
		return err
	}
	s.sources = append(s.sources, src)
	uffd, err := kernel.PidfdGetfd(kup, p.Uffd)
	if err != nil {
		return err
	}
	// The guard keeps it when it becomes the undertaker.
	if err := kernel.KeepOnExec(uffd); err != nil {
		return err
	}
	first := &space{
		pid: p.PID, uffd: uffd, source: src, missing: newPieces(p.Missing), watched: newPieces(p.Watched), zeros: zeros, binder: src.Binder(),
	}
	s.filling.InPlace = s.filling.InPlace || first.binder != nil
	for _, list := range p.Hot {
		first.hot = append(first.hot, newPieces(list))
	}
	total := first.missing.total()
	f := &family{spaces: []*space{first}, gate: s.gate}
	if src.InFrames() {
		if err := s.limit(f); err != nil {
			return err
		}
	}
	s.left[i].Store(total)
	s.filling.Processes[i].Total, s.filling.Processes[i].Left = total, total
	first.settled = func(bytes uint64) { s.left[i].Add(-bytes) }
	s.families = append(s.families, f)
	return nil
}

// limit keeps a family, whose pages are in page frames, from going beyond the horizon, if there is one.
func (s *server) limit(f *family) (err error) {
	if s.outlook == nil {
		if s.outlook, err = lookOut(); s.outlook == nil || err != nil {
			return err
		}
	}
	f.outlook = s.outlook
	f.source, f.spaces[0].outlook = f.spaces[0].source, f.outlook
	f.lowest = &atomic.Uint64{}
	f.risen = func() {
		select {
		case s.risen <- struct{}{}:
		default: // it is not read yet that there was a change
		}
	}
	s.lowest = append(s.lowest, f.lowest)
	return nil
}

// reportEvery is how often the file that says how far we are is replaced.
const reportEvery = 100 * time.Millisecond

// mostThreads is how many threads share the background fill of a family, if there are so many processors for each: what more of them bring in, the application lacks.
const mostThreads = 3

// serve runs all families to their end.
func (s *server) serve() error {
	ends := make(chan error)
	for _, f := range s.families {
		f.threads = min(mostThreads, runtime.NumCPU()/len(s.families))
		go func() { ends <- f.run() }()
	}
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for running := len(s.families); running > 0; {
		select {
		case err := <-ends:
			running--
			if err != nil {
				return s.fail(err)
			}
		case <-tick.C:
			if err := s.report(); err != nil {
				return s.fail(err)
			}
		case <-s.risen:
			if err := s.report(); err != nil {
				return s.fail(err)
			}
		}
	}
	// Whoever finds the file gone may unload kup's module.
	for _, src := range s.sources {
		if err := src.Close(); err != nil {
			return err
		}
	}
	// The file goes first: without it an undertaker, if we are killed in between, knows that all is done. It would stay for ever otherwise.
	if err := os.Remove(s.filling.path()); err != nil {
		return err
	}
	return s.guard.Close()
}

func (s *server) report() error {
	for i := range s.left {
		s.filling.Processes[i].Left = s.left[i].Load()
	}
	if len(s.lowest) > 0 {
		s.filling.Lowest = math.MaxUint64
	}
	for _, lowest := range s.lowest {
		s.filling.Lowest = min(s.filling.Lowest, lowest.Load())
	}
	return s.filling.save()
}

// fail leaves word for the undertaker.
func (s *server) fail(err error) error {
	s.filling.Cause = err.Error()
	return errors.Join(err, s.report())
}
