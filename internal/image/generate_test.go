package image

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/kup-project/kup/internal/kernel"
	"pgregory.net/rapid"
)

// minimal returns the smallest state that is valid: one process with one thread and some pages.
func minimal() *State {
	return &State{
		Host: Host{Kernel: "6.1.0", XCR0: 3, VDSO: VDSO{Hash: []byte{1}, Code: []byte{2}}},
		Processes: []Process{{
			PID: 4711, PPID: 1, State: Running, Comm: "victim",
			Threads: []Thread{{TID: 4711, Comm: "victim", Registers: make([]byte, registersSize), XState: xstate(3)}},
			Memory: Memory{
				VMAs: []VMA{{Start: 0x400000, End: 0x800000, Kind: VMAAnon}, {Start: 0x7ff000000000, End: 0x7ff000400000, Kind: VMAAnon}},
				FOAM: FOAM{
					Name:    "pages-4711.foam",
					Windows: []Window{{0x400000, 0x800000, 0x400000}, {0x7ff000000000, 0x7ff000400000, 0}},
					Extents: []Extent{{0x401000, 0x403000}, {0x7ff0001fe000, 0x7ff000203000}},
				},
			},
			FDs: []FD{{Num: 3, File: 1}},
		}},
		Files: []OpenFile{{ID: 1, Kind: KindRegular, Regular: &Regular{Path: "/tmp/x (deleted)", Content: "deleted-1"}}},
	}
}

func xstate(inUse uint64) []byte {
	x := make([]byte, 2696)
	binary.LittleEndian.PutUint64(x[xstateBV:], inUse)
	return x
}

// writeContents writes the files that a state refers to: each page of an extent has bytes of its own.
func writeContents(tb testing.TB, w *Writer, st *State) {
	tb.Helper()
	files, err := foams(st)
	if err != nil {
		tb.Fatal(err)
	}
	for name, foam := range files {
		f, err := w.Create(name)
		if err != nil {
			tb.Fatal(err)
		}
		if err := f.Truncate(foam.FileSize()); err != nil {
			tb.Fatal(err)
		}
		for _, r := range foam.runs() {
			for at := r.Start; at < r.End; at += pageSize {
				if _, err := f.WriteAt(page(name, at), int64(at)); err != nil {
					tb.Fatal(err)
				}
			}
		}
		f.Close()
	}
	for _, f := range st.Files {
		if f.Regular != nil && f.Regular.Content != "" && !exists(w.Path(f.Regular.Content)) {
			if err := os.WriteFile(w.Path(f.Regular.Content), []byte("what a deleted file had in it"), 0o644); err != nil {
				tb.Fatal(err)
			}
		}
	}
}

func page(name string, at uint64) []byte {
	p := make([]byte, pageSize)
	seed := []byte(fmt.Sprintf("%s %x ", name, at))
	for n := 0; n < len(p); {
		n += copy(p[n:], seed)
	}
	return p
}

// states generates valid states with everything in them.
func states() *rapid.Generator[*State] {
	return rapid.Custom(func(t *rapid.T) *State {
		st := &State{Host: rapid.Make[Host]().Draw(t, "host")}
		st.Host.XCR0 &= kernel.XCR0()
		for id := range rapid.IntRange(0, 3).Draw(t, "pipes") {
			p := rapid.Make[Pipe]().Draw(t, "pipe")
			p.ID = id
			st.Pipes = append(st.Pipes, p)
		}
		for id := range rapid.IntRange(0, 3).Draw(t, "memories") {
			m := rapid.Make[SharedMem]().Draw(t, "memory")
			m.ID, m.Size, m.Huge = id, uint64(rapid.IntRange(1, 1<<24).Draw(t, "size")), 0
			m.FOAM = FOAM{Name: fmt.Sprintf("shared-%d.foam", id), Windows: []Window{{0, 1 << 24, 0}}}
			m.FOAM.Extents = extents(t, 0, m.Size)
			m.Fallback = fallback(t, &m.FOAM)
			st.Memories = append(st.Memories, m)
		}
		for id := range rapid.IntRange(0, 8).Draw(t, "files") {
			st.Files = append(st.Files, drawFile(t, st, id))
		}
		count := rapid.IntRange(1, 4).Draw(t, "processes")
		for i := range count {
			st.Processes = append(st.Processes, drawProcess(t, st, 100*(i+1)))
		}
		return st
	})
}

func extents(t *rapid.T, base, size uint64) []Extent {
	var out []Extent
	at := uint64(0)
	for range rapid.IntRange(0, 4).Draw(t, "extents") {
		start := at + uint64(rapid.IntRange(0, 32).Draw(t, "gap"))*pageSize
		end := start + uint64(rapid.IntRange(1, 16).Draw(t, "pages"))*pageSize
		if end > size {
			break
		}
		out = append(out, Extent{base + start, base + end})
		at = end
	}
	return out
}

// fallback puts the contents of a FOAM with one window into page frames, or not; if so, it returns what was there before, or not.
func fallback(t *rapid.T, f *FOAM) *FOAM {
	if !rapid.Bool().Draw(t, "in frames") {
		return nil
	}
	file := *f
	all := f.Windows[0]
	f.Physical, f.Windows = true, nil
	for at := all.Start; at < all.End; at += FrameSize {
		f.Windows = append(f.Windows, Window{at, at + FrameSize, 1<<40 + 2*at})
	}
	if rapid.Bool().Draw(t, "with fallback") {
		return &file
	}
	return nil
}

