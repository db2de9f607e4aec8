// Binder leaves page frames to the next kernel and binds them there, in a guest:
//
//	binder leave MB KERNEL INITRD    fills frames with what testdata/tenant.c expects, and starts the kernel
//	binder take                      makes them the memory of a tenant, tries what must be refused, and frees the rest
//
// What goes from one to the other lies in the folder state. Take prints lines that say what was done.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/kexec"
)

const (
	state = "/data/binder.json"
	page  = 4096

	spareBlocks = 6
	spares      = spareBlocks * frames.Size / page // frames for the tenant to bind itself, and for the refusals
)

// left is what the next kernel must know.
type left struct {
	Blocks kexec.Ranges
	Frames []uint64 // physical addresses, of 2 MB each
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "binder:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 4 && args[0] == "leave":
		return leave(args[1], args[2], args[3])
	case len(args) == 1 && args[0] == "take":
		return take()
	}
	return fmt.Errorf("unknown command %q", args)
}

// word is number i of the words that lie in a frame.
func word(frame, i uint64) uint64 { return (frame + i) * 0x9e3779b97f4a7c15 }

func leave(megabytes, kernelPath, initrd string) error {
	var size uint64
	if _, err := fmt.Sscan(megabytes, &size); err != nil {
		return err
	}
	pool, err := frames.Take(size << 20)
	if err != nil {
		return err
	}
	l := left{Blocks: pool.Blocks()}
	for {
		f, err := pool.Next()
		if errors.Is(err, frames.ErrNoRoom) {
			break
		}
		if err != nil {
			return err
		}
		l.Frames = append(l.Frames, f.Addr)
		for at := 0; at < len(f.Mem); at += 8 {
			binary.LittleEndian.PutUint64(f.Mem[at:], word(f.Addr+uint64(at&^(page-1)), uint64(at%page/8)))
		}
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if err := writeDurable(state, text); err != nil {
		return err
	}
	options := kexec.Options{Kernel: kernelPath, Initrd: initrd, CmdLine: strings.TrimSpace(string(line)), Reserve: l.Blocks}
	if _, err := kexec.Load(options); err != nil {
		return err
	}
	if err := pool.Check(); err != nil {
		return err
	}
	return kexec.Jump()
}

func writeDurable(path string, text []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// taker has what take works with.
type taker struct {
	left
	binder *frames.Binder
	pages  []uint64 // the frames of the tenant's pages, in their order
	spare  []uint64
	tenant *tenant
}

func take() error {
	text, err := os.ReadFile(state)
	if err != nil {
		return err
	}
	t := &taker{}
	if err := json.Unmarshal(text, &t.left); err != nil {
		return err
	}
	for _, f := range t.Frames {
		for at := uint64(0); at < frames.Size; at += page {
			t.pages = append(t.pages, f+at)
		}
	}
	t.spare, t.pages = t.pages[:spares], t.pages[spares:]
	// Neighbours apart, and a long run: the second half stays as it is.
	half := t.pages[:len(t.pages)/2]
	for i := 0; i+1 < len(half); i += 2 {
		half[i], half[i+1] = half[i+1], half[i]
	}
	if t.binder, err = frames.OpenBinder(); err != nil {
		return err
	}
	defer t.binder.Close()
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"the tenant starts", t.start},
		{"what is not preserved is refused", t.refuseUnknown},
		{"frames are preserved", t.preserve},
		{"contents can be read", t.read},
		{"a damaged frame is refused", t.refuseDamaged},
		{"what cannot be bound is refused", t.refuse},
		{"a full memory cgroup refuses", t.refuseFull},
		{"one of several gets a frame", t.race},
		{"frames are bound", t.bind},
		{"bound frames are refused", t.refuseBound},
		{"the tenant has its memory", func() error { return t.tenant.ask("verify") }},
		{"it is written in place", func() error { return t.tenant.ask("write") }},
		{"compaction leaves it", t.compact},
		{"offlining leaves it", t.offline},
		{"the tenant lives", func() error { return t.tenant.ask("live") }},
		{"faults are served", func() error { return t.tenant.ask("watch") }},
		{"signals come in between", func() error { return t.tenant.ask("interrupt") }},
		{"a crowd works in them", t.crowd},
		{"the rest is freed", t.free},
		{"nothing is left", t.refuseFreed},
		{"the tenant ends", t.end},
	} {
		began := time.Now()
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Printf("%s: %v\n", step.name, time.Since(began).Round(time.Microsecond))
	}
	return nil
}

