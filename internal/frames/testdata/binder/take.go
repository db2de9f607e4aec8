package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/kexec"
)

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

// bindOne binds one page of the tenant.
func (t *taker) bindOne(address, frame uint64) error {
	_, err := t.binder.Bind(t.tenant.pidfd, []frames.Binding{{Address: address, Start: frame, Length: page}})
	return err
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
