package image

// Regular is a description of a regular file, a directory, or (O_PATH) of anything that has a path.
type Regular struct {
	Path    string `json:"path"`
	Offset  int64  `json:"offset"` // f_pos: bytes, or in a directory the file system's own cookie
	Mode    uint32 `json:"mode"`   // st_mode, type and permissions
	UID     uint32 `json:"uid"`
	GID     uint32 `json:"gid"`
	Size    int64  `json:"size"`
	Mtime   int64  `json:"mtime"`             // ns
	Content string `json:"content,omitempty"` // of a file that was deleted while open: its bytes, a file in the image directory; the same name is the same inode

	Locks []RecordLock `json:"locks,omitempty"` // open file description locks, F_OFD_SETLK
}

// RecordLock is a lock on the bytes [Start, Start+Len).
type RecordLock struct {
	Write bool  `json:"write"`
	Start int64 `json:"start"`
	Len   int64 `json:"len"` // 0: to the end of the file, wherever that is
}

// Device is a description of a character device that keeps no state per open file, such as /dev/null.
type Device struct {
	Path  string `json:"path"`
	Major uint32 `json:"major"`
	Minor uint32 `json:"minor"`
}

// Memfd is a description of memory made by memfd_create(2).
type Memfd struct {
	Memory int   `json:"memory"` // SharedMem.ID
	Offset int64 `json:"offset"`
}

// PipeEnd is a description of a pipe or FIFO; its Flags say for reading, for writing, or both.
type PipeEnd struct {
	Pipe int `json:"pipe"` // Pipe.ID
	// Waiting is a FIFO opened for reading that has had no writer since: poll(2) does not say POLLHUP of it.
	Waiting bool `json:"waiting,omitempty"`
}

// Pipe is what the descriptions of one pipe or FIFO share.
type Pipe struct {
	ID     int      `json:"id"`
	Path   string   `json:"path,omitempty"` // of a FIFO
	Size   int      `json:"size"`           // capacity, bytes: F_GETPIPE_SZ
	Data   [][]byte `json:"data,omitempty"` // what was written and not yet read; one element per packet
	Packet bool     `json:"packet"`         // the elements of Data are packets (O_DIRECT, see pipe(2))
	Mode   uint32   `json:"mode"`           // st_mode
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
}

// EventFD is the counter of eventfd(2).
type EventFD struct {
	Count     uint64 `json:"count"`
	Semaphore bool   `json:"semaphore"` // EFD_SEMAPHORE
}

// Epoll is an epoll instance, see epoll(7).
type Epoll struct {
	Targets []EpollTarget `json:"targets,omitempty"`
}

// EpollTarget is one registration. The kernel knows it by number and file: the number may by now be closed or stand for
// something else, while a duplicate keeps the file, and with it the registration, alive.
type EpollTarget struct {
	FD     int    `json:"fd"`     // the number at EPOLL_CTL_ADD
	File   int    `json:"file"`   // OpenFile.ID
	Events uint32 `json:"events"` // EPOLL*; of a used-up EPOLLONESHOT no event is left
	Data   uint64 `json:"data"`
}

// TimerFD is a timer of timerfd_create(2).
type TimerFD struct {
	Clock int    `json:"clock"`
	Flags int    `json:"flags"` // of timerfd_settime(2): TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET
	Ticks uint64 `json:"ticks"` // expiries not yet read
	Time  ITimer `json:"time"`  // time left, whatever Flags say; 0 if disarmed or expired for good
	Due   int64  `json:"due"`   // the moment, by Clock as the application sees it, of a timer armed for one, ns; else 0
}

// SignalFD is what signalfd(2) reads.
type SignalFD struct {
	Mask uint64 `json:"mask"` // bit n-1 is signal n
}
