package image

// State is everything a checkpoint knows about a set of processes, apart from page contents (which are in FOAM files).
//
// It is the one description of that state: capture fills it, restore reads it, `kup inspect` prints it.
// Cross references are by ID, never by position. Shared kernel objects appear once.
type State struct {
	Host      Host        `json:"host"`
	Processes []Process   `json:"processes"` // parents before children
	Files     []OpenFile  `json:"files"`     // open file descriptions
	Pipes     []Pipe      `json:"pipes,omitempty"`
	Memories  []SharedMem `json:"shared_memories,omitempty"`
	// NetLock names the network lock that keeps the connections of the application from being answered for while it is away;
	// empty if it has none.
	NetLock string `json:"net_lock,omitempty"`
}

// HighestID is the highest ID that the image's processes, threads, process groups and sessions have.
func (s *State) HighestID() (highest int) {
	for i := range s.Processes {
		p := &s.Processes[i]
		highest = max(highest, p.PID, p.PGID, p.SID)
		for j := range p.Threads {
			highest = max(highest, p.Threads[j].TID)
		}
	}
	return highest
}

// Host is the machine and kernel state that the processes could see and that matters to a restore.
type Host struct {
	Boot      string `json:"boot"`      // /proc/sys/kernel/random/boot_id
	Kernel    string `json:"kernel"`    // uname -r
	Realtime  int64  `json:"realtime"`  // CLOCK_REALTIME at the freeze, ns
	Monotonic int64  `json:"monotonic"` // CLOCK_MONOTONIC of the initial time namespace at the freeze, ns
	Boottime  int64  `json:"boottime"`  // CLOCK_BOOTTIME likewise, ns
	XCR0      uint64 `json:"xcr0"`      // XSAVE features enabled by the kernel, bytes 464..471 of the XSTATE regset
	VDSO      VDSO   `json:"vdso"`
}

// VDSO identifies the [vdso] image that the processes had mapped.
type VDSO struct {
	Hash []byte `json:"hash"` // BLAKE3 of Code
	Code []byte `json:"code"` // the whole image as mapped, before anything was written to it
}

// ProcessState says whether a process had threads that ran.
type ProcessState string

const (
	Running ProcessState = "running"
	Stopped ProcessState = "stopped" // group-stopped by a signal (T)
	Zombie  ProcessState = "zombie"  // exited, not yet waited for by its parent
)

// Process is a thread group.
type Process struct {
	PID        int          `json:"pid"`
	PPID       int          `json:"ppid"` // of a root: the parent it had, which is not restored
	PGID       int          `json:"pgid"`
	SID        int          `json:"sid"`
	State      ProcessState `json:"state"`
	ExitStatus int          `json:"exit_status"` // of a zombie: as wait4(2) reports it
	ExitSignal int          `json:"exit_signal"` // the signal the parent gets when it ends, normally SIGCHLD
	Comm       string       `json:"comm"`
	StopSignal int          `json:"stop_signal,omitempty"` // of a stopped process

	Threads []Thread    `json:"threads,omitempty"` // the leader first
	Memory  Memory      `json:"memory"`
	FDs     []FD        `json:"fds,omitempty"`
	Locks   []PosixLock `json:"locks,omitempty"`

	Cwd   Path   `json:"cwd"`
	Root  Path   `json:"root"`
	Umask uint32 `json:"umask"`

	Actions []SigAction  `json:"actions,omitempty"` // index is signal number - 1
	Pending []SigInfo    `json:"pending,omitempty"` // process-wide queue, in order
	ITimers [3]ITimer    `json:"itimers"`           // ITIMER_REAL, _VIRTUAL, _PROF
	Timers  []PosixTimer `json:"timers,omitempty"`
	Limits  []Limit      `json:"limits,omitempty"` // index is RLIMIT_*

	OOMScoreAdj int       `json:"oom_score_adj"`
	Dumpable    int       `json:"dumpable"`    // PR_GET_DUMPABLE
	Subreaper   bool      `json:"subreaper"`   // PR_GET_CHILD_SUBREAPER
	THPDisable  bool      `json:"thp_disable"` // PR_GET_THP_DISABLE
	TimeOffset  TimeShift `json:"time_offset"` // of its time namespace
	CoreFilter  uint32    `json:"core_filter"` // /proc/PID/coredump_filter
}

