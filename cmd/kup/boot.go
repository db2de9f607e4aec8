package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kup-project/kup"
)

func (c *command) boot() *cobra.Command {
	o := kup.BootOptions{}
	cmd := &cobra.Command{
		Use:   "boot [--network-up PROGRAM]",
		Short: "Bring the applications up after a start of the machine",
		Long: `boot is for the machine's init, which calls it once after each start: when the disk with the state directory is mounted and the
loopback interface is up, but no other network interface.

After "kup update" it restores the applications. Before it lets PROGRAM bring the network up, it installs packet filter
rules (nf_tables) that keep the kernel from telling the applications' clients that nobody is there; each
application's rules go when it runs again. It runs before its memory is back, if the kernel can do that: what it touches is
brought in first. The command ends when all memory is there; if that fails for an application, it is restored again, with all of it. Only where
memory has stayed in its page frames ("kup update --carrier frames") what it had got of it is lost then, and it is started afresh.

After any other start it lets PROGRAM bring the network up and starts the applications afresh that ran when the
machine went down.

What fails is reported, and the rest goes on. An image is deleted only when its application runs; after a failure
"kup restore" can try again.`,
		Example: `  kup boot --network-up /etc/network-up`,
		Args:    takes(0, 0, ""),
		RunE: c.verb(func(cmd *cobra.Command, _ []string) error {
			o.State, o.Log = c.state, c.log
			progress, done := c.progress()
			o.Progress = progress
			booted, err := kup.Boot(cmd.Context(), o)
			done()
			if err != nil {
				return err
			}
			return c.print(booted, func(w io.Writer) error {
				for _, name := range booted.Restored {
					fmt.Fprintf(w, "%s goes on\n", name)
				}
				for _, name := range booted.Started {
					fmt.Fprintf(w, "%s was started afresh\n", name)
				}
				return nil
			})
		}),
	}
	cmd.Flags().BoolVar(&o.Eager, "eager", false, "bring all memory back before an application runs")
	cmd.Flags().StringVar(&o.NetworkUp, "network-up", "", "a program that brings the network interfaces up")
	return cmd
}
