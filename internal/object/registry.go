package object

import (
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/tracee"
)

// Handler is all that kup knows about one kind of open file description.
type Handler struct {
	Kind image.FileKind

	// Claims says whether a descriptor is of this kind. It looks at d only (link, mode, fdinfo).
	Claims func(d *Descriptor) bool

	// Check refuses (refuse.Errorf) what could not be restored faithfully. It is called while the application runs, and again when it is
	// frozen, for several descriptors at the same time, and changes nothing. May be nil.
	Check func(c *Capture, d *Descriptor) error

	// Undo adds to b the system calls which, executed by the descriptor's owner, take back what Capture does to the object. They
	// are armed inside the target before Capture is called: they run when the application is thawed, also if kup dies. May be nil.
	Undo func(b *tracee.Batch, d *Descriptor) error

	// Capture fills f from the frozen owner's descriptor. It is called once per open file description.
	Capture func(c *Capture, d *Descriptor, f *image.OpenFile) error

	// Settle is called after all descriptors were captured, to check or complete what needs the whole picture (both ends of a
	// pipe, the peer of a socket). May be nil.
	Settle func(c *Capture) error

	// Rebuild creates the open file description in kup's own descriptor table and returns the descriptor. Files are rebuilt in the
	// order of the registry, and within a kind in the order of the image. Something made together (a socket pair) is handed
	// out of r by the second call.
	Rebuild func(r *Rebuild, f *image.OpenFile) (int, error)

	// Connect does what needs all descriptors in place in the owner: it is called once per open file description with the first
	// process that holds it and that process's descriptor number. May be nil.
	Connect func(r *Rebuild, f *image.OpenFile, owner *tracee.Seed, fd int) error
}

// handlers is the registry, in the order in which files are rebuilt.
var handlers = []*Handler{
	regular,
	device,
	memfd,
	pipe,
	eventfd,
	timerfd,
	signalfd,
	unixSocket,
	mptcp, // before the connections of TCP: see createConnections
	tcp,
	udp,
	epoll,
}