// tenant is the program that the frames are for.
type tenant struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	pidfd  int
	at     uint64 // its memory
	shared uint64 // pages that cannot be replaced
	file   uint64
	full   uint64
}

const group = "/sys/fs/cgroup/tenant"

// start starts the tenant in a memory cgroup of its own.
func (t *taker) start() error {
	if err := errors.Join(writeWords("/data/frames", t.pages), writeWords("/data/spare", t.spare)); err != nil {
		return err
	}
	if err := os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+memory"), 0); err != nil {
		return err
	}
	if err := os.Mkdir(group, 0o755); err != nil {
		return err
	}
	n := &tenant{cmd: exec.Command("sh", "-c", "echo $$ >"+group+"/cgroup.procs; exec tenant /data/frames /data/spare")}
	n.cmd.Stderr = os.Stderr
	var err error
	if n.in, err = n.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := n.cmd.Start(); err != nil {
		return err
	}
	n.out = bufio.NewReader(out)
	line, err := n.out.ReadString('\n')
	if err != nil {
		return err
	}
	var pages int
	if _, err := fmt.Sscanf(line, "at %d %d %d %d %d", &n.at, &pages, &n.shared, &n.file, &n.full); err != nil || pages != len(t.pages) {
		return fmt.Errorf("the tenant says %q: %v", line, err)
	}
	n.pidfd, err = kernel.PidfdOpen(n.cmd.Process.Pid)
	t.tenant = n
	return err
}

// ask makes the tenant do something.
func (n *tenant) ask(what string) error {
	if _, err := fmt.Fprintln(n.in, what); err != nil {
		return err
	}
	for {
		line, err := n.out.ReadString('\n')
		if err != nil {
			return err
		}
		if line == "ok\n" {
			return nil
		}
		fmt.Print("the tenant says: ", line)
		if !strings.HasPrefix(line, "note: ") {
			return errors.New(strings.TrimSpace(line))
		}
	}
}

func writeWords(path string, words []uint64) error {
	text, err := binary.Append(nil, binary.LittleEndian, words)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// expect is an error if err is not the wanted one.
func expect(what string, err, want error) error {
	if !errors.Is(err, want) {
		return fmt.Errorf("%s: %v instead of %v", what, err, want)
	}
	return nil
}

// bindOne binds one page of the tenant.
func (t *taker) bindOne(address, frame uint64) error {
	_, err := t.binder.Bind(t.tenant.pidfd, []frames.Binding{{Address: address, Start: frame, Length: page}})
	return err
}

func (t *taker) refuseUnknown() error {
	first := t.Blocks[0]
	_, err := t.binder.ReadAt(make([]byte, page), int64(first.Start))
	return errors.Join(
		expect("binding before it is preserved", t.bindOne(t.tenant.at, t.pages[0]), kernel.ENXIO),
		expect("reading before it is preserved", err, kernel.ENXIO),
		expect("memory of this kernel", t.binder.Preserve(kexec.Ranges{{Start: 16 << 20, End: 32 << 20}}), kernel.ENXIO),
		expect("more than was reserved", t.binder.Preserve(kexec.Ranges{{Start: first.Start - page, End: first.End}}), kernel.ENXIO),
		expect("no whole pages", t.binder.Preserve(kexec.Ranges{{Start: first.Start + 1, End: first.End}}), kernel.EINVAL),
	)
}

func (t *taker) preserve() error {
	if err := t.binder.Preserve(t.Blocks); err != nil {
		return err
	}
	return expect("what is known already", t.binder.Preserve(t.Blocks), kernel.EEXIST)
}

func (t *taker) read() error {
	b := make([]byte, 2*page)
	at := t.pages[len(t.pages)-3]
	if _, err := t.binder.ReadAt(b[:page+100], int64(at)); err != nil {
		return err
	}
	if got := binary.LittleEndian.Uint64(b[page+8:]); got != word(at+page, 1) {
		return fmt.Errorf("%#x is at %#x, instead of %#x", got, at+page+8, word(at+page, 1))
	}
	return nil
}

// refuseDamaged tells the kernel of an error in the memory of a frame; Documentation/ABI/testing/sysfs-memory-page-offline.
func (t *taker) refuseDamaged() error {
	damaged := t.spare[6]
	file := memory + "hard_offline_page"
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		fmt.Println("note: this kernel does not follow errors of memory")
		return nil
	}
	// The answer is about what the kernel could do, and it can do nothing for reserved memory.
	_ = os.WriteFile(file, fmt.Appendf(nil, "%#x", damaged), 0)
	return errors.Join(
		expect("binding it", t.bindOne(t.tenant.at, damaged), kernel.EIO),
		expect("binding it again", t.bindOne(t.tenant.at, damaged), kernel.EBUSY))
}

