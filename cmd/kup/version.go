package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kup-project/kup"
)

func (c *command) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of kup, of the images it writes, and of the running kernel",
		Args:  takes(0, 0, ""),
		RunE: c.verb(func(*cobra.Command, []string) error {
			v := kup.Versions()
			return c.print(v, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "kup %s (%s)\nimage format %d\nkernel %s\n", v.Kup, v.Go, v.Image, v.Kernel)
				return err
			})
		}),
	}
}
