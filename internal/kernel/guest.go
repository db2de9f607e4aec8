package kernel

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Mount flags of mount(2), as a guest's init needs them.
const (
	MountNoSuid  = unix.MS_NOSUID
	MountNoDev   = unix.MS_NODEV
	MountNoExec  = unix.MS_NOEXEC
	MountNoAtime = unix.MS_NOATIME
)

// Mount is mount(2).
func Mount(source, target, fstype string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		return &os.PathError{Op: "mount " + fstype + " on", Path: target, Err: err}
	}
	return nil
}

// ErrNotMounted is Unmount's error for what is no mount point, see umount(2).
const ErrNotMounted = unix.EINVAL

// Unmount is umount(2).
func Unmount(target string) error {
	if err := unix.Unmount(target, 0); err != nil {
		return &os.PathError{Op: "umount", Path: target, Err: err}
	}
	return nil
}

// UnloadModule removes a kernel module that nobody uses, see delete_module(2).
func UnloadModule(name string) error {
	if err := unix.DeleteModule(name, unix.O_NONBLOCK); err != nil {
		return os.NewSyscallError("delete_module "+name, err)
	}
	return nil
}

// LoadModule inserts an uncompressed kernel module, see finit_module(2). A module that is loaded already is no error.
func LoadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && err != unix.EEXIST {
		return &os.PathError{Op: "finit_module", Path: path, Err: err}
	}
	return nil
}

// SetHostname is sethostname(2).
func SetHostname(name string) error { return unix.Sethostname([]byte(name)) }

// Sync is sync(2).
func Sync() { unix.Sync() }

// PowerOff ends the machine at once; it does not sync, see reboot(2).
func PowerOff() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) }

// ReapChild takes the exit status of any child of this process that has ended, see wait4(2) with pid -1 and WNOHANG. Pid
// is 0 when none has.
func ReapChild() (pid int, status WaitStatus, err error) {
	for {
		pid, err = unix.Wait4(-1, &status, unix.WNOHANG, nil)
		switch err {
		case unix.EINTR:
			continue
		case unix.ECHILD:
			return 0, status, nil
		}
		return pid, status, err
	}
}

// ChildSignal is the signal that a parent gets when a child ends.
const ChildSignal = unix.SIGCHLD

// KillSignal is the signal that no process survives.
const KillSignal = unix.SIGKILL

// Kill sends a signal to a process, or with a negative pid to a process group, see kill(2).
func Kill(pid int, sig Signal) error { return unix.Kill(pid, sig) }

// OpenBlocking opens a device for reading and writing whose reads and writes are to wait in the kernel.
func OpenBlocking(path string) (*os.File, error) {
	// os.OpenFile would make the descriptor non-blocking and hand it to the runtime's poller.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// DieWithParent is the SysProcAttr of a child that the kernel kills when the thread that started it ends. The starting
// goroutine must stay locked to its thread for as long as the child is to live, see PR_SET_PDEATHSIG in prctl(2).
func DieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL, Setpgid: true}
}

// NewSession is the SysProcAttr of a child that leads a session of its own, see setsid(2).
func NewSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
