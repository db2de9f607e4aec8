package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/kup-project/kup"
)

func (c *command) checkpoint() *cobra.Command {
	o := kup.CheckpointOptions{}
	cmd := &cobra.Command{
		Use:   "checkpoint (NAME | --pid PID) [--dir DIR] [--leave-running]",
		Short: "Save an application to disk, and end it",
		Long: `checkpoint saves a running application, a process and all its descendants, to an image: a directory that "kup restore"
brings it back from. The processes are stopped for as long as their state and memory are written, and ended when the
image is complete; with --leave-running they run on.

Kept: processes with their IDs, sessions and credentials; threads with their registers and signals; memory; timers;
open files, pipes, event descriptors, unix sockets; TCP connections with all data under way, so that the peer notices
nothing but a pause if the restore comes soon enough.
Not kept: the contents of files. A file that was deleted while open is saved with the image; all others must be as they were
when the application is restored.

With --leave-running --fork the application stands still only while its processes fork: the image is written from the copies,
which hold the memory of that instant, while the application runs on. What it writes to meanwhile takes memory twice.
Shared memory, huge pages and what children do not inherit are still copied in the freeze.

If something cannot be restored faithfully, the command refuses it before the application is stopped (exit code 3). If it
fails, or is killed, the application runs on and the image is incomplete: it can never be restored.

An application under kup's care keeps its newest image below the state directory; older ones there are deleted
when it is complete. An image with --dir is never deleted by kup, except by "kup rm DIR".

Stopped by Ctrl-C or SIGTERM, it leaves no image, and the application runs on.

The directory of the image goes to standard output; how long the application was frozen, and why, to standard error: -v
gives each step, --json all figures, in milliseconds and bytes.`,
		Example: `  kup checkpoint cache
  kup checkpoint cache --leave-running --dir /backup/cache.image
  kup checkpoint cache --leave-running --fork
  kup checkpoint --pid 4711 --dir ./server.image`,
		Args: takes(0, 1, "one application"),
		RunE: c.verb(func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == cmd.Flags().Changed("pid") {
				return usagef("checkpoint needs either the name of an application or --pid")
			}
			switch {
			case o.Fork && !o.LeaveRunning:
				return usagef("--fork needs --leave-running: it lets the application run on early, and one that is ended gains nothing by that")
			case o.Fork && o.Precopy:
				return usagef("--fork and --precopy exclude each other: memory is copied after the freeze or before it")
			}
			if !slices.Contains([]string{"", "wp-async", "soft-dirty"}, o.Tracking) {
				return usagef("--tracking %s: there are wp-async and soft-dirty", o.Tracking)
			}
			if len(args) == 1 {
				o.Name = args[0]
			}
			o.State = c.state
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			progress, done := c.progress()
			o.Progress = progress
			result, err := kup.Checkpoint(ctx, o)
			done()
			if err != nil {
				return err
			}
			c.tellCheckpoint(result)
			return c.print(result, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, result.Dir)
				return err
			})
		}),
	}
	cmd.Flags().IntVar(&o.PID, "pid", 0, "the process at the root of the tree")
	cmd.Flags().StringVar(&o.Dir, "dir", "", "where the image goes: a directory that does not exist yet (default: below the state directory)")
	cmd.Flags().BoolVar(&o.LeaveRunning, "leave-running", false, "let the application run on")
	cmd.Flags().BoolVar(&o.Precopy, "precopy", false, "copy memory while the application runs, for a short freeze")
	cmd.Flags().BoolVar(&o.Fork, "fork", false, "with --leave-running: freeze the application only for a fork, and save the copy while it runs on")
	cmd.Flags().IntVar(&o.Rounds, "rounds", 0, "with --precopy: at most so many rounds (default 10)")
	cmd.Flags().DurationVar(&o.MaxTime, "max-time", 0, "with --precopy: no further round after so long (default 1m)")
	cmd.Flags().StringVar(&o.Tracking, "tracking", "", "with --precopy: how written pages are found: wp-async or soft-dirty (default the best that works here)")
	cmd.Flags().BoolVar(&o.Paranoid, "paranoid", false, "compare every page with its copy while the application is frozen")
	return cmd
}
