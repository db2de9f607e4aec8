package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kup-project/kup"
)

func (c *command) inspect() *cobra.Command {
	return &cobra.Command{
		Use:   "inspect DIR",
		Short: "Print what an image holds",
		Long: `inspect prints what an image holds, apart from the contents of memory: where it comes from, its processes, and the
kinds of files they have open. With --json it prints all of it. The image must be complete and undamaged, but it may be
of a machine with another processor. It is exit code 4 if it is not acceptable.`,
		Example: `  kup inspect /var/lib/kup/images/cache/1
  kup inspect --json ./cache.image | jq '.state.processes[].fds'`,
		Args: takes(1, 1, "the directory of an image"),
		RunE: c.verb(func(_ *cobra.Command, args []string) error {
			img, err := kup.Inspect(args[0])
			if err != nil {
				return err
			}
			return c.print(img, func(w io.Writer) error { return printImage(w, img) })
		}),
	}
}

func printImage(w io.Writer, img *kup.Image) error {
	m := img.Manifest
	hashes := "yes"
	if !img.Sealed {
		hashes = "no: kup was interrupted before it had hashed the contents; it can be restored, but not verified"
	}
	fmt.Fprintf(w, "image    %s\nwritten  %s by kup %s\nkernel   %s, %s\nhashes   %s\n\n",
		img.Dir, m.Created.Local().Format(time.DateTime), m.Tool, m.Kernel, m.Arch, hashes)
	var rows [][]string
	for _, p := range img.State.Processes {
		var memory uint64
		for _, e := range p.Memory.FOAM.Extents {
			memory += e.End - e.Start
		}
		rows = append(rows, []string{strconv.Itoa(p.PID), strconv.Itoa(p.PPID), string(p.State), strconv.Itoa(len(p.Threads)),
			strconv.Itoa(len(p.FDs)), strconv.Itoa(len(p.Memory.VMAs)), size(memory), p.Comm})
	}
	if err := table(w, "PID PARENT STATE THREADS FDS MAPPINGS SAVED COMMAND", rows); err != nil {
		return err
	}
	kinds := map[string]int{}
	for _, f := range img.State.Files {
		kinds[string(f.Kind)]++
	}
	var counts []string
	for kind, n := range kinds {
		counts = append(counts, fmt.Sprintf("%d %s", n, kind))
	}
	slices.Sort(counts)
	_, err := fmt.Fprintf(w, "\nopen files: %s\nshared memories: %d\n", strings.Join(counts, ", "), len(img.State.Memories))
	return err
}