// TimeShift is what a time namespace adds to the clocks, ns.
type TimeShift struct {
	Monotonic int64 `json:"monotonic"`
	Boottime  int64 `json:"boottime"`
}

// Path is a place in the file system that a process refers to without a descriptor.
type Path struct {
	Path string `json:"path"`
}

// Thread is one task of a process.
type Thread struct {
	TID       int    `json:"tid"`
	Comm      string `json:"comm"`
	Registers []byte `json:"registers"` // struct user_regs_struct of arch/x86/include/asm/user_64.h, 27 words
	XState    []byte `json:"xstate"`    // NT_X86_XSTATE regset
	SigMask   uint64 `json:"sig_mask"`
	AltStack  Stack  `json:"alt_stack"`
	ClearTID  uint64 `json:"clear_tid"` // clear_child_tid, PR_GET_TID_ADDRESS
	Robust    Robust `json:"robust"`
	Rseq      Rseq   `json:"rseq"`

	Pending []SigInfo `json:"pending,omitempty"` // thread-directed queue, in order

	Creds       Creds  `json:"creds"`
	NoNewPrivs  bool   `json:"no_new_privs"`
	Sched       Sched  `json:"sched"`
	Affinity    []byte `json:"affinity"` // cpu mask, little endian words
	IOPrio      int    `json:"io_prio"`
	TimerSlack  uint64 `json:"timer_slack"`  // ns
	DeathSignal int    `json:"death_signal"` // PR_GET_PDEATHSIG
	Personality uint32 `json:"personality"`
	MCEKill     int    `json:"mce_kill"`
	TSC         int    `json:"tsc"` // PR_GET_TSC
}

// Stack is an alternate signal stack (stack_t).
type Stack struct {
	SP    uint64 `json:"sp"`
	Flags int32  `json:"flags"`
	Size  uint64 `json:"size"`
}

// Robust is a thread's robust futex list, see get_robust_list(2).
type Robust struct {
	Head uint64 `json:"head"`
	Len  uint64 `json:"len"`
}

// Rseq is a restartable-sequence registration (PTRACE_GET_RSEQ_CONFIGURATION).
type Rseq struct {
	Addr      uint64 `json:"addr"`
	Size      uint32 `json:"size"`
	Signature uint32 `json:"signature"`
	Flags     uint32 `json:"flags"`
}

// Creds are a thread's credentials.
type Creds struct {
	UIDs        [4]uint32 `json:"uids"` // real, effective, saved, file system
	GIDs        [4]uint32 `json:"gids"`
	Groups      []uint32  `json:"groups"`
	Inheritable uint64    `json:"inheritable"`
	Permitted   uint64    `json:"permitted"`
	Effective   uint64    `json:"effective"`
	Bounding    uint64    `json:"bounding"`
	Ambient     uint64    `json:"ambient"`
	SecureBits  uint32    `json:"secure_bits"`
}

// Sched is struct sched_attr without its size fields.
type Sched struct {
	Policy   uint32 `json:"policy"`
	Flags    uint64 `json:"flags"`
	Nice     int32  `json:"nice"`
	Priority uint32 `json:"priority"`
	Runtime  uint64 `json:"runtime"`  // ns, SCHED_DEADLINE
	Deadline uint64 `json:"deadline"` // ns
	Period   uint64 `json:"period"`   // ns
}

// SigAction is the kernel's struct sigaction.
type SigAction struct {
	Handler  uint64 `json:"handler"`
	Flags    uint64 `json:"flags"`
	Restorer uint64 `json:"restorer"`
	Mask     uint64 `json:"mask"`
}

