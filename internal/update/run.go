package update

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/kup-project/kup/internal/app"
	"github.com/kup-project/kup/internal/checkpoint"
	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/kexec"
	"github.com/kup-project/kup/internal/tracee"
)

// Options says what to update to.
type Options struct {
	Store  *app.Store
	Kernel string // path of a bzImage
	Initrd string // path, "": none
	Append string // added to the running kernel's command line
	DryRun bool   // check only
	Tool   string // version of this program, for the manifests
	// NoPrecopy leaves all memory to the freeze. Without it most is saved while the applications run.
	NoPrecopy bool
	Carrier   Carrier // of memory
	Module    string  // path of kup's module for the next kernel, for CarrierModule
	// KeepFallback copies memory to the disk as well as leaving it where it is, for the case that the next kernel cannot use it there.
	KeepFallback bool
	// Paranoid has every page compared with its copy while the applications are frozen, and with a hash from then before they run under the next kernel.
	Paranoid bool
	// Progress is told of steps and how far they are, in bytes. May be nil.
	Progress func(step string, done, total int64)
	// Log is told of each step of the switch, when it is reached. May be nil.
	Log func(Stamp)
}

// Report is what a dry run found out.
type Report struct {
	Kernel       string    `json:"kernel"` // release of the next kernel
	Carrier      Carrier   `json:"carrier"`
	CarrierWhy   string    `json:"carrier_why"`
	CmdLine      string    `json:"command_line"`
	Notes        []string  `json:"notes,omitempty"`
	Applications []Carried `json:"applications"`
}

// Carried is an application that an update takes along.
type Carried struct {
	Name   string `json:"name"`
	PID    int    `json:"pid"`
	Memory uint64 `json:"memory"` // resident, bytes
}

// Run changes the kernel, and returns only if it did not: after an error all applications run on, and nothing is left behind; a dry
// run returns its report. Errors match refuse.ErrRefused if an application cannot be taken along.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	if o.Log == nil {
		o.Log = func(Stamp) {}
	}
	u := &update{Options: o}
	defer u.close()
	// That takes much memory, and the applications are not to pay for it. Later kup must live, and what its wills put right with it.
	asBefore, err := kernel.EndFirst()
	if err != nil {
		return nil, err
	}
	report, err := u.check(ctx)
	if err != nil || o.DryRun {
		return report, errors.Join(err, u.dismiss(), asBefore())
	}
	if err := errors.Join(u.load(), asBefore()); err != nil {
		return nil, errors.Join(err, u.dismiss())
	}
	if err := u.change(ctx); err != nil {
		return nil, errors.Join(err, u.dismiss(), u.abort())
	}
	return nil, nil // not reached: the kernel has changed
}

// update is one update at work.
type update struct {
	Options
	lock    *os.File
	carried []*carried
	tracer  *tracee.Tracer
	next    kexec.Options
	loaded  bool
	will    *kernel.Will // nil until then
	journal *Journal
	disks   *fileSystems
	kmsg    kernelLog

	frames  *frames.Pool    // nil if there is not enough memory for it, or it is not wanted
	parcel  *frames.Parcel  // of images and journal; nil: they are on the disk
	inPlace *frames.InPlace // which has frames; nil with any other carrier than CarrierModule and CarrierCopy
	carrier Carrier         // in use
	why     string
}

// carried is one application on its way.
type carried struct {
	*app.Locked
	image   string
	session *checkpoint.Session
}

