// Inframes looks, in a guest, at what became of memory that was to stay in its page frames:
//
//	inframes look DIR...    compares where the images in folders say that private memory is with where it is now, and prints a count for each process, as JSON
//	inframes kill MOMENT    waits until a page server is there (MOMENT early) or at work (late), and kills it
package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/pageserver"
	"github.com/kup-project/kup/internal/procfs"
)

// count is how many pages of a process's private anonymous memory are where.
type count struct {
	PID       int
	Name      string
	Same      int // in the frame that the image says
	Elsewhere int
	Absent    int // swapped out or given up
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "inframes:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) > 1 && args[0] == "look":
		return look(args[1:])
	case len(args) == 2 && args[0] == "kill":
		return kill(args[1] == "late")
	}
	return fmt.Errorf("unknown command %q", args)
}

func look(dirs []string) error {
	counts := []count{}
	for _, dir := range dirs {
		img, err := image.Open(dir)
		if err != nil {
			return err
		}
		for i := range img.State.Processes {
			p := &img.State.Processes[i]
			if !p.Memory.FOAM.Physical {
				continue
			}
			c, err := compare(p)
			if err != nil {
				return err
			}
			counts = append(counts, c)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(counts)
}

// compare looks where the pages of a process are.
func compare(p *image.Process) (count, error) {
	c := count{PID: p.PID, Name: p.Comm}
	pagemap, err := os.Open(procfs.Path(p.PID, "pagemap"))
	if errors.Is(err, os.ErrNotExist) {
		return c, nil // a child that has ended since
	}
	if err != nil {
		return c, err
	}
	defer pagemap.Close()
	for i := range p.Memory.VMAs {
		v := &p.Memory.VMAs[i]
		if v.Kind != image.VMAAnon || v.Shared {
			continue
		}
		for _, e := range foam.Extents(p.Memory.FOAM.Extents).Within(image.Extent{Start: v.Start, End: v.End}) {
			if err := c.add(pagemap, p.Memory.FOAM, e); err != nil {
				return c, err
			}
		}
	}
	return c, nil
}

// add counts the pages of an extent.
func (c *count) add(pagemap *os.File, f image.FOAM, e image.Extent) error {
	entries := make([]byte, (e.End-e.Start)/kernel.PageSize*8)
	if _, err := pagemap.ReadAt(entries, int64(e.Start/kernel.PageSize*8)); err != nil {
		return err
	}
	for at := e.Start; at < e.End; at, entries = at+kernel.PageSize, entries[8:] {
		entry := binary.LittleEndian.Uint64(entries)
		w, ok := f.Window(at)
		switch {
		case !ok:
			return fmt.Errorf("page %#x is in no window", at)
		case entry&procfs.PagemapPresent == 0:
			c.Absent++
		case entry&procfs.PagemapFrame == (w.Offset+at-w.Start)/kernel.PageSize:
			c.Same++
		default:
			c.Elsewhere++
		}
	}
	return nil
}

// kill kills the first page server that it sees.
func kill(late bool) error {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		all, err := pageserver.List()
		if err != nil {
			return err
		}
		for _, f := range all {
			if done, total := f.Done(); late && (done == 0 || done == total) {
				continue
			}
			return kernel.Kill(f.Server.PID, kernel.SIGKILL)
		}
	}
	return errors.New("there was no page server")
}
