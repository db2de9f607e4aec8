package restore

import (
	"github.com/kup-project/kup/internal/memory"
	"github.com/kup-project/kup/internal/pageserver"
)

// startPages starts the page server, which gets ready while everything else is built.
func (r *restorer) startPages() (err error) {
	r.memory.Lazy = &memory.Lazy{}
	r.pages, err = pageserver.Start()
	return err
}

// servePages hands over what is missing. From here on system calls in seeds may need pages that only the server brings.
func (r *restorer) servePages() error {
	if r.pages == nil || len(r.memory.Lazy.Spaces) == 0 {
		return nil
	}
	var pids []int
	for i := range r.state.Processes {
		if pid := r.state.Processes[i].PID; r.tree.seeds[pid] != nil {
			pids = append(pids, pid)
		}
	}
	r.report.Pages = &Pages{Server: r.pages.PID()}
	for _, s := range r.memory.Lazy.Spaces {
		for _, e := range s.Missing {
			r.report.Pages.Left += int64(e.End - e.Start)
		}
	}
	if err := r.pages.Serve(r.image.Dir, pids, r.memory.Lazy.Spaces); err != nil {
		return err
	}
	r.memory.Lazy.Close()
	return nil
}

// releasePages lets the server fill what nobody waits for, or end if it has got nothing. After a failed restore there is nobody any more.
func (r *restorer) releasePages() {
	if r.pages == nil {
		return
	}
	r.pages.Release()
	r.memory.Lazy.Close()
}
