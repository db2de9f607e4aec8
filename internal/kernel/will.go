package kernel

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Will is what shall happen if this process dies, even by SIGKILL: socket options that are set, messages that are sent,
// processes that are killed, files that are renamed.
//
// It is executed by a small process, which shares our memory and our descriptor table, and sleeps until we are
// gone. So it costs nothing to change, and nobody has to be asked for privileges that only we have.
type Will struct {
	pid     int     // of the process that executes it; 0: a keeper does
	keeper  *keeper // of the thread that made it; may be nil
	pidfd   int     // of ourselves
	memory  []byte
	table   *willTable
	clauses []willClause

	messages [][]byte // that bequeath has mapped
	others   []int    // descriptors of processes to be killed
}

// willTable stands at the beginning of the will's memory. Its calls follow.
type willTable struct {
	next  atomic.Pointer[willTable] // what the keeper executes after this one
	count uintptr                   // of calls
}

// willClause is one call with its data. A clause that is not in force makes a harmless call instead.
type willClause struct {
	call  *tableCall
	value *int32
}

// willPreamble is how many calls come before the clauses.
const willPreamble = partingCalls + 1

// NewWill makes a will with room for so many clauses, none of them in force. It ends with Close.
func NewWill(clauses int) (*Will, error) {
	w, err := draftWill(clauses)
	if err != nil {
		return nil, err
	}
	return w, w.start()
}

// NewTracersWill makes a will that is executed before the tracees of the calling thread run, if that has called KeepThread; otherwise they may run a moment earlier. It is
// closed by the same thread.
func NewTracersWill(clauses int) (*Will, error) {
	w, err := draftWill(clauses)
	if err != nil {
		return nil, err
	}
	return w, w.startOfTracer()
}

// KillOnDeath makes a tracer's will by which processes are killed: all of them or, if it returns an error, none.
func KillOnDeath(pids []int) (*Will, error) {
	w, err := draftWill(len(pids))
	if err != nil {
		return nil, err
	}
	for i, pid := range pids {
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("will: pidfd_open of pid %d: %w", pid, err), w.free())
		}
		w.others = append(w.others, pidfd)
		c := w.clauses[i].call
		c.nr, c.args = unix.SYS_PIDFD_SEND_SIGNAL, [6]uintptr{uintptr(pidfd), uintptr(unix.SIGKILL)}
	}
	return w, w.startOfTracer()
}

// draftWill makes a will that nobody executes yet.
func draftWill(clauses int) (*Will, error) {
	const header, callSize, valueSize = int(unsafe.Sizeof(willTable{})), int(unsafe.Sizeof(tableCall{})), 8
	count := willPreamble + clauses
	values := header + count*callSize
	extra := values + clauses*valueSize
	// Not on the heap: it must stay where it is when nobody but the child knows of it.
	memory, err := unix.Mmap(-1, 0, extra+32, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("will: mmap: %w", err)
	}
	w := &Will{memory: memory, table: (*willTable)(unsafe.Pointer(&memory[0]))}
	if w.pidfd, err = unix.PidfdOpen(os.Getpid(), 0); err != nil {
		unix.Munmap(memory)
		return nil, fmt.Errorf("will: pidfd_open: %w", err)
	}
	w.table.count = uintptr(count)
	calls := unsafe.Slice((*tableCall)(unsafe.Pointer(&memory[header])), count)
	name := memory[extra+16 : extra+32]
	copy(name, "last-will")
	part(calls, uintptr(unsafe.Pointer(&name[0])))
	death := (*unix.PollFd)(unsafe.Pointer(&memory[extra]))
	*death = unix.PollFd{Fd: int32(w.pidfd), Events: unix.POLLIN} // readable once the process is gone: pidfd_open(2)
	calls[partingCalls] = tableCall{unix.SYS_POLL, [6]uintptr{uintptr(unsafe.Pointer(death)), 1, ^uintptr(0)}, 0}
	for i := range clauses {
		c := willClause{&calls[willPreamble+i], (*int32)(unsafe.Pointer(&memory[values+i*valueSize]))}
		c.call.nr = unix.SYS_GETPID
		w.clauses = append(w.clauses, c)
	}
	return w, nil
}

