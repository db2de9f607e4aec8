package object

import (
	"encoding/binary"
	"fmt"
	"os"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/tracee"
)

func rebuildEpoll(_ *Rebuild, _ *image.OpenFile) (int, error) {
	fd, err := kernel.EpollCreate()
	if err != nil {
		return -1, fmt.Errorf("epoll_create1: %w", err)
	}
	return fd, nil
}

// epollConnect registers what an instance watches. The kernel remembers the number in the table of whoever registers; so the
// owner does it.
type epollConnect struct {
	rebuild *Rebuild
	batch   *tracee.Batch
	epfd    int
	table   map[int]image.FD // the owner's
}

// epollEventSize is sizeof(struct epoll_event), which is packed on x86-64: __u32 events, __u64 data.
const epollEventSize = 12

func connectEpoll(r *Rebuild, f *image.OpenFile, owner *tracee.Seed, epfd int) error {
	e := &epollConnect{rebuild: r, batch: tracee.NewBatch(owner), epfd: epfd, table: map[int]image.FD{}}
	for _, fd := range r.holders[f.ID].process.FDs {
		e.table[fd.Num] = fd
	}
	var usedUp, others []image.EpollTarget
	for _, t := range f.Epoll.Targets {
		if t.Events&^kernel.EpollBehaviour == 0 {
			usedUp = append(usedUp, t)
		} else {
			others = append(others, t)
		}
	}
	// While only they are there, waiting cannot use up anything else.
	if err := e.register(usedUp, e.addUsedUp); err != nil {
		return err
	}
	return e.register(others, e.add)
}

// register calls add for the targets, with each target's file standing under its number.
func (e *epollConnect) register(targets []image.EpollTarget, add func([]image.EpollTarget) error) error {
	var inPlace []image.EpollTarget
	for _, t := range targets {
		if fd, ok := e.table[t.FD]; ok && fd.File == t.File {
			inPlace = append(inPlace, t)
			continue
		}
		takeAway, err := e.place(t)
		if err != nil {
			return err
		}
		if err := add([]image.EpollTarget{t}); err != nil {
			return err
		}
		if err := takeAway(); err != nil {
			return err
		}
	}
	return add(inPlace)
}

func (e *epollConnect) add(targets []image.EpollTarget) error {
	for _, t := range targets {
		e.control(kernel.EpollCtlAdd, t.FD, t.Events, t.Data)
		if err := e.runIfFull(); err != nil {
			return err
		}
	}
	return e.batch.Run()
}

func (e *epollConnect) control(operation, fd int, events uint32, data uint64) {
	event := binary.LittleEndian.AppendUint32(nil, events)
	event = binary.LittleEndian.AppendUint64(event, data)
	e.batch.Must(fmt.Sprintf("epoll_ctl of fd %d for fd %d", e.epfd, fd), kernel.SysEpollCtl, e.epfd, operation, fd, e.batch.Bytes(event))
}

func (e *epollConnect) runIfFull() error {
	if e.batch.Full() {
		return e.batch.Run()
	}
	return nil
}

// addUsedUp registers targets whose EPOLLONESHOT has been used up: no event is left, not even EPOLLERR and EPOLLHUP, which
// EPOLL_CTL_ADD always includes. Only delivering an event does that; so one is provoked. What is not ready for anything right
// now stays armed for EPOLLERR and EPOLLHUP.
func (e *epollConnect) addUsedUp(targets []image.EpollTarget) error {
	const most = 64
	for len(targets) > most {
		if err := e.addUsedUp(targets[:most]); err != nil {
			return err
		}
		targets = targets[most:]
	}
	if len(targets) == 0 {
		return nil
	}
	for i, t := range targets {
		e.control(kernel.EpollCtlAdd, t.FD, t.Events|kernel.EpollIn|kernel.EpollOut, uint64(i))
	}
	events := e.batch.Space(epollEventSize * len(targets))
	ready := e.batch.Must("epoll_wait", kernel.SysEpollWait, e.epfd, events, len(targets), 0)
	if err := e.batch.Run(); err != nil {
		return err
	}
	delivered := map[uint64]bool{}
	for i := range int(ready.Value()) {
		delivered[binary.LittleEndian.Uint64(events.Data[i*epollEventSize+4:])] = true
	}
	for i, t := range targets {
		if !delivered[uint64(i)] {
			e.control(kernel.EpollCtlMod, t.FD, t.Events, t.Data)
		}
	}
	return e.batch.Run()
}

// place puts a file under the number by which it was registered, where the owner has another file there by now or none, and
// returns what undoes that. The registration lasts as long as the file is open anywhere.
func (e *epollConnect) place(t image.EpollTarget) (takeAway func() error, err error) {
	ours, ok := e.rebuild.fds[t.File]
	if !ok {
		return nil, fmt.Errorf("watched as fd %d: open file %d is not in the image", t.FD, t.File)
	}
	b := e.batch
	pidfd := b.Must("pidfd_open of kup", kernel.SysPidfdOpen, os.Getpid(), 0)
	if err := b.Run(); err != nil {
		return nil, err
	}
	taken := b.Must("take over what epoll watches", kernel.SysPidfdGetfd, pidfd.Value(), ours, 0)
	b.Must("close pidfd", kernel.SysClose, pidfd.Value())
	if err := b.Run(); err != nil {
		return nil, err
	}
	if int(taken.Value()) == t.FD {
		return e.closing(t.FD), nil
	}
	before, used := e.table[t.FD]
	if !used {
		b.Must("dup3", kernel.SysDup3, taken.Value(), t.FD, 0)
		return e.closing(t.FD, int(taken.Value())), b.Run()
	}
	saved := b.Must("dup", kernel.SysFcntl, t.FD, kernel.FDupFDCloExec, 0)
	if err := b.Run(); err != nil {
		return nil, err
	}
	b.Must("dup3", kernel.SysDup3, taken.Value(), t.FD, 0)
	return func() error {
		flags := 0
		if before.CloExec {
			flags = kernel.OCloExec
		}
		b.Must("dup3 back", kernel.SysDup3, saved.Value(), t.FD, flags)
		return e.closing(int(taken.Value()), int(saved.Value()))()
	}, b.Run()
}

// closing returns a function that closes descriptors of the owner.
func (e *epollConnect) closing(fds ...int) func() error {
	return func() error {
		for _, fd := range fds {
			e.batch.Must(fmt.Sprintf("close fd %d", fd), kernel.SysClose, fd)
		}
		return e.batch.Run()
	}
}
