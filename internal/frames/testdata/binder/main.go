// Binder leaves page frames to the next kernel and binds them there, in a guest:
//
//	binder leave MB KERNEL INITRD    fills frames with what testdata/tenant.c expects, and starts the kernel
//	binder take                      makes them the memory of a tenant, tries what must be refused, and frees the rest
//
// What goes from one to the other lies in the folder state. Take prints lines that say what was done.
package main

import (
	"fmt"
	"os"

	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/kexec"
)

const (
	state = "/data/binder.json"
	page  = 4096

	spareBlocks = 6
	spares      = spareBlocks * frames.Size / page // frames for the tenant to bind itself, and for the refusals
)

// left is what the next kernel must know.
type left struct {
	Blocks kexec.Ranges
	Frames []uint64 // physical addresses, of 2 MB each
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "binder:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 4 && args[0] == "leave":
		return leave(args[1], args[2], args[3])
	case len(args) == 1 && args[0] == "take":
		return take()
	}
	return fmt.Errorf("unknown command %q", args)
}
