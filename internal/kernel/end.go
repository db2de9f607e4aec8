package kernel

import (
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ends has, by thread ID, the words that the kernel clears when threads end.
var ends sync.Map

// threadLives is such a word before.
const threadLives = 1

// TellEnd lets wills that the calling thread makes (NewTracersWill) hear of its end, which the kernel tells before it lets go of the thread's tracees: set_tid_address(2), and
// kernel/exit.c, do_exit. The goroutine is locked to the thread; stop takes it back, when these wills are closed.
func TellEnd() (stop func(), err error) {
	// Not on the heap: others wait for it in the kernel.
	page, err := unix.Mmap(-1, 0, PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("the word for the end of a thread: %w", err)
	}
	word := (*uint32)(unsafe.Pointer(&page[0]))
	*word = threadLives
	tid, _, _ := unix.RawSyscall(unix.SYS_SET_TID_ADDRESS, uintptr(unsafe.Pointer(word)), 0, 0)
	ends.Store(int(tid), word)
	return func() {
		unix.RawSyscall(unix.SYS_SET_TID_ADDRESS, 0, 0, 0)
		ends.Delete(int(tid))
		unix.Munmap(page)
	}, nil
}
