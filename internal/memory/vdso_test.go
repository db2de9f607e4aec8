package memory

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

func hostProxy(t *testing.T) (*vdsoProxy, []byte) {
	t.Helper()
	host, err := HostVDSO()
	if err != nil {
		t.Fatal(err)
	}
	p, err := newVDSOProxy(host.Code, host.Code)
	if err != nil {
		t.Fatal(err)
	}
	return p, host.Code
}

func TestProxyJumpsToTheSameFunction(t *testing.T) {
	p, _ := hostProxy(t)
	const oldBase, newBase = 0x7000_0000_0000, 0x1234_5678_9000
	code, err := p.patched(oldBase, newBase, nil)
	if err != nil {
		t.Fatal(err)
	}
	at, ok := p.old["__vdso_clock_gettime"]
	if !ok {
		t.Fatal("the [vdso] has no __vdso_clock_gettime")
	}
	if code[at] != 0x49 || code[at+1] != 0xbb || binary.LittleEndian.Uint64(code[at+2:]) != newBase+at || !bytes.Equal(code[at+10:at+13], []byte{0x41, 0xff, 0xe3}) {
		t.Errorf("no jump at the entry: % x", code[at:at+13])
	}
}

func TestProxyLeavesAFunctionThatAThreadHasJustEntered(t *testing.T) {
	p, original := hostProxy(t)
	at := p.old["__vdso_clock_gettime"]
	const base = 0x7000_0000_0000
	for _, c := range []struct {
		name    string
		offset  uint64
		patched bool
	}{{"at the entry", 0, true}, {"inside of the jump", 4, false}, {"behind the jump", 13, true}} {
		regs := kernel.Regs{Rip: base + at + c.offset}
		code, err := p.patched(base, 0x1000, []image.Thread{{Registers: kernel.RegsBytes(&regs)}})
		if err != nil {
			t.Fatal(err)
		}
		if changed := !bytes.Equal(code[at:at+13], original[at:at+13]); changed != c.patched {
			t.Errorf("thread %s: patched is %v", c.name, changed)
		}
	}
}

func TestHoleIsFreeInAllProcesses(t *testing.T) {
	st := &image.State{Processes: []image.Process{
		{Memory: image.Memory{VMAs: []image.VMA{{Start: lowestHole, End: lowestHole + 8<<20}}}},
		{Memory: image.Memory{VMAs: []image.VMA{{Start: lowestHole + 9<<20, End: lowestHole + 32<<20}}}},
	}}
	hole, err := Hole(st)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range st.Processes {
		for _, v := range p.Memory.VMAs {
			if v.Start < hole.Addr+uint64(hole.Size)+specialRoom && v.End > hole.Addr {
				t.Errorf("hole %#x+%#x overlaps %#x-%#x", hole.Addr, hole.Size, v.Start, v.End)
			}
		}
	}
}
