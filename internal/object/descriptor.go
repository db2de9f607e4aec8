package object

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/parallel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/refuse"
)

// Descriptor is one entry of a process's descriptor table.
type Descriptor struct {
	PID  int
	FD   int
	Comm string
	Link string        // what /proc/PID/fd/FD points to: a path, "socket:[123]", "anon_inode:[eventpoll]"
	Info procfs.FDInfo // /proc/PID/fdinfo/FD
	Stat kernel.Stat   // of the file
	// File is kup's own duplicate, which shares the open file description; -1 while the application runs.
	File int

	kind *socketKind // of the duplicate, nil until asked for
}

// String names the descriptor in messages.
func (d *Descriptor) String() string { return fmt.Sprintf("pid %d (%s): fd %d", d.PID, d.Comm, d.FD) }

// path leads through /proc to the file itself, whatever its name has come to.
func (d *Descriptor) path() string { return procfs.Path(d.PID, "fd/"+strconv.Itoa(d.FD)) }

// flags are access mode and status flags: those of F_GETFL.
func (d *Descriptor) flags() uint32 { return d.Info.Flags &^ kernel.OCloExec }

func (d *Descriptor) readable() bool { return d.flags()&kernel.OAccMode != kernel.OWrOnly }
func (d *Descriptor) writable() bool { return d.flags()&kernel.OAccMode != kernel.ORdOnly }

// fileType is the type of file in st_mode (kernel.Mode...). Anonymous inodes have none: 0.
func (d *Descriptor) fileType() uint32 { return d.Stat.Mode & kernel.ModeType }

// value parses one line of fdinfo that looks like "key: value".
func (d *Descriptor) value(key, format string, into ...any) error {
	text, ok := d.Info.Value(key)
	if !ok {
		return fmt.Errorf("%s: /proc says nothing of %q for %s", d, key, d.Link)
	}
	if _, err := fmt.Sscanf(text, format, into...); err != nil {
		return fmt.Errorf("%s: %q in /proc for %s: %w", d, text, d.Link, err)
	}
	return nil
}

// readDescriptor reads everything about a descriptor that can be had without taking part in it.
func readDescriptor(pid, fd int, comm string) (*Descriptor, error) {
	d := &Descriptor{PID: pid, FD: fd, Comm: comm, File: -1}
	err := d.readInfo()
	if err != nil {
		return nil, err
	}
	if d.Stat, err = kernel.StatPath(d.path()); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", d, d.Link, err)
	}
	return d, nil
}

// takeDescriptor is readDescriptor for a frozen process, which pidfd stands for, and takes part in the descriptor.
func takeDescriptor(pidfd, pid, fd int, comm string) (*Descriptor, error) {
	d := &Descriptor{PID: pid, FD: fd, Comm: comm, File: -1}
	err := d.readInfo()
	if err != nil {
		return nil, err
	}
	if err := d.duplicateFrom(pidfd); err != nil {
		return nil, err
	}
	if d.Stat, err = kernel.StatFD(d.File); err != nil {
		return d, fmt.Errorf("%s: %s: %w", d, d.Link, err)
	}
	return d, nil
}

// readInfo reads what /proc says of a descriptor.
func (d *Descriptor) readInfo() (err error) {
	if d.Link, err = kernel.ReadLink(d.path()); err != nil {
		return fmt.Errorf("%s: %w", d, err)
	}
	if d.Info, err = procfs.ReadFDInfo(d.PID, d.FD); err != nil {
		return fmt.Errorf("%s: %w", d, err)
	}
	return nil
}

// readTable reads the descriptors of a running process in the order of their numbers. What vanishes meanwhile is left out.
func readTable(pid int) ([]*Descriptor, error) {
	stat, err := procfs.ReadStat(pid)
	if procfs.Gone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	numbers, err := procfs.FDs(pid)
	if err != nil && !procfs.Gone(err) {
		return nil, fmt.Errorf("pid %d (%s): descriptors: %w", pid, stat.Comm, err)
	}
	return eachDescriptor(numbers, func(fd int) (*Descriptor, error) {
		d, err := readDescriptor(pid, fd, stat.Comm)
		if vanished(err) {
			return nil, nil
		}
		return d, err
	})
}

// takeTable takes part in all descriptors of a frozen process. Those that it returns with an error are to be released, too.
func takeTable(pid int) ([]*Descriptor, error) {
	stat, err := procfs.ReadStat(pid)
	if err != nil {
		return nil, err
	}
	numbers, err := procfs.FDs(pid)
	if err != nil {
		return nil, fmt.Errorf("pid %d (%s): descriptors: %w", pid, stat.Comm, err)
	}
	pidfd, err := kernel.PidfdOpen(pid)
	if err != nil {
		return nil, fmt.Errorf("pid %d: pidfd_open: %w", pid, err)
	}
	defer kernel.Close(pidfd)
	return eachDescriptor(numbers, func(fd int) (*Descriptor, error) { return takeDescriptor(pidfd, pid, fd, stat.Comm) })
}

