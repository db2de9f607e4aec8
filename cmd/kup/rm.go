package main

import (
	"fmt"
	"io"
	"math"

	"github.com/spf13/cobra"

	"github.com/kup-project/kup"
)

func (c *command) rm() *cobra.Command {
	return &cobra.Command{
		Use:   "rm (NAME | DIR)...",
		Short: "Forget an application that does not run, or delete an image",
		Long: `rm with a name forgets an application, and deletes its log and the images that kup found a place for. It refuses
while the application runs. An image whose place was chosen with --dir stays, and rm says so.

rm with a directory, anything with a slash in it, deletes that image, complete or half-written. It refuses any other directory.`,
		Example: `  kup rm cache
  kup rm ./cache.image`,
		Args: takes(1, math.MaxInt, "an application or the directory of an image"),
		RunE: c.verb(func(_ *cobra.Command, args []string) error {
			for _, arg := range args {
				removed, err := kup.Remove(c.state, arg)
				if err != nil {
					return err
				}
				if err := c.print(removed, func(w io.Writer) error { return printRemoved(w, removed) }); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

func printRemoved(w io.Writer, r *kup.Removed) error {
	if r.Kept == "" {
		return nil
	}
	_, err := fmt.Fprintf(w, "%s is forgotten; its image %s stays, kup rm %s deletes it\n", r.Name, r.Kept, r.Kept)
	return err
}
