package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/kup-project/kup/internal/pageserver"
)

// pageServer is what a restore on demand starts and leaves behind; see package pageserver.
func (c *command) pageServer() *cobra.Command {
	var bury string
	cmd := &cobra.Command{
		Use:    pageserver.Verb,
		Short:  "Fill the memory of a restored application (for kup itself)",
		Hidden: true,
		Args:   takes(0, 0, ""),
		RunE: c.verb(func(*cobra.Command, []string) error {
			if bury != "" {
				return pageserver.Bury(bury)
			}
			return pageserver.Run(os.Stdin, os.Stdout)
		}),
	}
	cmd.Flags().StringVar(&bury, pageserver.UndertakerFlag[len("--"):], "", "the file of a server that has ended too early")
	return cmd
}
