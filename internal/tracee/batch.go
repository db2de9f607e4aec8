package tracee

import (
	"cmp"
	"encoding/binary"
	"fmt"

	"github.com/kup-project/kup/internal/kernel"
)

// Remote is a stopped task in which tables of system calls can be executed: an Injection or a Seed.
type Remote interface {
	// PID is the process whose memory the area is in.
	PID() int
	// Area is the scratch memory for one table with its data.
	Area() (addr uint64, size int)
	// Begin writes mem to an address in the area, and lets the task execute the count entries at its start.
	Begin(at uint64, mem []byte, count int) error
	// End waits until it has done so, and reads mem back.
	End(at uint64, mem []byte) error
}

// Layout of a table entry, in 8-byte words: number, six arguments, and two addresses to which the result is stored.
const (
	entryWords = 9
	entrySize  = entryWords * 8
	wordRet1   = 7
	wordRet2   = 8
)

// Batch collects system calls and their data, to be executed in a Remote with one stop.
//
// Arguments are integers of any type, a *Buffer (its address in the area) or the *Result of an earlier call.
type Batch struct {
	remote  Remote
	calls   []*Result
	buffers []*Buffer
	size    int    // of all buffers, each aligned to 16
	at      uint64 // where in the area it is being executed ...
	mem     []byte // ... and what
}

// Result is what a call returned, valid after Run.
type Result struct {
	name  string
	must  bool
	words [entryWords]any
	chain []chainSlot
	store uint64 // a further address for the result, or 0
	value int64
}

type chainSlot struct{ call, word int }

// Buffer is memory in the area: input for the calls, and after Run what they left there.
type Buffer struct {
	Data     []byte
	offset   int
	pointers []pointer
}

type pointer struct {
	at     int
	target *Buffer
}

// Point stores the address of target at byte offset at of the buffer, for structures that hold pointers.
func (buf *Buffer) Point(at int, target *Buffer) {
	buf.pointers = append(buf.pointers, pointer{at, target})
}

// NewBatch returns an empty batch for a task.
func NewBatch(r Remote) *Batch { return &Batch{remote: r} }

// Len is how many calls the batch holds.
func (b *Batch) Len() int { return len(b.calls) }

// Full reports whether little room is left, so that it is time to Run and begin anew.
func (b *Batch) Full() bool {
	_, size := b.remote.Area()
	return len(b.calls)*entrySize+b.size > size*3/4
}

// Call adds a system call whose failure the caller looks at.
func (b *Batch) Call(nr int, args ...any) *Result {
	r := &Result{}
	if len(args) > 6 {
		panic(fmt.Sprintf("system call %d with %d arguments", nr, len(args)))
	}
	r.words[0] = nr
	for i, arg := range args {
		r.words[i+1] = arg
		if from, ok := arg.(*Result); ok {
			from.chain = append(from.chain, chainSlot{len(b.calls), i + 1})
			if len(from.chain) > 2 {
				panic("a result can be an argument of two later calls at most")
			}
		}
	}
	b.calls = append(b.calls, r)
	return r
}

// CallResult adds a system call whose number is what an earlier call returns. A negative number is no call: ENOSYS.
func (b *Batch) CallResult(number *Result, args ...any) *Result {
	number.chain = append(number.chain, chainSlot{len(b.calls), 0})
	r := b.Call(0, args...)
	r.words[0] = number
	return r
}

// Must adds a system call whose failure makes Run fail, with what as the description of what was attempted.
func (b *Batch) Must(what string, nr int, args ...any) *Result {
	r := b.Call(nr, args...)
	r.name, r.must = what, true
	return r
}

// Bytes adds data and returns its buffer.
func (b *Batch) Bytes(data []byte) *Buffer {
	buf := &Buffer{Data: data, offset: b.size}
	b.buffers = append(b.buffers, buf)
	b.size += (len(data) + 15) &^ 15
	return buf
}

// String adds a NUL-terminated string.
func (b *Batch) String(s string) *Buffer { return b.Bytes(append([]byte(s), 0)) }

// Words adds 64-bit words.
func (b *Batch) Words(words ...uint64) *Buffer {
	data := make([]byte, 0, 8*len(words))
	for _, w := range words {
		data = binary.LittleEndian.AppendUint64(data, w)
	}
	return b.Bytes(data)
}

// Space adds n zero bytes for a call to write to.
func (b *Batch) Space(n int) *Buffer { return b.Bytes(make([]byte, n)) }

// Within returns an argument: the address offset bytes into a buffer.
func (b *Batch) Within(buf *Buffer, offset int) any { return inside{buf, offset} }

type inside struct {
	buf    *Buffer
	offset int
}

// Word returns the i-th 64-bit word of a buffer.
func (buf *Buffer) Word(i int) uint64 { return binary.LittleEndian.Uint64(buf.Data[8*i:]) }

// Err returns the call's error, nil if it succeeded.
func (r *Result) Err() error {
	if r.value < 0 && r.value >= -4095 {
		return kernel.Errno(-r.value)
	}
	return nil
}

// StoreAt makes the call store its result at an address of the task's memory, too. It can be the argument of one later call then.
func (r *Result) StoreAt(addr uint64) { r.store = addr }

// Value returns what the call returned.
func (r *Result) Value() int64 { return r.value }

// Run executes the calls in order and empties the batch. All of them are executed, whatever fails; the error is that of the
// first Must that failed.
func (b *Batch) Run() error { return RunAll([]*Batch{b}) }