func (t *taker) refuse() error {
	n, f := t.tenant, t.pages[0]
	return errors.Join(
		expect("a frame of this kernel", t.bindOne(n.at, 16<<20), kernel.ENXIO),
		expect("no mapping", t.bindOne(n.at+uint64(len(t.pages))*page, f), kernel.EFAULT),
		expect("an address of the kernel's", t.bindOne(0xffff888000000000, f), kernel.EFAULT),
		expect("a shared mapping", t.bindOne(n.shared, f), kernel.EOPNOTSUPP),
		expect("a file's mapping", t.bindOne(n.file, f), kernel.EOPNOTSUPP),
		expect("a page that is there", t.bindOne(n.full, f), kernel.EEXIST),
		expect("no whole page", t.bindOne(n.at+8, f), kernel.EINVAL),
		expect("no userfaultfd", func() error {
			_, err := t.binder.BindWatched(n.pidfd, []frames.Binding{{Address: n.at, Start: f, Length: page}})
			return err
		}(), kernel.EINVAL),
	)
}

// refuseFull binds until the tenant's memory cgroup is full.
func (t *taker) refuseFull() error {
	const limit, swap = group + "/memory.max", group + "/memory.swap.max"
	if err := errors.Join(os.WriteFile(swap, []byte("0"), 0), os.WriteFile(limit, []byte("8M"), 0)); err != nil {
		return err
	}
	runs := t.runs()
	bound, err := t.binder.Bind(t.tenant.pidfd, runs)
	if err := expect(fmt.Sprintf("%d pages", bound), err, kernel.ENOMEM); err != nil {
		return err
	}
	fmt.Printf("%d of %d pages were bound before the limit\n", bound, len(t.pages))
	if _, err := t.binder.ReadAt(make([]byte, page), int64(t.pages[len(t.pages)-1])); err != nil {
		return err
	}
	t.pages = t.pages[bound:]
	t.tenant.at += bound * page
	return errors.Join(os.WriteFile(swap, []byte("max"), 0), os.WriteFile(limit, []byte("max"), 0))
}

// runs are the tenant's pages.
func (t *taker) runs() []frames.Binding {
	var runs []frames.Binding
	for i, f := range t.pages {
		if n := len(runs); n > 0 && runs[n-1].Start+runs[n-1].Length == f {
			runs[n-1].Length += page
			continue
		}
		runs = append(runs, frames.Binding{Address: t.tenant.at + uint64(i)*page, Start: f, Length: page})
	}
	return runs
}

func (t *taker) bind() error {
	began := time.Now()
	pages, err := t.binder.Bind(t.tenant.pidfd, t.runs())
	if err != nil || pages != uint64(len(t.pages)) {
		return fmt.Errorf("%d of %d pages: %w", pages, len(t.pages), err)
	}
	fmt.Printf("%d pages, %.2f us each\n", pages, float64(time.Since(began).Nanoseconds())/1000/float64(pages))
	return nil
}

