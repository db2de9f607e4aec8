package kernel

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Guard is a small process that holds every descriptor of ours open and sleeps until we are gone; then it becomes a program that puts in
// order what we have left. Until that program closes them, nothing that hangs on the descriptors' last user happens.
//
// Like Will it shares our descriptor table, what we open and close later included, but not our memory: what kills us for the memory that
// we use must not kill it too. All signals are blocked in it.
type Guard struct {
	pid   int
	pidfd int // of ourselves
	table []byte
}

// NewGuard starts a guard that will execute argv, a path first, with the descriptors that are not close-on-exec. If that fails, it kills the
// given processes (descriptors of pidfd_open(2)) itself and waits for their end.
func NewGuard(argv []string, pidfds []int) (*Guard, error) {
	const words = unsafe.Sizeof(uintptr(0))
	text := len("last-guard") + 1
	for _, arg := range argv {
		text += len(arg) + 1
	}
	calls := partingCalls + 2 + 2*len(pidfds)
	tableSize := calls * int(unsafe.Sizeof(tableCall{}))
	polls := (1 + len(pidfds)) * 8
	pointers := (len(argv) + 2) * int(words)
	memory, err := unix.Mmap(-1, 0, tableSize+polls+pointers+text, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("guard: mmap: %w", err)
	}
	g := &Guard{table: memory}
	if g.pidfd, err = unix.PidfdOpen(os.Getpid(), 0); err != nil {
		unix.Munmap(memory)
		return nil, fmt.Errorf("guard: pidfd_open: %w", err)
	}
	l := guardLayout{memory: memory, poll: tableSize, pointer: tableSize + polls, text: tableSize + polls + pointers}
	table := unsafe.Slice((*tableCall)(unsafe.Pointer(&memory[0])), calls)
	l.fill(table, argv, g.pidfd, pidfds)
	if g.pid, err = cloneTableApart(unix.CLONE_FILES|unix.CLONE_FS, table); err != nil {
		unix.Close(g.pidfd)
		unix.Munmap(memory)
		return nil, fmt.Errorf("guard: %w", err)
	}
	return g, nil
}

// guardLayout hands out parts of the memory behind the table: offsets of what is free.
type guardLayout struct {
	memory              []byte
	poll, pointer, text int
}

func (l *guardLayout) fill(table []tableCall, argv []string, self int, pidfds []int) {
	part(table, l.string("last-guard"))
	table = table[partingCalls:]
	table[0] = l.await(self)
	pointers := unsafe.Slice((*uintptr)(unsafe.Pointer(&l.memory[l.pointer])), len(argv)+2)
	for i, arg := range argv {
		pointers[i] = l.string(arg)
	}
	first := uintptr(unsafe.Pointer(&pointers[0]))
	none := uintptr(unsafe.Pointer(&pointers[len(argv)+1])) // an empty environment: a null pointer, as ends argv
	table[1] = tableCall{unix.SYS_EXECVE, [6]uintptr{pointers[0], first, none}, 0}
	for i, fd := range pidfds {
		table[2+i] = tableCall{unix.SYS_PIDFD_SEND_SIGNAL, [6]uintptr{uintptr(fd), uintptr(unix.SIGKILL)}, 0}
		table[2+len(pidfds)+i] = l.await(fd)
	}
}

// await is the call that waits for a process to end: its descriptor becomes readable, see pidfd_open(2).
func (l *guardLayout) await(pidfd int) tableCall {
	p := (*unix.PollFd)(unsafe.Pointer(&l.memory[l.poll]))
	l.poll += 8
	*p = unix.PollFd{Fd: int32(pidfd), Events: unix.POLLIN}
	return tableCall{unix.SYS_POLL, [6]uintptr{uintptr(unsafe.Pointer(p)), 1, ^uintptr(0)}, 0}
}

func (l *guardLayout) string(s string) uintptr {
	at := uintptr(unsafe.Pointer(&l.memory[l.text]))
	l.text += copy(l.memory[l.text:], s) + 1
	return at
}

// Close ends the guard; nothing happens any more when we end.
func (g *Guard) Close() error {
	if err := killTable(g.pid); err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	unix.Close(g.pidfd)
	return unix.Munmap(g.table)
}
