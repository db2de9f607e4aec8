package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kup-project/kup"
)

func (c *command) restore() *cobra.Command {
	o := kup.RestoreOptions{}
	var wait bool
	cmd := &cobra.Command{
		Use:   "restore (NAME | --dir DIR) [--on-demand] [--fallback] [--wait]",
		Short: "Bring a checkpointed application back",
		Long: `restore brings an application back from its image, and returns when it runs: with the process IDs it had, where it was.
The image stays; it can be restored again once the processes have ended.

Files that the application had open must be where they were, and TCP connections need the addresses they had. If a
process ID or an address is taken, the command names it and gives up (exit code 5). An image that is incomplete, damaged,
somebody else's or of a machine with another processor is not accepted (exit code 4). Whenever the command fails,
nothing is left behind: no process, no file, no packet filter rule.

With --on-demand, the application runs as soon as its mappings exist, whatever its size. A page server, a process of its
own, brings in its memory: first what the application touches, meanwhile all the rest, beginning with what was written last
if the checkpoint was made with --precopy. kup ps shows how far it is. The contents of the image are not verified before. If
the page server is killed in between, the application is killed too, since it would read zeros otherwise; the image can be
restored again.

With --wait, kup stays in front of the application: it passes on the signals INT, TERM, HUP and QUIT, and exits with the
application's exit code.`,
		Example: `  kup restore cache
  kup restore --dir ./server.image --wait`,
		Args: takes(0, 1, "one application"),
		RunE: c.verb(func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == cmd.Flags().Changed("dir") {
				return usagef("restore needs either the name of an application or --dir")
			}
			if len(args) == 1 {
				o.Name = args[0]
			}
			o.State = c.state
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			progress, done := c.progress()
			o.Progress = progress
			restored, err := kup.Restore(ctx, o)
			done()
			if err != nil {
				return err
			}
			c.tellRestore(restored)
			if wait {
				return c.attend(restored.Name, restored.Wait)
			}
			return c.print(restored, func(w io.Writer) error {
				for _, pid := range restored.Roots {
					fmt.Fprintln(w, pid)
				}
				return nil
			})
		}),
	}
	cmd.Flags().StringVar(&o.Dir, "dir", "", "an image")
	cmd.Flags().BoolVar(&o.OnDemand, "on-demand", false, "let the application run at once, and fill its memory meanwhile")
	cmd.Flags().BoolVar(&o.Fallback, "fallback", false, "take memory from the disk, after an update with --keep-fallback that has left it in page frames, too")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait for the application's end and exit with its exit code")
	return cmd
}