// SigInfo is a queued signal: the kernel's siginfo_t, 128 bytes.
type SigInfo struct {
	Raw []byte `json:"raw"`
}

// ITimer is struct itimerval in ns: time to the next expiry and period.
type ITimer struct {
	Value    int64 `json:"value"`
	Interval int64 `json:"interval"`
}

// PosixTimer is a timer made by timer_create(2).
type PosixTimer struct {
	ID      int    `json:"id"`
	Clock   int    `json:"clock"`
	Notify  int    `json:"notify"` // SIGEV_*
	Signal  int    `json:"signal"`
	Value   uint64 `json:"sigval"`        // sigev_value as it stands in memory
	TID     int    `json:"tid,omitempty"` // SIGEV_THREAD_ID
	Time    ITimer `json:"time"`
	Overrun int    `json:"overrun"`
}

// Limit is one rlimit; ^0 is infinity.
type Limit struct {
	Soft uint64 `json:"soft"`
	Hard uint64 `json:"hard"`
}

// Memory is an address space: its mappings, and where the loader put things.
type Memory struct {
	VMAs     []VMA   `json:"vmas"`
	FOAM     FOAM    `json:"foam"`
	Fallback *FOAM   `json:"fallback,omitempty"` // a file with the same contents, for the case that page frames do not get there
	Exe      MapFile `json:"exe"`

	StartCode  uint64 `json:"start_code"`
	EndCode    uint64 `json:"end_code"`
	StartData  uint64 `json:"start_data"`
	EndData    uint64 `json:"end_data"`
	StartBrk   uint64 `json:"start_brk"`
	Brk        uint64 `json:"brk"`
	StartStack uint64 `json:"start_stack"`
	ArgStart   uint64 `json:"arg_start"`
	ArgEnd     uint64 `json:"arg_end"`
	EnvStart   uint64 `json:"env_start"`
	EnvEnd     uint64 `json:"env_end"`
	Auxv       []byte `json:"auxv"`
	LockFuture bool   `json:"lock_future"` // mlockall(MCL_FUTURE)

	// Hot says what the process wrote last, as pre-copy saw it, for a restore on demand to bring that back first: lists of addresses, the list of the hottest
	// ones first, each ascending. It is a hint: a list may cover pages that are in another one, too, or not stored at all.
	Hot [][]Extent `json:"hot,omitempty"`
}

// Bounds of Memory.Hot, so that it stays small beside the pages.
const (
	HotLists   = 4   // at most
	HotExtents = 128 // at most, in each list
)

// FOAM describes one FOAM file (file-offset-based address mapping): page contents of one address space.
type FOAM struct {
	Name    string   `json:"name"`    // of the file in the image directory
	Windows Windows  `json:"windows"` // ascending by Start
	Extents []Extent `json:"extents"` // the addresses whose contents it holds, ascending
	// Physical: no file holds the contents, but page frames, and the offsets of the windows are their physical addresses. They outlive one change of the kernel, see
	// package frames. No window crosses a multiple of FrameSize.
	Physical bool `json:"physical,omitempty"`
	// Hashes has the hash of each page of the extents, in their order, HashSize bytes for each: of contents in page frames, if it was asked for. See HashPages.
	Hashes []byte `json:"hashes,omitempty"`
}

// FrameSize is what physical memory is mapped in units of, bytes: a huge page of x86-64.
const FrameSize = 2 << 20

// Window maps the addresses [Start, End) to FOAM offsets beginning at Offset.
type Window struct {
	Start  uint64 `json:"start"`
	End    uint64 `json:"end"`
	Offset uint64 `json:"offset"`
}

// Extent is a run of bytes [Start, End): addresses in an address space, or offsets in a shared memory.
type Extent struct {
	Start uint64 `json:"start"`
	End   uint64 `json:"end"`
}

// VMAKind says what stands behind a mapping.
type VMAKind string