func addrPort(t *rapid.T) netip.AddrPort {
	b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address")
	port := rapid.Uint16().Draw(t, "port")
	switch rapid.IntRange(0, 2).Draw(t, "family") {
	case 0:
		return netip.AddrPort{}
	case 1:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[:4])), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)), port)
}

func drawFile(t *rapid.T, st *State, id int) OpenFile {
	f := OpenFile{ID: id, Flags: rapid.Uint32().Draw(t, "flags")}
	kinds := []FileKind{KindRegular, KindDevice, KindEventFD, KindEpoll, KindTimerFD, KindSignalFD, KindUnix, KindTCP, KindUDP, KindMPTCP}
	if len(st.Pipes) > 0 {
		kinds = append(kinds, KindPipe)
	}
	if len(st.Memories) > 0 {
		kinds = append(kinds, KindMemfd)
	}
	f.Kind = rapid.SampledFrom(kinds).Draw(t, "kind")
	switch f.Kind {
	case KindRegular:
		f.Regular = new(rapid.Make[Regular]().Draw(t, "regular"))
		f.Regular.Path = "/data/\xff" + f.Regular.Path
		f.Regular.Content = rapid.SampledFrom([]string{"", "deleted-1", "deleted-2"}).Draw(t, "content")
	case KindDevice:
		f.Device = new(rapid.Make[Device]().Draw(t, "device"))
	case KindEventFD:
		f.Event = new(rapid.Make[EventFD]().Draw(t, "eventfd"))
	case KindEpoll:
		f.Epoll = new(rapid.Make[Epoll]().Draw(t, "epoll"))
		for i := range f.Epoll.Targets {
			f.Epoll.Targets[i].File = id
		}
	case KindTimerFD:
		f.Timer = new(rapid.Make[TimerFD]().Draw(t, "timerfd"))
	case KindSignalFD:
		f.Signal = new(rapid.Make[SignalFD]().Draw(t, "signalfd"))
	case KindUnix:
		f.Unix = new(rapid.Make[UnixSocket]().Draw(t, "unix"))
	case KindTCP:
		f.TCP = &TCPSocket{State: TCPEstablished, Local: addrPort(t), Remote: addrPort(t),
			Connection: rapid.Ptr(rapid.Make[TCPConnection](), true).Draw(t, "connection")}
	case KindUDP:
		f.UDP = &UDPSocket{Local: addrPort(t), Remote: addrPort(t), Queue: []Datagram{{From: addrPort(t), To: addrPort(t), Data: []byte{7}}}}
	case KindMPTCP:
		f.MPTCP = &TCPSocket{State: TCPListen, Local: addrPort(t), Backlog: rapid.Int().Draw(t, "backlog")}
	case KindPipe:
		f.Pipe = &PipeEnd{Pipe: rapid.SampledFrom(st.Pipes).Draw(t, "pipe").ID}
	case KindMemfd:
		f.Memfd = &Memfd{Memory: rapid.SampledFrom(st.Memories).Draw(t, "memory").ID}
	}
	return f
}

func drawProcess(t *rapid.T, st *State, pid int) Process {
	p := Process{
		PID: pid, PPID: rapid.SampledFrom([]int{1, 100, pid - 100}).Draw(t, "parent"),
		State: rapid.SampledFrom([]ProcessState{Running, Stopped, Zombie}).Draw(t, "state"),
		Comm:  rapid.String().Draw(t, "comm") + "\xfe",
		Umask: rapid.Uint32().Draw(t, "umask"), Actions: rapid.SliceOfN(rapid.Make[SigAction](), 0, 3).Draw(t, "actions"),
		Timers: rapid.SliceOfN(rapid.Make[PosixTimer](), 0, 3).Draw(t, "timers"),
	}
	if pid == 100 {
		p.PPID, p.State = 1, Running
	}
	if p.State == Zombie {
		return p
	}
	for i := range rapid.IntRange(1, 3).Draw(t, "threads") {
		th := Thread{TID: pid + i, Creds: rapid.Make[Creds]().Draw(t, "creds"), Sched: rapid.Make[Sched]().Draw(t, "sched")}
		th.Registers = rapid.SliceOfN(rapid.Byte(), registersSize, registersSize).Draw(t, "registers")
		th.XState = xstate(rapid.Uint64().Draw(t, "in use") & kernel.XCR0())
		th.Pending = []SigInfo{{Raw: make([]byte, sigInfoSize)}}
		p.Threads = append(p.Threads, th)
	}
	for i, f := range st.Files {
		p.FDs = append(p.FDs, FD{Num: 2 * i, File: f.ID, CloExec: i%2 == 0})
	}
	base := uint64(0xc000000000)
	v := rapid.Make[VMA]().Draw(t, "mapping")
	v.Start, v.End, v.Kind, v.Guards = base, base+1<<22, VMAAnon, nil
	p.Memory.VMAs = []VMA{v}
	p.Memory.FOAM = FOAM{Name: fmt.Sprintf("pages-%d.foam", pid), Windows: []Window{{base, base + 1<<22, 1 << 21}}, Extents: extents(t, base, 1<<22)}
	p.Memory.Fallback = fallback(t, &p.Memory.FOAM)
	for range rapid.IntRange(0, HotLists).Draw(t, "hot lists") {
		p.Memory.Hot = append(p.Memory.Hot, extents(t, base, 1<<22))
	}
	return p
}
