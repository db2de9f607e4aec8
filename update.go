package kup

import (
	"context"

	"github.com/kup-project/kup/internal/update"
)

// Step says when a step of an update was reached.
type Step = update.Stamp

// Carrier is where memory is while the kernel changes, one of Carriers; empty for the best that is possible.
type Carrier = update.Carrier

// The carriers.
const (
	CarrierBest   = update.CarrierBest
	CarrierDisk   = update.CarrierDisk
	CarrierRAM    = update.CarrierRAM
	CarrierFrames = update.CarrierFrames
	CarrierModule = update.CarrierModule
	CarrierCopy   = update.CarrierCopy
)

// Carriers are those that can be asked for.
var Carriers = update.Carriers

// UpdateOptions says what kernel to change to.
type UpdateOptions struct {
	State
	Kernel    string // path of a bzImage
	Initrd    string // path; empty: none
	Append    string // added to the running kernel's command line
	DryRun    bool   // check only
	NoPrecopy bool   // leave all memory to the freeze
	Carrier   Carrier
	Module    string // path of kup's module for the new kernel, for CarrierModule
	// KeepFallback copies memory to the disk as well as leaving it where it is, with CarrierFrames.
	KeepFallback bool
	Paranoid     bool // compare every page with its copy, and with a hash from then before an application runs under the new kernel
	Progress     Progress
	Log          func(Step) // told of each step when it is reached; may be nil
}

// UpdatePlan says what an update would do.
type UpdatePlan = update.Report

// Update carries all applications under kup's care over to another kernel. It returns only if that failed, when all applications run on, or
// for a dry run. The new system's init is to call Boot.
func Update(ctx context.Context, o UpdateOptions) (*UpdatePlan, error) {
	store, err := o.store()
	if err != nil {
		return nil, err
	}
	return update.Run(ctx, update.Options{
		Store: store, Kernel: o.Kernel, Initrd: o.Initrd, Append: o.Append, DryRun: o.DryRun, NoPrecopy: o.NoPrecopy, Carrier: o.Carrier, Module: o.Module,
		KeepFallback: o.KeepFallback, Paranoid: o.Paranoid, Tool: version(), Progress: o.Progress, Log: o.Log,
	})
}

// BootOptions says how to bring applications up after a start of the machine.
type BootOptions struct {
	State
	NetworkUp string // a program that brings the network interfaces up; empty: they come up otherwise
	Eager     bool   // bring all memory back before an application runs
	Progress  Progress
	Log       func(Step) // told of each step when it is reached; may be nil
}

// Booted says what a boot did.
type Booted = update.Booted

// Boot restores what an update has captured, and starts afresh what ran when the machine went down otherwise. It goes on after
// failures, and its error joins them.
func Boot(ctx context.Context, o BootOptions) (*Booted, error) {
	store, err := o.store()
	if err != nil {
		return nil, err
	}
	return update.Boot(ctx, update.BootOptions{Store: store, NetworkUp: o.NetworkUp, Eager: o.Eager, Progress: o.Progress, Log: o.Log})
}
