package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kup-project/kup"
	"github.com/kup-project/kup/internal/kernel"
)

// command is what all verbs share.
type command struct {
	stdout, stderr io.Writer
	state          kup.State
	json           bool
	verbose        bool

	started bool // the command line was understood; errors from here on are not about usage
}

// execute runs one command line and returns the exit code.
func execute(args []string, stdout, stderr io.Writer) int {
	c := &command{stdout: stdout, stderr: stderr}
	root := c.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	called, err := root.ExecuteC()
	if err == nil {
		return 0
	}
	var passed exitError
	if errors.As(err, &passed) {
		return int(passed)
	}
	if !c.started {
		err = usageError{err}
	}
	code, kind := classify(err)
	if c.json {
		printJSON(stderr, map[string]string{"error": err.Error(), "kind": kind})
		return code
	}
	fmt.Fprintf(stderr, "kup: %v\n", err)
	if code == exitUsage {
		fmt.Fprintf(stderr, "See '%s --help'.\n", called.CommandPath())
	}
	return code
}

func (c *command) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "kup",
		Short: "Checkpoint and restore applications, and carry them over a change of the kernel",
		Long: `kup saves running applications to disk and brings them back: with their memory, threads, timers, open
files, pipes, sockets and TCP connections, under the same process IDs, on the same kernel or another one.

An application is a tree of processes. "kup run" starts one under kup's care; any other one can be named by
the process ID of its root. "kup update" checkpoints all applications under kup's care, starts a new kernel
without the firmware's reboot, and "kup boot" restores them there.

What cannot be restored faithfully is refused before the application is touched, with the process, the
descriptor or address, and what to do about it. kup needs root.

Exit codes:

` + indent(exitCodes),
		Example: `  kup run --name cache -d -- memcached -u nobody -m 1024
  kup checkpoint cache
  kup restore cache
  kup update --kernel /boot/vmlinuz-6.12.0 --initrd /boot/initrd.img-6.12.0`,
		SilenceErrors: true,
		// How many letters may differ.
		SuggestionsMinimumDistance: 2,
		SilenceUsage:               true,
		Args:                       c.noSuchVerb,
		PersistentPreRun: func(*cobra.Command, []string) {
			level := slog.LevelWarn
			if c.verbose {
				level = slog.LevelDebug
			}
			slog.SetDefault(slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: level})))
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	flags := root.PersistentFlags()
	flags.BoolVarP(&c.verbose, "verbose", "v", false, "say on standard error what is being done")
	flags.BoolVar(&c.json, "json", false, "print results, and errors, as JSON")
	flags.StringVar(&c.state.Dir, "state-dir", "", "where records and images are kept (default $KUP_STATE_DIR, else /var/lib/kup)")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		c.run(), c.checkpoint(), c.restore(), c.ps(), c.inspect(), c.verify(), c.rm(),
		c.update(), c.boot(), c.check(), c.module(), c.version(), c.docs(), c.pageServer(),
	)
	return root
}

// noSuchVerb is the root's argument check: whatever is left there is not a verb.
func (c *command) noSuchVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	message := fmt.Sprintf("there is no command %q", args[0])
	if close := cmd.SuggestionsFor(args[0]); len(close) > 0 {
		message += "; did you mean " + strings.Join(close, " or ") + "?"
	}
	return errors.New(message)
}

// takes checks the number of arguments; what names them.
func takes(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) > most && most == 0:
			return fmt.Errorf("%s takes no arguments, so %q is not understood", cmd.Name(), args[0])
		case len(args) > most:
			return fmt.Errorf("%s takes %s, so %q is not understood", cmd.Name(), what, args[most])
		case len(args) < least:
			return fmt.Errorf("%s needs %s", cmd.Name(), what)
		}
		return nil
	}
}

// verb makes the function that cobra calls; errors before it are about usage.
func (c *command) verb(run func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c.started = true
		return run(cmd, args)
	}
}

// indent makes lines that the manual pages keep as they are.
func indent(text string) string { return "    " + strings.ReplaceAll(text, "\n", "\n    ") }

// interruptible ends the context when kup is asked to give up, so that it can put things back in order. The cause is a stoppedError.
func interruptible(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, kernel.TerminatingSignals...)
	go func() {
		select {
		case s := <-signals:
			cancel(stoppedError{s})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}
