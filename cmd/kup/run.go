package main

import (
	"fmt"
	"io"
	"math"

	"github.com/spf13/cobra"

	"github.com/kup-project/kup"
)

func (c *command) run() *cobra.Command {
	o := kup.RunOptions{}
	cmd := &cobra.Command{
		Use:   "run [--name NAME] [-d] -- COMMAND [ARGUMENT...]",
		Short: "Start an application under kup's care",
		Long: `run starts a command as an application under kup's care: "kup ps" lists it, "kup checkpoint" and "kup restore"
take its name, and "kup update" carries it over to the new kernel.

Without -d, kup stays in front of it: input and output are kup's own, the signals INT, TERM, HUP and QUIT are passed
on, and kup's exit code is the application's (128 and the signal's number if a signal killed it). If the
application is checkpointed and ended meanwhile, kup says so and exits with 0.

With -d, input is /dev/null, output goes to a log, and kup returns at once.

The application runs in a session of its own, without a controlling terminal: only so can the whole tree be
restored. It must stay in the foreground: a program that puts itself into the background, like "memcached -d",
leaves the tree that kup watches over; start it without that option. To be checkpointed it must not have its input or
output on a terminal.

It gets no open files but input, output and error output. Process IDs up to 1000 are not given to applications, since a system that has just booted uses them itself.`,
		Example: `  kup run --name cache -d -- memcached -u nobody -m 1024
  kup run -- ./server --port 8080 </dev/null >server.log 2>&1`,
		Args: takes(1, math.MaxInt, "a command to run"),
		RunE: c.verb(func(_ *cobra.Command, args []string) error {
			o.State, o.Argv = c.state, args
			started, err := kup.Run(o)
			if err != nil {
				return err
			}
			if o.Detached {
				return c.print(started, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "%s: pid %d, output in %s\n", started.Name, started.PID, started.Log)
					return err
				})
			}
			return c.attend(started.Name, started.Wait)
		}),
	}
	cmd.Flags().StringVar(&o.Name, "name", "", "what to call it (default: after the command)")
	cmd.Flags().BoolVarP(&o.Detached, "detach", "d", false, "return at once; output goes to a log")
	cmd.Flags().SetInterspersed(false)
	return cmd
}

// attend waits for an application and passes on its exit code.
func (c *command) attend(name string, wait func() (kup.Outcome, error)) error {
	outcome, err := wait()
	if err != nil {
		return err
	}
	if outcome.Image != "" {
		fmt.Fprintf(c.stderr, "kup: %s was checkpointed to %s; kup restore %s brings it back\n", name, outcome.Image, name)
		return nil
	}
	if outcome.Code != 0 {
		return exitError(outcome.Code)
	}
	return nil
}