// calls is the whole table.
func (w *Will) calls() []tableCall {
	return unsafe.Slice((*tableCall)(unsafe.Add(unsafe.Pointer(w.table), unsafe.Sizeof(willTable{}))), w.table.count)
}

// start makes the process that executes the will.
func (w *Will) start() (err error) {
	if w.pid, err = cloneTableApart(unix.CLONE_VM|unix.CLONE_FILES, w.calls()); err != nil {
		return errors.Join(fmt.Errorf("will: %w", err), w.free())
	}
	return nil
}

// startOfTracer gives the will to the calling thread's keeper, if there is one.
func (w *Will) startOfTracer() error {
	k, kept := keepers.Load(unix.Gettid())
	if !kept {
		return w.start()
	}
	w.keeper = k.(*keeper)
	for i := range willPreamble {
		w.calls()[i].nr = unix.SYS_GETPID // the keeper has done all that
	}
	w.keeper.remember(w.table)
	return nil
}

// SetSocketInt puts a clause into force: on our death an option that is an int is set on a socket. Clauses are executed in
// their order.
func (w *Will) SetSocketInt(clause, fd, level, name, value int) {
	c := w.clauses[clause]
	*c.value = int32(value)
	c.call.args = [6]uintptr{uintptr(fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(c.value)), 4}
	atomic.StoreUintptr(&c.call.nr, unix.SYS_SETSOCKOPT)
}

// Send puts a clause into force: on our death a message is sent on a socket, which must not make it wait.
func (w *Will) Send(clause, fd int, message []byte) error {
	address, err := w.bequeath(message)
	if err != nil {
		return err
	}
	c := w.clauses[clause]
	c.call.args = [6]uintptr{uintptr(fd), address, uintptr(len(message)), unix.MSG_NOSIGNAL}
	atomic.StoreUintptr(&c.call.nr, unix.SYS_SENDTO)
	return nil
}

// Rename puts a clause into force: on our death a file gets another absolute path, in place of what is there. Each time takes a little memory until Close.
func (w *Will) Rename(clause int, from, to string) error {
	old, err := w.bequeath([]byte(from + "\x00"))
	if err != nil {
		return err
	}
	replaced, err := w.bequeath([]byte(to + "\x00"))
	if err != nil {
		return err
	}
	c := w.clauses[clause]
	c.call.args = [6]uintptr{1: old, 3: replaced} // no folders: the paths are absolute
	atomic.StoreUintptr(&c.call.nr, unix.SYS_RENAMEAT)
	return nil
}

// bequeath puts data to where it is when we are gone.
func (w *Will) bequeath(data []byte) (address uintptr, err error) {
	memory, err := unix.Mmap(-1, 0, len(data), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return 0, fmt.Errorf("will: mmap: %w", err)
	}
	copy(memory, data)
	w.messages = append(w.messages, memory)
	return uintptr(unsafe.Pointer(&memory[0])), nil
}

// RevokeAll takes all clauses out of force.
func (w *Will) RevokeAll() {
	for i := range w.clauses {
		w.Revoke(i)
	}
}

// Revoke takes a clause out of force.
func (w *Will) Revoke(clause int) { atomic.StoreUintptr(&w.clauses[clause].call.nr, unix.SYS_GETPID) }

// Close ends the will; nothing of it happens any more.
func (w *Will) Close() error {
	if w.keeper != nil {
		w.keeper.forget(w.table)
		return w.free()
	}
	if err := killTable(w.pid); err != nil {
		return fmt.Errorf("will: %w", err)
	}
	return w.free()
}

func (w *Will) free() error {
	unix.Close(w.pidfd)
	for _, fd := range w.others {
		unix.Close(fd)
	}
	var failed []error
	for _, m := range append(w.messages, w.memory) {
		failed = append(failed, unix.Munmap(m))
	}
	return errors.Join(failed...)
}
