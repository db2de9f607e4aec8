package object

import (
	"fmt"
	"os"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/tracee"
)

// Install gives a process under construction its descriptor table, and closes everything else that it has.
//
// The process itself takes each descriptor out of kup (pidfd_getfd), so nothing is sent and nothing is received. The kernel
// always hands out the lowest free number, so numbers are known beforehand and nothing needs to be asked in between.
func (r *Rebuild) Install(p *image.Process, s *tracee.Seed) error {
	t := &table{batch: tracee.NewBatch(s), used: map[int]bool{}}
	if err := t.makeRoom(p); err != nil {
		return err
	}
	const all = 1<<32 - 1
	t.batch.Must("close what it inherited", kernel.SysCloseRange, 0, all, 0)
	pidfd := t.lowest()
	t.batch.Must("pidfd_open of kup", kernel.SysPidfdOpen, os.Getpid(), 0)
	t.used[pidfd] = true
	pidfd = t.moveAside(pidfd, p)
	first := map[int]int{} // OpenFile.ID -> number in this process
	for _, fd := range p.FDs {
		from, known := first[fd.File]
		if known {
			t.duplicate(from, fd)
		} else {
			ours, ok := r.fds[fd.File]
			if !ok {
				return fmt.Errorf("pid %d (%s): fd %d refers to open file %d, which is not in the image", p.PID, p.Comm, fd.Num, fd.File)
			}
			t.fetch(pidfd, ours, fd)
			first[fd.File] = fd.Num
		}
		if t.batch.Full() {
			if err := t.batch.Run(); err != nil {
				return err
			}
		}
	}
	t.close(pidfd)
	return t.batch.Run()
}

// table builds a descriptor table by remote calls, keeping track of what is used.
type table struct {
	batch *tracee.Batch
	used  map[int]bool
	free  int // all below are used
}

// makeRoom lifts the limit on descriptor numbers so far that the table fits. The limits of the application come later.
func (t *table) makeRoom(p *image.Process) error {
	most := 0
	for _, fd := range p.FDs {
		most = max(most, fd.Num)
	}
	limit := t.batch.Space(16)
	const numbers = 2 // one for the pidfd, one for what was fetched
	t.batch.Must("RLIMIT_NOFILE", kernel.SysPrlimit64, 0, kernel.RlimitNoFile, 0, limit)
	if err := t.batch.Run(); err != nil {
		return err
	}
	soft, hard := limit.Word(0), limit.Word(1)
	need := uint64(most + 1 + numbers)
	if soft >= need {
		return nil
	}
	if hard < need {
		// CAP_SYS_RESOURCE may allow it; if not, the error names the numbers.
		hard = need
	}
	what := fmt.Sprintf("raise the limit of %d open descriptors (RLIMIT_NOFILE) to %d", limit.Word(1), need)
	t.batch.Must(what, kernel.SysPrlimit64, 0, kernel.RlimitNoFile, t.batch.Words(need, hard), 0)
	return t.batch.Run()
}

// lowest returns the number that the kernel will choose next.
func (t *table) lowest() int {
	for t.used[t.free] {
		t.free++
	}
	return t.free
}

func (t *table) close(fd int) {
	t.batch.Must(fmt.Sprintf("close fd %d", fd), kernel.SysClose, fd)
	delete(t.used, fd)
	t.free = min(t.free, fd)
}

// moveAside moves a descriptor to a number that the process does not need.
func (t *table) moveAside(fd int, p *image.Process) int {
	wanted := map[int]bool{}
	for _, w := range p.FDs {
		wanted[w.Num] = true
	}
	aside := 0
	for wanted[aside] {
		aside++
	}
	if aside == fd {
		return fd
	}
	t.batch.Must(fmt.Sprintf("dup3 to fd %d", aside), kernel.SysDup3, fd, aside, kernel.OCloExec)
	t.used[aside] = true
	t.close(fd)
	return aside
}

// fetch takes kup's descriptor.
func (t *table) fetch(pidfd, ours int, fd image.FD) {
	at := t.lowest()
	t.batch.Must(fmt.Sprintf("take over fd %d", fd.Num), kernel.SysPidfdGetfd, pidfd, ours, 0)
	t.used[at] = true
	if at == fd.Num {
		if !fd.CloExec { // pidfd_getfd always sets it
			t.batch.Must(fmt.Sprintf("F_SETFD of fd %d", at), kernel.SysFcntl, at, kernel.FSetFD, 0)
		}
		return
	}
	t.duplicate(at, fd)
	t.close(at)
}

// duplicate makes fd.Num a duplicate of another number.
func (t *table) duplicate(from int, fd image.FD) {
	flags := 0
	if fd.CloExec {
		flags = kernel.OCloExec
	}
	t.batch.Must(fmt.Sprintf("dup3 to fd %d", fd.Num), kernel.SysDup3, from, fd.Num, flags)
	t.used[fd.Num] = true
}
