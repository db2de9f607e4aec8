package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/kup-project/kup"
)

func (c *command) verify() *cobra.Command {
	return &cobra.Command{
		Use:   "verify DIR",
		Short: "Check that an image is what was written",
		Long: `verify checks everything about an image: owner and mode, format version, hashes of all metadata and of all contents
of memory and files. It says nothing if all is well. It is exit code 4 if the image is not acceptable.`,
		Example: "  kup verify /var/lib/kup/images/cache/1",
		Args:    takes(1, 1, "the directory of an image"),
		RunE: c.verb(func(_ *cobra.Command, args []string) error {
			progress, done := c.progress()
			err := kup.Verify(args[0], progress)
			done()
			if err != nil {
				return err
			}
			return c.print(map[string]string{"verified": args[0]}, func(io.Writer) error { return nil })
		}),
	}
}