// eachDescriptor makes a table of what read returns for each number, if anything.
func eachDescriptor(numbers []int, read func(fd int) (*Descriptor, error)) ([]*Descriptor, error) {
	table := make([]*Descriptor, len(numbers))
	places := make([]int, len(numbers))
	for i := range places {
		places[i] = i
	}
	err := parallel.Urgently(places, func(i int) (err error) {
		table[i], err = read(numbers[i])
		return err
	})
	return slices.DeleteFunc(table, func(d *Descriptor) bool { return d == nil }), err
}

// vanished reports whether a descriptor was closed, or its process ended, while it was read. An incomplete fdinfo is the same:
// the kernel prints what it can.
func vanished(err error) bool {
	return procfs.Gone(err) || errors.Is(err, procfs.ErrFormat) || errors.Is(err, kernel.EBADF)
}

// handlerOf finds who knows this kind of descriptor.
func handlerOf(d *Descriptor) (*Handler, error) {
	for _, h := range handlers {
		if h.Claims(d) {
			return h, nil
		}
	}
	return nil, unknown(d)
}

// handlerFor finds the handler of a kind in an image.
func handlerFor(kind image.FileKind) (*Handler, error) {
	for _, h := range handlers {
		if h.Kind == kind {
			return h, nil
		}
	}
	return nil, fmt.Errorf("the image has an open file of kind %q, which this kup does not know", kind)
}

// remedies are for descriptors that no handler claims, by the beginning of their link.
var remedies = []struct{ link, what, remedy string }{
	{"anon_inode:[io_uring]", "an io_uring", "close the ring or stop the application"},
	{"anon_inode:inotify", "an inotify instance, whose watches and queued events cannot be read", "close it or stop the application"},
	{"anon_inode:[fanotify]", "a fanotify group, whose queued events cannot be read", "close it or stop the application"},
	{"anon_inode:[perf_event]", "a performance counter", "stop measuring"},
	{"anon_inode:[pidfd]", "a pidfd, which stands for another process", "close it or stop the application"},
	{"pidfd:", "a pidfd, which stands for another process", "close it or stop the application"},
	{"anon_inode:[userfaultfd]", "a userfaultfd, whose page faults another thread serves", "close it or stop the application"},
	{"anon_inode:bpf", "a BPF object", "unload it"},
	{"anon_inode:[landlock-ruleset]", "a Landlock rule set", "close it"},
	{"anon_inode:seccomp notify", "a seccomp listener", "close it or stop the application"},
	{"anon_inode:kvm", "a virtual machine", "stop the application"},
	{"anon_inode:", "", "close it or stop the application"},
	{"/dev/pts/", "a terminal", "start it with kup run --detach or redirect its input and output"},
	{"/dev/tty", "a terminal", "start it with kup run --detach or redirect its input and output"},
	{"/dev/ptmx", "the controlling side of a terminal", "stop the application"},
	{"/dev/fuse", "the server's side of a FUSE file system", "unmount it"},
	{"/dev/", "a device that may keep state for this descriptor", "close it or stop the application"},
	{"net:[", "a namespace", "close it"},
	{"mnt:[", "a namespace", "close it"},
	{"/memfd:", "memory of memfd_create", "close it or stop the application"},
}

// unknown refuses a descriptor that no handler claims.
func unknown(d *Descriptor) error {
	if strings.HasPrefix(d.Link, "socket:") && d.File >= 0 {
		return unknownSocket(d)
	}
	what, remedy := "", "close it or stop the application"
	for _, r := range remedies {
		if strings.HasPrefix(d.Link, r.link) {
			what, remedy = r.what, r.remedy
			break
		}
	}
	if what != "" {
		what = " (" + what + ")"
	}
	return refuse.Errorf("%s is %s%s, which kup cannot checkpoint; %s", d, d.Link, what, remedy)
}

// families names the address families of include/linux/socket.h that programs use.
var families = map[int]string{
	1: "unix", 2: "IPv4", 10: "IPv6", 15: "key management", 16: "netlink", 17: "packet", 21: "RDS", 29: "CAN", 30: "TIPC",
	31: "Bluetooth", 38: "kernel cryptography", 40: "vsock", 44: "XDP",
}

// unknownSocket refuses a socket, of which /proc says nothing but its inode.
func unknownSocket(d *Descriptor) error {
	get := func(option int) int {
		v, err := kernel.SocketInt(d.File, kernel.SolSocket, option)
		if err != nil {
			return -1
		}
		return v
	}
	domain, kind, protocol := get(kernel.SoDomain), get(kernel.SoType), get(kernel.SoProtocol)
	name, ok := families[domain]
	if !ok {
		name = fmt.Sprintf("unknown (%d)", domain)
	}
	return refuse.Errorf("%s is a socket of the family %s, type %d, protocol %d, which kup cannot checkpoint; close it or stop the application", d, name, kind, protocol)
}
