package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kup-project/kup"
)

func (c *command) update() *cobra.Command {
	o := kup.UpdateOptions{}
	cmd := &cobra.Command{
		Use:   "update --kernel FILE [--initrd FILE] [--append STRING] [--carrier CARRIER] [--module FILE] [--keep-fallback] [--no-precopy] [--paranoid] [--dry-run]",
		Short: "Change the kernel under all applications",
		Long: `update saves all running applications under kup's care, starts another kernel without the firmware's reboot, and has "kup boot"
restore them there.

First everything is checked that can be, the new kernel is loaded, and most memory is copied, while the applications run. Then all
of them stop at one instant, their state and what they wrote since are written to the state directory, which must be on a disk,
file systems are made clean, and the new kernel starts. The rest of the machine is not shut down: whatever is not under kup's
care ends.

Memory is carried in files in the state directory (--carrier disk), or in page frames that the new kernel leaves alone until they
were read (--carrier ram), which takes about as much free memory as the applications have. With --no-precopy all of it is written
while they stand still: less is written in all, and the pause is longer. With --paranoid every page is compared with its copy
while they stand still, and all memory with hashes taken there before they run under the new kernel: this finds bugs, and takes its time.

Or memory stays where it is (--carrier frames): some memory blocks are emptied while the applications run, and the new kernel starts
in these. With kup's module for it (--module, see "kup module build") it makes the page frames the applications' again, and nothing
is copied (--carrier frames=module). Without it, it copies their contents to the applications while they run, and gets the memory
back block by block meanwhile, so that some hundred megabytes of free memory are enough (--carrier frames=copy).

Without --carrier kup takes frames=module if there is a module, else ram, frames=copy, or disk, whatever is possible first. For all
but disk and frames=module, the new kernel's modules dax_hmem and kmem must be installed, with which "kup boot" gives memory back.
What is in page frames is lost if the machine is switched off on the way: the applications are started afresh then. There is no way
back either if a new kernel cannot bind or read the memory that has stayed where it was. With --keep-fallback, memory that stays where it is
is copied to the disk as well, most of it while the applications run, and they get it from there if it comes to that.

The new kernel gets the running one's command line, and what --append adds. Its init must call "kup boot" before the
network is up; see there.

If anything fails before the new kernel starts, or kup is killed, all applications run on under the old one.`,
		Example: `  kup update --kernel /boot/vmlinuz-6.12.0 --initrd /boot/initrd.img-6.12.0
  kup update --kernel /boot/vmlinuz-6.12.0 --initrd /boot/initrd.img-6.12.0 --dry-run`,
		Args: takes(0, 0, ""),
		RunE: c.verb(func(cmd *cobra.Command, _ []string) error {
			if o.Kernel == "" {
				return usagef("update needs --kernel")
			}
			if o.Carrier != kup.CarrierBest && !slices.Contains(kup.Carriers, o.Carrier) {
				return usagef("--carrier %s: there are %s", o.Carrier, listed(kup.Carriers))
			}
			o.State, o.Log = c.state, c.log
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			progress, done := c.progress()
			o.Progress = progress
			plan, err := kup.Update(ctx, o)
			done()
			if err != nil {
				return err
			}
			return c.print(plan, func(w io.Writer) error { return printPlan(w, plan) })
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Kernel, "kernel", "", "the new kernel: a distribution's vmlinuz")
	flags.StringVar(&o.Initrd, "initrd", "", "its initrd")
	flags.StringVar(&o.Append, "append", "", "added to the running kernel's command line")
	flags.BoolVar(&o.NoPrecopy, "no-precopy", false, "copy no memory while the applications run")
	flags.StringVar((*string)(&o.Carrier), "carrier", "", "where memory is on its way: "+listed(kup.Carriers)+" (default the first that is possible)")
	flags.StringVar(&o.Module, "module", "", "kup's module for the new kernel, as \"kup module build\" makes it; for --carrier frames=module")
	flags.BoolVar(&o.KeepFallback, "keep-fallback", false, "with --carrier frames, keep the memory on the disk, too, lest the new kernel cannot use it where it is")
	flags.BoolVar(&o.Paranoid, "paranoid", false, "compare every page with its copy while the applications are frozen, and before they run again")
	flags.BoolVar(&o.DryRun, "dry-run", false, "only check whether it would work, and say what would be done")
	return cmd
}

// listed is how a sentence names carriers.
func listed(carriers []kup.Carrier) string {
	var names []string
	for _, c := range carriers {
		names = append(names, string(c))
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// log prints a step of an update when it is reached.
func (c *command) log(s kup.Step) { fmt.Fprintln(c.stderr, s) }

func printPlan(w io.Writer, plan *kup.UpdatePlan) error {
	name := plan.Kernel
	if name == "" {
		name = "a kernel that does not tell its version"
	}
	fmt.Fprintf(w, "%s can be started, with the command line\n  %s\n", name, plan.CmdLine)
	fmt.Fprintf(w, "Memory would be carried by %s: %s.\n", plan.Carrier, plan.CarrierWhy)
	for _, note := range plan.Notes {
		fmt.Fprintf(w, "Note: %s.\n", note)
	}
	if len(plan.Applications) == 0 {
		_, err := fmt.Fprintln(w, "No application runs under kup's care.")
		return err
	}
	var rows [][]string
	for _, a := range plan.Applications {
		rows = append(rows, []string{a.Name, fmt.Sprint(a.PID), size(a.Memory)})
	}
	fmt.Fprintln(w, "These applications would be taken along:")
	return table(w, "NAME PID MEMORY", rows)
}
