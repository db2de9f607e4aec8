package image

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// WriteSummary writes what a person wants to know about an image: where it comes from, its processes as a tree, how much memory
// they have and which kinds of files they hold.
func (v *View) WriteSummary(w io.Writer) error {
	m := v.Manifest
	sealed := "yes: contents can be verified"
	if !m.Sealed() {
		sealed = "no: contents have no hashes"
	}
	out := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(out, "Image:\t%s\n", v.Dir)
	fmt.Fprintf(out, "Created:\t%s by kup %s\n", m.Created.Format(time.RFC3339), m.Tool)
	fmt.Fprintf(out, "Kernel:\t%s (%s)\n", m.Kernel, m.Arch)
	fmt.Fprintf(out, "Format:\t%d\n", m.Format)
	fmt.Fprintf(out, "Sealed:\t%s\n", sealed)
	fmt.Fprintf(out, "Memory:\t%s stored, %s of it shared\n", bytesText(v.stored()), bytesText(v.storedShared()))
	fmt.Fprintf(out, "Files:\t%s\n", v.fileKinds())
	fmt.Fprintf(out, "\nPID\tSTATE\tTHREADS\tFDS\tMAPPINGS\tSTORED\tCOMMAND\n")
	shown := map[int]bool{}
	for i := range v.State.Processes {
		v.writeTree(out, &v.State.Processes[i], 0, shown)
	}
	return out.Flush()
}

// writeTree writes a line for a process and those of its children.
func (v *View) writeTree(out io.Writer, p *Process, depth int, shown map[int]bool) {
	if shown[p.PID] {
		return
	}
	shown[p.PID] = true
	fmt.Fprintf(out, "%d\t%s\t%d\t%d\t%d\t%s\t%s%s\n", p.PID, p.State, len(p.Threads), len(p.FDs), len(p.Memory.VMAs),
		bytesText(p.Memory.FOAM.Stored()), strings.Repeat("  ", depth), printable(p.Comm))
	for i := range v.State.Processes {
		if child := &v.State.Processes[i]; child.PPID == p.PID {
			v.writeTree(out, child, depth+1, shown)
		}
	}
}

// stored is how many bytes of memory the image holds.
func (v *View) stored() int64 {
	n := v.storedShared()
	for i := range v.State.Processes {
		n += v.State.Processes[i].Memory.FOAM.Stored()
	}
	return n
}

// storedShared is how many of them are of shared memory.
func (v *View) storedShared() int64 {
	var n int64
	for i := range v.State.Memories {
		n += v.State.Memories[i].FOAM.Stored()
	}
	return n
}

// fileKinds counts the open file descriptions of each kind.
func (v *View) fileKinds() string {
	count := map[FileKind]int{}
	var kinds []FileKind
	for _, f := range v.State.Files {
		if count[f.Kind] == 0 {
			kinds = append(kinds, f.Kind)
		}
		count[f.Kind]++
	}
	slices.Sort(kinds)
	var parts []string
	for _, k := range kinds {
		parts = append(parts, fmt.Sprintf("%d %s", count[k], k))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// printable keeps what a process called itself from writing to the terminal on its own.
func printable(s string) string {
	q := fmt.Sprintf("%q", s)
	return q[1 : len(q)-1]
}

func bytesText(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}
