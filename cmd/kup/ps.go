package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/kup-project/kup"
)

func (c *command) ps() *cobra.Command {
	return &cobra.Command{
		Use:   "ps",
		Short: "List the applications under kup's care",
		Long: `ps lists the applications under kup's care. States:

    running       its processes exist
    stopped       they exist, but a signal has stopped them
    checkpointed  it was ended after its image was complete: kup restore brings it back
    restoring     a restore is going on
    ended         it has ended by itself, or the machine was restarted without kup

An application that was restored on demand, and whose memory is not all back yet, is "running, N% filled". One that was ended because
its page server was killed is named below the list, with what to do.

MEMORY is what its processes have in RAM; memory that they share counts in each of them.`,
		Args: takes(0, 0, ""),
		RunE: c.verb(func(*cobra.Command, []string) error {
			all, err := kup.Applications(c.state)
			if err != nil {
				return err
			}
			return c.print(all, func(w io.Writer) error {
				var rows [][]string
				for _, a := range all {
					pid, processes, memory := "-", "-", "-"
					if a.Processes > 0 {
						pid, processes, memory = strconv.Itoa(a.PID), strconv.Itoa(a.Processes), size(a.Memory)
					}
					image := a.Image
					if image == "" {
						image = "-"
					}
					rows = append(rows, []string{a.Name, pid, state(&a), a.Since.Local().Format(time.DateTime), processes, memory, image})
				}
				if err := table(w, "NAME PID STATE SINCE PROCESSES MEMORY IMAGE", rows); err != nil {
					return err
				}
				for _, a := range all {
					if a.Failure != "" {
						fmt.Fprintf(w, "%s: %s\n", a.Name, a.Failure)
					}
				}
				return nil
			})
		}),
	}
}

// state is the state column: how far a restore on demand is belongs to it.
func state(a *kup.Application) string {
	if a.Filling == nil || a.Filling.Total == 0 {
		return string(a.State)
	}
	return fmt.Sprintf("%s, %d%% filled", a.State, a.Filling.Done*100/a.Filling.Total)
}
