package image

// OpenFile is an open file description (struct file): what dup(2) and fork(2) share. Exactly one of the pointers is set,
// the one that Kind names.
type OpenFile struct {
	ID    int      `json:"id"`
	Kind  FileKind `json:"kind"`
	Flags uint32   `json:"flags"` // F_GETFL: access mode and status flags
	Owner FOwner   `json:"owner"`
	Flock string   `json:"flock,omitempty"` // "read", "write": a flock(2) lock

	Regular *Regular    `json:"regular,omitempty"`
	Device  *Device     `json:"device,omitempty"`
	Memfd   *Memfd      `json:"memfd,omitempty"`
	Pipe    *PipeEnd    `json:"pipe,omitempty"`
	Event   *EventFD    `json:"eventfd,omitempty"`
	Epoll   *Epoll      `json:"epoll,omitempty"`
	Timer   *TimerFD    `json:"timerfd,omitempty"`
	Signal  *SignalFD   `json:"signalfd,omitempty"`
	Unix    *UnixSocket `json:"unix,omitempty"`
	TCP     *TCPSocket  `json:"tcp,omitempty"`
	UDP     *UDPSocket  `json:"udp,omitempty"`
	MPTCP   *TCPSocket  `json:"mptcp,omitempty"` // listening or closed, without Connection and Ended
}

// FileKind names a kind of open file description.
type FileKind string

const (
	KindRegular  FileKind = "regular" // regular files and directories, O_PATH included
	KindDevice   FileKind = "device"  // character devices without state of their own
	KindMemfd    FileKind = "memfd"
	KindPipe     FileKind = "pipe" // pipes and FIFOs
	KindEventFD  FileKind = "eventfd"
	KindEpoll    FileKind = "epoll"
	KindTimerFD  FileKind = "timerfd"
	KindSignalFD FileKind = "signalfd"
	KindUnix     FileKind = "unix"
	KindTCP      FileKind = "tcp"
	KindUDP      FileKind = "udp"
	KindMPTCP    FileKind = "mptcp"
)

// FOwner says who gets signals about a file, see F_SETOWN and F_SETSIG in fcntl(2).
type FOwner struct {
	Type   int `json:"type"` // F_OWNER_*
	PID    int `json:"pid"`  // 0: nobody
	Signal int `json:"signal"`
}
