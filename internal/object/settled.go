package object

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/parallel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/refuse"
)

// Settled looks for what frozen processes have for a moment only: connections between two states, being established or waiting to be accepted, and open
// files of /proc that are about a process. If there is any, its error is refuse.Passing, and the processes had better be frozen at another instant.
func Settled(pids []int) error {
	var unsettled []error
	for _, pid := range pids {
		pidfd, err := kernel.PidfdOpen(pid)
		if err != nil {
			return fmt.Errorf("pid %d: pidfd_open: %w", pid, err)
		}
		defer kernel.Close(pidfd)
		fds, err := procfs.FDs(pid)
		if err != nil {
			return fmt.Errorf("pid %d: descriptors: %w", pid, err)
		}
		unsettled = append(unsettled, parallel.Urgently(fds, func(fd int) error { return settled(pid, pidfd, fd) }))
	}
	return errors.Join(unsettled...)
}

func settled(pid, pidfd, fd int) error {
	file, err := kernel.PidfdGetfd(pidfd, fd)
	if errors.Is(err, kernel.EBADF) {
		return nil // it was open only while its process was looked at
	}
	if err != nil {
		return fmt.Errorf("pid %d: fd %d: pidfd_getfd: %w", pid, fd, err)
	}
	defer kernel.Close(file)
	protocol, err := kernel.SocketInt(file, kernel.SolSocket, kernel.SoProtocol)
	if err != nil { // it is no socket
		return settledFile(pid, fd, file)
	}
	if protocol != kernel.IPProtoTCP && protocol != protocolMPTCP {
		return nil // it is another kind of socket
	}
	info, err := readTCPInfo(file)
	if err != nil {
		return nil // it is another family's protocol of that number
	}
	name := fmt.Sprintf("pid %d: fd %d", pid, fd)
	switch {
	case info.state == kernel.TCPStateSynSent, info.state == kernel.TCPStateSynRecv:
		return unfinishedConnection(name)
	case info.state == kernel.TCPStateListen && info.unacked > 0:
		return pendingConnections(name, info.unacked)
	}
	return nil
}

// settledFile looks at what is no socket.
func settledFile(pid, fd, file int) error {
	if magic, err := kernel.FileSystemOf(file); err != nil || magic != kernel.ProcMagic {
		return nil // what does not know its file system is refused, if need be, by its handler
	}
	link, err := kernel.ReadLink(procfs.Path(pid, "fd/"+strconv.Itoa(fd)))
	if err == nil && ofProcess(link) {
		err = refuse.Passingf(processFile, fmt.Sprintf("pid %d: fd %d", pid, fd), link)
	}
	return err
}