// check finds out whether the update can succeed, and begins the images. Nothing is stopped. There is a report of a dry run only.
func (u *update) check(ctx context.Context) (*Report, error) {
	u.Progress("check", 0, 0)
	var err error
	if u.lock, err = lockUpdates(u.Store.Dir()); err != nil {
		return nil, err
	}
	if err := clearUp(u.Store.Dir()); err != nil {
		return nil, err
	}
	if err := frames.Recover(workDir(u.Store.Dir())); err != nil {
		return nil, err
	}
	if err := kexec.CheckMachine(); err != nil {
		return nil, err
	}
	if err := checkNeeded(u.Store); err != nil {
		return nil, err
	}
	if err := u.findApplications(); err != nil {
		return nil, err
	}
	u.next = kexec.Options{Kernel: u.Kernel, Initrd: u.Initrd}
	if u.next.Image, err = kexec.Open(u.Kernel); err != nil {
		return nil, err
	}
	if err := u.chooseCarrier(ctx); err != nil {
		return nil, err
	}
	if err := u.checkFallback(); err != nil {
		return nil, err
	}
	if err := u.takeParcel(); err != nil {
		return nil, err
	}
	if err := u.describeNext(); err != nil {
		return nil, err
	}
	u.tracer = tracee.New()
	if err := u.prepare(); err != nil {
		return nil, err
	}
	if !u.DryRun {
		return nil, nil // loading the kernel checks it
	}
	return u.report()
}

// describeNext says what the next kernel is started with.
func (u *update) describeNext() error {
	line, err := commandLine(u.Append)
	if err != nil {
		return err
	}
	u.next.CmdLine = line
	if u.next.Free, err = frames.Kept(); err != nil {
		return err
	}
	switch {
	case u.carrier == CarrierModule:
		u.next.Reserve = u.inPlace.Kept()
		u.next.CmdLine += " " + frames.ReservedParameter(u.next.Reserve)
	case u.carrier == CarrierCopy:
		u.next.Keep = u.inPlace.Kept()
		u.next.CmdLine += " " + frames.Parameters(u.next.Keep)
		u.next.Unit, err = u.inPlace.Unit()
	case u.frames != nil:
		u.next.Keep = u.frames.Blocks()
		u.next.CmdLine += " " + frames.Parameters(u.next.Keep)
	}
	if u.parcel != nil {
		u.next.CmdLine += " " + u.parcel.Parameter()
	}
	return err
}

// report checks the next kernel.
func (u *update) report() (*Report, error) {
	plan, err := kexec.Check(u.next)
	if err != nil {
		return nil, err
	}
	report := &Report{Kernel: plan.Version, Carrier: u.carrier, CarrierWhy: u.why, CmdLine: u.next.CmdLine, Notes: plan.Notes, Applications: []Carried{}}
	for _, c := range u.carried {
		report.Applications = append(report.Applications, Carried{c.Name, c.PID, app.Look(c.Record).Memory})
	}
	return report, nil
}

// findApplications locks every application that runs: no other kup command may change it under our hands.
func (u *update) findApplications() error {
	records, err := u.Store.List()
	if err != nil {
		return err
	}
	for _, r := range records {
		if !app.Alive(r) {
			continue
		}
		l, err := u.Store.Lock(r.Name)
		if err != nil {
			return err
		}
		if !app.Alive(l.Record) {
			l.Unlock()
			continue
		}
		u.carried = append(u.carried, &carried{Locked: l})
	}
	return nil
}