const (
	VMAAnon      VMAKind = "anon"      // private anonymous memory
	VMAFile      VMAKind = "file"      // a regular file, private or shared
	VMAShared    VMAKind = "shared"    // a SharedMem: shared anonymous memory, memfd, SysV segment
	VMAHugeTLB   VMAKind = "hugetlb"   // private anonymous huge pages
	VMAVDSO      VMAKind = "vdso"      // [vdso]
	VMAVVar      VMAKind = "vvar"      // [vvar], [vvar_vclock]
	VMADevice    VMAKind = "device"    // /dev/zero mapped privately
	VMADroppable VMAKind = "droppable" // MAP_DROPPABLE: contents may vanish at any time
	VMAVsyscall  VMAKind = "vsyscall"  // [vsyscall], the same in every process
)

// VMA is one mapping.
type VMA struct {
	Start   uint64   `json:"start"`
	End     uint64   `json:"end"`
	Kind    VMAKind  `json:"kind"`
	Prot    uint32   `json:"prot"` // PROT_*
	Shared  bool     `json:"shared"`
	Offset  uint64   `json:"offset"` // bytes into the file or shared memory
	File    MapFile  `json:"file"`   // VMAFile
	Object  int      `json:"object"` // VMAShared: SharedMem.ID
	Name    string   `json:"name"`   // as /proc/PID/maps has it
	PKey    int      `json:"pkey"`
	Page    uint64   `json:"page"`             // page size, bytes
	Flags   []string `json:"flags"`            // VmFlags of /proc/PID/smaps
	Guards  []Extent `json:"guards,omitempty"` // MADV_GUARD_INSTALL
	OnFault bool     `json:"on_fault"`         // MLOCK_ONFAULT
}

// MapFile names a file that is mapped, with what is compared before it is mapped again.
type MapFile struct {
	Path  string `json:"path"`
	Size  int64  `json:"size"`
	Mtime int64  `json:"mtime"` // ns
	Write bool   `json:"write"` // a shared mapping of a descriptor that was open for writing
}

// SharedMem is memory that several mappings or descriptors can share: one tmpfs object.
type SharedMem struct {
	ID    int           `json:"id"`
	Kind  SharedMemKind `json:"kind"`
	Name  string        `json:"name"` // of a memfd
	Size  uint64        `json:"size"`
	FOAM  FOAM          `json:"foam"`  // one window, from 0
	Seals uint32        `json:"seals"` // F_GET_SEALS

	Fallback *FOAM `json:"fallback,omitempty"` // as in Memory

	Mode uint32   `json:"mode"`
	UID  uint32   `json:"uid"`
	GID  uint32   `json:"gid"`
	Huge uint64   `json:"huge"` // page size of hugetlb memory, 0 otherwise
	SysV *SysVShm `json:"sysv,omitempty"`
}

// SharedMemKind tells how a SharedMem came about.
type SharedMemKind string

const (
	SharedAnon  SharedMemKind = "anon"  // mmap(MAP_SHARED|MAP_ANONYMOUS)
	SharedMemfd SharedMemKind = "memfd" // memfd_create(2)
	SharedSysV  SharedMemKind = "sysv"  // shmget(2)
)

// SysVShm is what shmctl(IPC_STAT) says of a segment.
type SysVShm struct {
	Key     int32  `json:"key"`
	ID      int    `json:"id"`
	Mode    uint32 `json:"mode"`
	CUID    uint32 `json:"cuid"`
	CGID    uint32 `json:"cgid"`
	UID     uint32 `json:"uid"`
	GID     uint32 `json:"gid"`
	Removed bool   `json:"removed"` // IPC_RMID was called while attached
}

// FD is one entry of a descriptor table.
type FD struct {
	Num     int  `json:"num"`
	CloExec bool `json:"cloexec"`
	File    int  `json:"file"` // OpenFile.ID
}

// PosixLock is an fcntl(2) record lock.
type PosixLock struct {
	FD    int   `json:"fd"`
	Write bool  `json:"write"`
	Start int64 `json:"start"`
	Len   int64 `json:"len"` // 0: to the end of the file
}
