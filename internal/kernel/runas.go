package kernel

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Identity is who makes a system call whose maker is remembered: struct ucred.
type Identity struct {
	PID      int
	UID, GID uint32
}

// ConnectAs is connect(2) made by somebody else, for what SO_PEERCRED says to the other end.
func ConnectAs(fd int, addr []byte, who Identity) error {
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&addr[0])
	_, err := runAs(who, tableCall{nr: unix.SYS_CONNECT, args: [6]uintptr{uintptr(fd), uintptr(unsafe.Pointer(&addr[0])), uintptr(len(addr))}})
	return err
}

// ListenAs is listen(2) made by somebody else.
func ListenAs(fd, backlog int, who Identity) error {
	_, err := runAs(who, tableCall{nr: unix.SYS_LISTEN, args: [6]uintptr{uintptr(fd), uintptr(backlog)}})
	return err
}

// SocketPairAs is SocketPair made by somebody else.
func SocketPairAs(kind int, who Identity) (a, b int, err error) {
	var pin runtime.Pinner
	defer pin.Unpin()
	pair := new([2]int32)
	pin.Pin(pair)
	_, err = runAs(who, tableCall{
		nr: unix.SYS_SOCKETPAIR, args: [6]uintptr{unix.AF_UNIX, uintptr(kind | unix.SOCK_CLOEXEC), 0, uintptr(unsafe.Pointer(pair))},
	})
	return int(pair[0]), int(pair[1]), err
}

// cloneArgs is struct clone_args of include/uapi/linux/sched.h.
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// runAs makes a system call in a child that shares our descriptors and has a process ID and user and group IDs for the purpose.
// If the process ID is in use, or the kernel does not let us choose, the child has another one.
func runAs(who Identity, call tableCall) (uintptr, error) {
	// The child and the kernel get addresses, so nothing of this may be on a stack, which can move.
	var pin runtime.Pinner
	defer pin.Unpin()
	all := &struct {
		table [3]tableCall
		args  cloneArgs
		pid   int32
	}{pid: int32(who.PID)}
	pin.Pin(all)
	all.table[0] = tableCall{nr: unix.SYS_SETRESGID, args: [6]uintptr{uintptr(who.GID), uintptr(who.GID), uintptr(who.GID)}}
	all.table[1] = tableCall{nr: unix.SYS_SETRESUID, args: [6]uintptr{uintptr(who.UID), uintptr(who.UID), uintptr(who.UID)}}
	all.table[2] = call
	all.args = cloneArgs{flags: unix.CLONE_VM | unix.CLONE_FILES, setTID: uint64(uintptr(unsafe.Pointer(&all.pid))), setTIDSize: 1}
	pid, err := cloneTable(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&all.args)), unsafe.Sizeof(all.args), all.table[:])
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) {
		all.args.setTID, all.args.setTIDSize = 0, 0
		pid, err = cloneTable(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&all.args)), unsafe.Sizeof(all.args), all.table[:])
	}
	if err != nil {
		return 0, fmt.Errorf("clone3: %w", err)
	}
	if err := reapTable(pid); err != nil {
		return 0, fmt.Errorf("wait for pid %d: %w", pid, err)
	}
	for _, c := range all.table {
		if result := int(c.result); result < 0 && result >= -4095 {
			return 0, unix.Errno(-result)
		}
	}
	return all.table[2].result, nil
}