// prepare makes a session for every application that has none.
func (u *update) prepare() error {
	for _, c := range u.carried {
		if c.session != nil {
			continue
		}
		dir, err := u.imageDir(c.Name)
		if err != nil {
			return err
		}
		c.session, err = checkpoint.Prepare(u.tracer, checkpoint.Options{Root: c.PID, Dir: dir, Tool: u.Tool, Frames: u.pool(), InPlace: u.inPlace,
			Fallback: u.inPlace != nil && u.KeepFallback, Paranoid: u.Paranoid, Progress: u.Progress})
		if err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		c.image = dir
		if err := checkOutlive(c.PID); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return nil
}

// load hands the next kernel to the running one.
func (u *update) load() error {
	u.Progress("load the kernel", 0, 0)
	if err := u.makeWill(); err != nil {
		return err
	}
	plan, err := kexec.Load(u.next)
	if err != nil {
		return err
	}
	u.loaded = true
	u.next.Image = nil
	// Kernel and initrd were in memory: the applications' pages need the room.
	debug.FreeOSMemory()
	if u.journal, err = newJournal(u.Store.Dir(), plan.Version); err != nil {
		return err
	}
	if u.disks, err = openFileSystems(); err != nil {
		return err
	}
	if err := u.journal.names(u.Kernel, u.Initrd); err != nil {
		return err
	}
	u.kmsg = openKernelLog()
	u.enter()
	if err := u.journal.record(Prepared); err != nil {
		return err
	}
	u.note("loaded " + plan.Version)
	u.note("carrier: " + string(u.carrier) + ": " + u.why)
	return nil
}

// enter puts the applications and their images, which are begun already, into the journal: whoever finds it can clear up.
func (u *update) enter() {
	u.journal.Applications, u.journal.Carrier, u.journal.CarrierWhy, u.journal.Paranoid = nil, u.carrier, u.why, u.Paranoid
	for _, c := range u.carried {
		u.journal.Applications = append(u.journal.Applications, Application{Name: c.Name, PID: c.PID, Image: c.image})
	}
}

// dismiss thaws all applications and removes what was begun of their images.
func (u *update) dismiss() error {
	var failed []error
	for _, c := range u.carried {
		if c.session == nil {
			continue
		}
		failed = append(failed, c.session.Abort())
		c.session = nil
	}
	// Only now: the applications should not wait for this.
	for _, c := range u.carried {
		if c.image == "" {
			continue
		}
		failed = append(failed, removeImage(c.image))
		c.image = ""
	}
	return errors.Join(failed...)
}

// removeImage deletes an image, if there is one.
func removeImage(dir string) error {
	if err := image.Remove(dir); err != nil && !errors.Is(err, image.ErrNotImage) {
		return err
	}
	return nil
}

// abort notes that the applications run on.
func (u *update) abort() error {
	u.note("aborted")
	return u.journal.record(Aborted)
}

func (u *update) close() {
	if u.loaded {
		if err := kexec.Unload(); err != nil {
			u.Progress("the next kernel stays loaded: "+err.Error(), 0, 0)
		}
	}
	if u.will != nil {
		if err := u.will.Close(); err != nil {
			u.Progress(err.Error(), 0, 0)
		}
	}
	if u.disks != nil {
		u.disks.close()
	}
	u.kmsg.close()
	if u.tracer != nil {
		u.tracer.Close()
	}
	switch {
	case u.inPlace != nil:
		if err := u.inPlace.Close(); err != nil {
			u.Progress(err.Error(), 0, 0)
		}
	case u.frames != nil:
		_ = u.frames.Close() // its end gives the memory back too
	}
	for _, c := range u.carried {
		c.Unlock()
	}
	if u.lock != nil {
		u.lock.Close()
	}
}

// note tells everybody that a step is reached.
func (u *update) note(what string) {
	s := stampNow(what)
	u.journal.stamp(s)
	u.kmsg.write(s)
	u.Log(s)
}

// clearUp removes what an update that was killed has left. Images that were captured for another boot are not its business.
func clearUp(stateDir string) error {
	j, err := ReadJournal(stateDir)
	if err != nil || j == nil {
		return err
	}
	elsewhere, err := j.elsewhere()
	if err != nil {
		return err
	}
	switch {
	case j.Phase == Settled || j.Phase == Aborted:
		return nil
	case j.Phase == Restoring:
		return nil // what could not be restored is an ordinary checkpoint now
	case j.Phase == Switched && elsewhere:
		return fmt.Errorf("the last update left %d applications to be restored; run kup boot first", len(j.Applications))
	}
	for _, a := range j.Applications {
		if err := removeImage(a.Image); err != nil {
			return err
		}
	}
	return j.record(Aborted)
}

// commandLine is the running kernel's, without what boot loaders added to it, and with more.
func commandLine(more string) (string, error) {
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return "", err
	}
	return nextCommandLine(string(text), more), nil
}

func nextCommandLine(running, more string) string {
	var words []string
	for word := range strings.FieldsSeq(running) {
		if !strings.HasPrefix(word, "BOOT_IMAGE=") && !strings.HasPrefix(word, "initrd=") && !frames.IsParameter(word) {
			words = append(words, word)
		}
	}
	return strings.TrimSpace(strings.Join(words, " ") + " " + more)
}