// race has several bind the same pages at once.
func (t *taker) race() error {
	const racers, pages = 4, 512
	var bound atomic.Uint64
	failed := make(chan error, racers)
	for range racers {
		go func() {
			for i := range uint64(pages) {
				err := t.bindOne(t.tenant.at+i*page, t.pages[i])
				if err == nil {
					bound.Add(1)
				} else if !errors.Is(err, kernel.EBUSY) && !errors.Is(err, kernel.EEXIST) {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	var all []error
	for range racers {
		all = append(all, <-failed)
	}
	if bound.Load() != pages {
		all = append(all, fmt.Errorf("%d pages were bound %d times", pages, bound.Load()))
	}
	t.pages = t.pages[pages:]
	t.tenant.at += pages * page
	return errors.Join(all...)
}

func (t *taker) refuseBound() error {
	last := t.tenant.at + uint64(len(t.pages)-1)*page
	err := expect("a page that is there", t.bindOne(last, t.spare[4]), kernel.EEXIST)
	return errors.Join(err,
		expect("a frame that is bound", t.bindOne(t.tenant.full, t.pages[0]), kernel.EBUSY),
		expect("blocks that are known", t.binder.Preserve(t.Blocks[:1]), kernel.EEXIST))
}

func (t *taker) compact() error {
	if err := os.WriteFile("/proc/sys/vm/compact_memory", []byte("1"), 0); err != nil {
		return err
	}
	return t.tenant.ask("check")
}

// offline takes memory blocks offline, which moves the pages in them, and brings them back.
func (t *taker) offline() error {
	text, err := os.ReadFile(memory + "block_size_bytes")
	if err != nil {
		return err
	}
	var size uint64
	if _, err := fmt.Sscanf(string(text), "%x", &size); err != nil {
		return err
	}
	// What is reserved cannot be moved; the spare frames are needed yet.
	rest := t.Blocks
	for _, f := range t.Frames[:spareBlocks] {
		rest = rest.Minus(kexec.Range{Start: f, End: f + frames.Size})
	}
	began := time.Now()
	pages, err := t.binder.Free(rest)
	if err != nil {
		return err
	}
	fmt.Printf("%d pages were freed in %v\n", pages, time.Since(began).Round(time.Microsecond))
	moved := 0
	for _, r := range rest {
		for at := (r.Start + size - 1) &^ (size - 1); at+size <= r.End; at += size {
			ok, err := t.offlineBlock(at / size)
			if err != nil {
				return err
			}
			if ok {
				moved++
			}
		}
	}
	fmt.Printf("%d blocks were offline\n", moved)
	return t.tenant.ask("check")
}

const memory = "/sys/devices/system/memory/"

// offlineBlock tells whether that was possible: the kernel may have put something there that cannot be moved.
func (t *taker) offlineBlock(number uint64) (bool, error) {
	path := fmt.Sprintf("%smemory%d/state", memory, number)
	if err := os.WriteFile(path, []byte("offline"), 0); err != nil {
		fmt.Printf("note: %v\n", err)
		return false, nil
	}
	return true, errors.Join(t.tenant.ask("check"), os.WriteFile(path, []byte("online_movable"), 0))
}

// crowd lets threads of the tenant loose while memory is being compacted.
func (t *taker) crowd() error {
	done := make(chan error)
	go func() { done <- t.tenant.ask("crowd") }()
	for {
		select {
		case err := <-done:
			return err
		case <-time.After(20 * time.Millisecond):
			if err := os.WriteFile("/proc/sys/vm/compact_memory", []byte("1"), 0); err != nil {
				return err
			}
		}
	}
}

func (t *taker) free() error {
	pages, err := t.binder.Free(t.Blocks)
	if err != nil {
		return err
	}
	again, err := t.binder.Free(t.Blocks)
	if err != nil || again != 0 {
		return fmt.Errorf("%d pages were freed twice: %w", again, err)
	}
	fmt.Printf("%d pages were freed\n", pages)
	return nil
}

func (t *taker) refuseFreed() error {
	_, err := t.binder.ReadAt(make([]byte, page), int64(t.spare[5]))
	return errors.Join(
		expect("binding a frame that was freed", t.bindOne(t.tenant.full, t.spare[5]), kernel.EBUSY),
		expect("reading it", err, kernel.EBUSY))
}

func (t *taker) end() error {
	if _, err := fmt.Fprintln(t.tenant.in, "end"); err != nil {
		return err
	}
	if err := t.tenant.cmd.Wait(); err != nil {
		return err
	}
	if err := expect("a process that has ended", t.bindOne(t.tenant.at, t.spare[0]), kernel.ESRCH); err != nil {
		return err
	}
	// What was charged is given back, but for pages that the machine still has in its batches.
	var charged uint64
	for range 50 {
		text, err := os.ReadFile(group + "/memory.current")
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := fmt.Sscan(string(text), &charged); err != nil {
			return err
		}
		if charged < 1<<20 {
			fmt.Printf("%d kB are still charged\n", charged>>10)
			return os.Remove(group)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("%d bytes are still charged", charged)
}