// RunAll is Run for batches of different tasks, which execute them at the same time. Those of tasks that share an area, as seeds of one process do, stand
// in it one behind the other, as many as there is room for.
func RunAll(batches []*Batch) error {
	for len(batches) > 0 {
		n, err := place(batches)
		if err != nil {
			return err
		}
		if err := beginAll(batches[:n], (*Batch).start, (*Batch).finish); err != nil {
			return err
		}
		batches = batches[n:]
	}
	return nil
}

// place gives the first batches, at least one, their places in their areas.
func place(batches []*Batch) (n int, err error) {
	type area struct {
		pid  int
		addr uint64
	}
	used := map[area]int{}
	busy := map[Remote]bool{}
	for n, b := range batches {
		if busy[b.remote] {
			return n, nil // a task executes one at a time
		}
		busy[b.remote] = true
		addr, size := b.remote.Area()
		key := area{b.remote.PID(), addr}
		need := len(b.calls)*entrySize + b.size
		switch {
		case used[key]+need <= size:
		case n > 0:
			return n, nil
		default:
			return 0, fmt.Errorf("%d system calls with %d bytes of data do not fit into an area of %d bytes", len(b.calls), b.size, size)
		}
		b.at = addr + uint64(used[key])
		used[key] += need
	}
	return len(batches), nil
}

// beginAll calls begin for each, and then finish for each that has begun, whatever fails: tasks are woken together, and waited for together.
func beginAll[T any](list []T, begin, finish func(T) error) error {
	var failed error
	begun := 0
	for begun < len(list) && failed == nil {
		if failed = begin(list[begun]); failed == nil {
			begun++
		}
	}
	for _, one := range list[:begun] {
		failed = cmp.Or(failed, finish(one))
	}
	return failed
}

func (b *Batch) start() error {
	mem, err := b.encode()
	if err != nil || len(b.calls) == 0 {
		b.empty()
		return err
	}
	b.mem = mem
	if err := b.remote.Begin(b.at, mem, len(b.calls)); err != nil {
		b.empty()
		return err
	}
	return nil
}

func (b *Batch) finish() error {
	defer b.empty()
	if len(b.calls) == 0 {
		return nil
	}
	if err := b.remote.End(b.at, b.mem); err != nil {
		return err
	}
	base := len(b.calls) * entrySize
	for _, buf := range b.buffers {
		copy(buf.Data, b.mem[base+buf.offset:])
	}
	for i, r := range b.calls {
		at := chainSlot{i, 0}
		if len(r.chain) == 2 || r.store != 0 && len(r.chain) == 1 {
			at = r.chain[len(r.chain)-1]
		}
		r.value = int64(binary.LittleEndian.Uint64(b.mem[at.offset():]))
	}
	for _, r := range b.calls {
		if r.must && r.Err() != nil {
			return fmt.Errorf("pid %d: %s: %w", b.remote.PID(), r.name, r.Err())
		}
	}
	return nil
}

func (b *Batch) empty() { b.calls, b.buffers, b.size, b.mem = nil, nil, 0, nil }

func (s chainSlot) offset() int { return s.call*entrySize + s.word*8 }

// encode lays out the table and its data as they will stand in the area.
func (b *Batch) encode() ([]byte, error) {
	addr := b.at
	base := len(b.calls) * entrySize
	mem := make([]byte, base+b.size)
	for _, buf := range b.buffers {
		copy(mem[base+buf.offset:], buf.Data)
		for _, p := range buf.pointers {
			binary.LittleEndian.PutUint64(mem[base+buf.offset+p.at:], addr+uint64(base+p.target.offset))
		}
	}
	for i, r := range b.calls {
		entry := mem[i*entrySize:]
		for w := range wordRet1 {
			binary.LittleEndian.PutUint64(entry[w*8:], word(r.words[w], addr+uint64(base)))
		}
		// The result goes to the entry's own first word, unless both addresses are needed for arguments of later calls.
		rets := [2]chainSlot{{i, 0}, {i, 0}}
		copy(rets[2-len(r.chain):], r.chain)
		binary.LittleEndian.PutUint64(entry[wordRet1*8:], addr+uint64(rets[0].offset()))
		binary.LittleEndian.PutUint64(entry[wordRet2*8:], addr+uint64(rets[1].offset()))
		if r.store != 0 {
			if len(r.chain) > 1 {
				return nil, fmt.Errorf("a stored result is an argument of %d later calls", len(r.chain))
			}
			// With no chain, the second address is the entry itself, where the value is read.
			binary.LittleEndian.PutUint64(entry[wordRet1*8:], r.store)
		}
	}
	return mem, nil
}

// word turns an argument into the register's value.
func word(arg any, buffers uint64) uint64 {
	switch v := arg.(type) {
	case nil, *Result:
		return 0
	case *Buffer:
		return buffers + uint64(v.offset)
	case inside:
		return buffers + uint64(v.buf.offset+v.offset)
	case int:
		return uint64(v)
	case int32:
		return uint64(v)
	case int64:
		return uint64(v)
	case uint:
		return uint64(v)
	case uint32:
		return uint64(v)
	case uint64:
		return v
	case uintptr:
		return uint64(v)
	case kernel.Signal:
		return uint64(v)
	}
	panic(fmt.Sprintf("a system call's argument of type %T", arg))
}
