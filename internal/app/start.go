package app

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
)

const bootIDFile = "/proc/sys/kernel/random/boot_id"

// Spec says what to start.
type Spec struct {
	Name     string // empty: after the program
	Argv     []string
	Env      []string // nil: that of kup
	Cwd      string   // empty: that of kup
	Detached bool     // input from /dev/null, output to a log
}

// Process is an application that was just started and is a child of this process.
type Process struct {
	*Record
	cmd *exec.Cmd
}

// Start starts an application in a session of its own and records it.
//
// The session makes the tree complete: a session or process group led by somebody outside could not be made again in a restore.
func (s *Store) Start(spec Spec) (*Process, error) {
	name, err := s.chooseName(spec)
	if err != nil {
		return nil, err
	}
	if err := s.mkdir("apps"); err != nil {
		return nil, err
	}
	lock, err := s.lockFile(name, false)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := s.nameIsFree(name); err != nil {
		return nil, err
	}
	r := &Record{Name: name, Argv: spec.Argv, Env: spec.Env, Cwd: spec.Cwd, Detached: spec.Detached}
	if r.Env == nil {
		r.Env = os.Environ()
	}
	if r.Cwd == "" {
		if r.Cwd, err = os.Getwd(); err != nil {
			return nil, err
		}
	}
	return s.launch(r)
}

// StartAgain starts a recorded application afresh, detached: after a boot that found nothing to restore.
func (l *Locked) StartAgain() (*Process, error) {
	if Alive(l.Record) {
		return nil, fmt.Errorf("%s: %w as pid %d", l.Name, ErrRunning, l.PID)
	}
	r := *l.Record
	r.Detached = true
	p, err := l.store.launch(&r)
	if err == nil {
		*l.Record = r
	}
	return p, err
}

func (s *Store) launch(r *Record) (*Process, error) {
	cmd := exec.Command(r.Argv[0], r.Argv[1:]...)
	cmd.Env, cmd.Dir = r.Env, r.Cwd
	cmd.SysProcAttr = kernel.NewSession()
	if r.Detached {
		log, err := s.openLog(r)
		if err != nil {
			return nil, err
		}
		defer log.Close()
		cmd.Stdout, cmd.Stderr = log, log // no Stdin is /dev/null
	} else {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	}
	// What kup happens to have inherited, somebody outside has open too, and that could not be checkpointed.
	if err := kernel.CloseOnExecFrom(3); err != nil {
		return nil, err
	}
	if err := kernel.ReserveIDs(0); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: cannot start %s: %w", r.Name, r.Argv[0], err)
	}
	r.PID = cmd.Process.Pid
	r.set(Running)
	err := r.identify()
	if err == nil {
		err = s.save(r)
	}
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		return nil, fmt.Errorf("%s: ended again, since it could not be recorded: %w", r.Name, err)
	}
	return &Process{r, cmd}, nil
}

func (s *Store) openLog(r *Record) (*os.File, error) {
	if r.Log == "" {
		if err := s.mkdir("log"); err != nil {
			return nil, err
		}
		r.Log = s.LogPath(r.Name)
	}
	log, err := os.OpenFile(r.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%s: log: %w", r.Name, err)
	}
	return log, nil
}

// identify notes what tells the process from a later one with the same pid.
func (r *Record) identify() error {
	stat, err := procfs.ReadStat(r.PID)
	if err != nil {
		return err
	}
	r.Start = stat.StartTime
	r.Boot, err = bootID()
	return err
}

func bootID() (string, error) {
	id, err := os.ReadFile(bootIDFile)
	return strings.TrimSpace(string(id)), err
}

// nameIsFree accepts the name of an application that has ended: the new one takes its place.
func (s *Store) nameIsFree(name string) error {
	r, err := s.Load(name)
	switch {
	case errors.Is(err, ErrUnknown):
		return nil
	case err != nil:
		return err
	}
	switch state := Look(r).State; state {
	case Ended:
		return nil
	case Checkpointed, Restoring:
		return fmt.Errorf("%s: %w by a checkpointed application; choose another, or kup restore %s, or kup rm %s", name, ErrExists, name, name)
	default:
		return fmt.Errorf("%s: %w by a running application, pid %d; choose another with --name", name, ErrExists, r.PID)
	}
}

var notInNames = strings.NewReplacer(" ", "-", "/", "-", "+", "-", ":", "-", ",", "-", "=", "-")

func (s *Store) chooseName(spec Spec) (string, error) {
	if len(spec.Argv) == 0 || spec.Argv[0] == "" {
		return "", errors.New("no program to start")
	}
	if spec.Name != "" {
		return spec.Name, CheckName(spec.Name)
	}
	base := strings.TrimLeft(notInNames.Replace(filepath.Base(spec.Argv[0])), "._@-")
	if CheckName(base) != nil {
		base = "app"
	}
	for name, n := base, 2; ; n++ {
		err := s.nameIsFree(name)
		if !errors.Is(err, ErrExists) {
			return name, err
		}
		name = fmt.Sprintf("%s-%d", base, n)
	}
}

// Release lets the process run on when this one ends.
func (p *Process) Release() error { return p.cmd.Process.Release() }

// Attendant catches signals for an application.
type Attendant struct{ signals chan os.Signal }

// NewAttendant catches signals from now on. It is to be made before the application is started: a signal in between would end this
// process instead.
func NewAttendant() *Attendant {
	a := &Attendant{make(chan os.Signal, 16)}
	signal.Notify(a.signals, kernel.ForwardedSignals...)
	return a
}

// Close lets signals do what they did before.
func (a *Attendant) Close() { signal.Stop(a.signals) }

// Attend stands in front of a child until it ends: it passes signals on, and returns how the child ended.
func (a *Attendant) Attend(pid int) (kernel.WaitStatus, error) {
	type result struct {
		status kernel.WaitStatus
		err    error
	}
	ended := make(chan result, 1)
	go func() {
		_, status, err := kernel.Wait(pid, false)
		ended <- result{status, err}
	}()
	for {
		select {
		case sig := <-a.signals:
			// It may have ended just now; then there is nobody to tell.
			if err := kernel.Kill(pid, sig.(kernel.Signal)); err != nil && !errors.Is(err, kernel.ESRCH) {
				return 0, fmt.Errorf("passing %v on to pid %d: %w", sig, pid, err)
			}
		case r := <-ended:
			if r.err != nil {
				return 0, fmt.Errorf("waiting for pid %d: %w", pid, r.err)
			}
			return r.status, nil
		}
	}
}
