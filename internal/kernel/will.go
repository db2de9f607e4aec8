package kernel

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Will is what shall happen if this process dies, even by SIGKILL: socket options that are set, messages that are sent.
//
// It is executed by a small process of its own, which shares our memory and our descriptor table, and sleeps until we are
// gone. So it costs nothing to change, and nobody has to be asked for privileges that only we have.
type Will struct {
	pid     int
	pidfd   int // of ourselves
	memory  []byte
	clauses []willClause

	messages [][]byte // that Send has mapped
}

// willClause is one call with its data. A clause that is not in force makes a harmless call instead.
type willClause struct {
	call  *tableCall
	value *int32
}

// willPreamble is how many calls come before the clauses.
const willPreamble = 2

// NewWill makes a will with room for so many clauses, none of them in force. It ends with Close.
func NewWill(clauses int) (*Will, error) {
	const callSize, valueSize = int(unsafe.Sizeof(tableCall{})), 8
	count := willPreamble + clauses
	values := count * callSize
	extra := values + clauses*valueSize
	// Not on the heap: it must stay where it is when nobody but the child knows of it.
	memory, err := unix.Mmap(-1, 0, extra+32, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("will: mmap: %w", err)
	}
	w := &Will{memory: memory}
	if w.pidfd, err = unix.PidfdOpen(os.Getpid(), 0); err != nil {
		unix.Munmap(memory)
		return nil, fmt.Errorf("will: pidfd_open: %w", err)
	}
	call := func(i int) *tableCall { return (*tableCall)(unsafe.Pointer(&memory[i*callSize])) }
	name := memory[extra+16:]
	copy(name, "kup-will")
	*call(0) = tableCall{unix.SYS_PRCTL, [6]uintptr{unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0]))}, 0}
	death := (*unix.PollFd)(unsafe.Pointer(&memory[extra]))
	*death = unix.PollFd{Fd: int32(w.pidfd), Events: unix.POLLIN} // readable once the process is gone: pidfd_open(2)
	*call(1) = tableCall{unix.SYS_POLL, [6]uintptr{uintptr(unsafe.Pointer(death)), 1, ^uintptr(0)}, 0}
	for i := range clauses {
		c := willClause{call(willPreamble + i), (*int32)(unsafe.Pointer(&memory[values+i*valueSize]))}
		c.call.nr = unix.SYS_GETPID
		w.clauses = append(w.clauses, c)
	}
	if w.pid, err = cloneTable(unix.SYS_CLONE, unix.CLONE_VM|unix.CLONE_FILES|unix.CLONE_FS, 0, unsafe.Slice(call(0), count)); err != nil {
		unix.Close(w.pidfd)
		unix.Munmap(memory)
		return nil, fmt.Errorf("will: clone: %w", err)
	}
	return w, nil
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
	memory, err := unix.Mmap(-1, 0, len(message), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return fmt.Errorf("will: mmap: %w", err)
	}
	copy(memory, message)
	w.messages = append(w.messages, memory)
	c := w.clauses[clause]
	c.call.args = [6]uintptr{uintptr(fd), uintptr(unsafe.Pointer(&memory[0])), uintptr(len(message)), unix.MSG_NOSIGNAL}
	atomic.StoreUintptr(&c.call.nr, unix.SYS_SENDTO)
	return nil
}

// Revoke takes a clause out of force.
func (w *Will) Revoke(clause int) { atomic.StoreUintptr(&w.clauses[clause].call.nr, unix.SYS_GETPID) }

// Close ends the will; nothing of it happens any more.
func (w *Will) Close() error {
	if err := unix.Kill(w.pid, unix.SIGKILL); err != nil {
		return fmt.Errorf("will: pid %d: %w", w.pid, err)
	}
	if err := reapTable(w.pid); err != nil {
		return fmt.Errorf("will: wait for pid %d: %w", w.pid, err)
	}
	unix.Close(w.pidfd)
	for _, m := range w.messages {
		if err := unix.Munmap(m); err != nil {
			return fmt.Errorf("will: munmap: %w", err)
		}
	}
	return unix.Munmap(w.memory)
}
