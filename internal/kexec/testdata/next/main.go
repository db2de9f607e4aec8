// Next drives package kexec inside of a guest: next VERB [-kernel F] [-initrd F] [-cmdline S] [-route R], VERB being check, load, unload or jump.
// It prints the plan, or each sentinel that the error matches and the error, as JSON.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/kup-project/kup/internal/kexec"
)

var sentinels = map[string]error{
	"ErrBadKernel": kexec.ErrBadKernel, "ErrBadInitrd": kexec.ErrBadInitrd, "ErrCmdLineTooLong": kexec.ErrCmdLineTooLong,
	"ErrNoKexec": kexec.ErrNoKexec, "ErrDisabled": kexec.ErrDisabled, "ErrLockdown": kexec.ErrLockdown, "ErrPermission": kexec.ErrPermission,
	"ErrNoMemory": kexec.ErrNoMemory, "ErrUnsupportedMachine": kexec.ErrUnsupportedMachine, "ErrNotLoaded": kexec.ErrNotLoaded,
}

func main() {
	var o kexec.Options
	flags := flag.NewFlagSet("next", flag.ExitOnError)
	flags.StringVar(&o.Kernel, "kernel", "", "")
	flags.StringVar(&o.Initrd, "initrd", "", "")
	flags.StringVar(&o.CmdLine, "cmdline", "", "")
	flags.StringVar((*string)(&o.Route), "route", "", "")
	if err := flags.Parse(os.Args[2:]); err != nil {
		panic(err)
	}
	plan, err := do(os.Args[1], o)
	answer := struct {
		Plan      *kexec.Plan
		Sentinels []string
		Error     string
	}{Plan: plan}
	if err != nil {
		answer.Error = err.Error()
		for name, s := range sentinels {
			if errors.Is(err, s) {
				answer.Sentinels = append(answer.Sentinels, name)
			}
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		panic(err)
	}
}

func do(verb string, o kexec.Options) (*kexec.Plan, error) {
	switch verb {
	case "check":
		return kexec.Check(o)
	case "load":
		return kexec.Load(o)
	case "unload":
		return nil, kexec.Unload()
	case "jump":
		return nil, kexec.Jump()
	}
	return nil, fmt.Errorf("unknown verb %q", verb)
}
