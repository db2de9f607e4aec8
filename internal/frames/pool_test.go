package frames

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kup-project/kup/internal/kexec"
)

const mib = 1 << 20

// TestChoose lets frames lie in blocks of 128 MB, of which some are of no use.
func TestChoose(t *testing.T) {
	const block = 128 * mib
	ram := kexec.NewRanges(kexec.Range{Start: block, End: 4 * block}, kexec.Range{Start: 5 * block, End: 6*block - 4096})
	at := func(addrs ...uint64) (all []Frame) {
		for _, a := range addrs {
			all = append(all, Frame{Addr: a})
		}
		return all
	}
	for _, tt := range []struct {
		name   string
		found  []Frame
		wanted int
		frames []Frame
		blocks kexec.Ranges
	}{
		{"none", nil, 1, nil, nil},
		{"where the kernel starts", at(2*mib, block), 2, at(block), kexec.Ranges{{Start: block, End: 2 * block}}},
		{"a block with a hole", at(5 * block), 1, nil, nil},
		{
			"as few blocks as possible", at(block, 2*block, 2*block+2*mib, 3*block), 2,
			at(2*block, 2*block+2*mib), kexec.Ranges{{Start: 2 * block, End: 3 * block}},
		},
		{
			"neighbours are one range", at(2*block, block), 2,
			at(block, 2*block), kexec.Ranges{{Start: block, End: 3 * block}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			frames, blocks := choose(tt.found, tt.wanted, block, ram)
			if diff := cmp.Diff(tt.frames, frames); diff != "" {
				t.Errorf("frames: %s", diff)
			}
			if diff := cmp.Diff(tt.blocks, blocks); diff != "" {
				t.Errorf("blocks: %s", diff)
			}
		})
	}
}

func TestParametersTellWhatIsKept(t *testing.T) {
	want := kexec.NewRanges(kexec.Range{Start: 1 << 30, End: 2 << 30}, kexec.Range{Start: 3 << 30, End: 4 << 30})
	got, err := parseTold("quiet "+Parameters(want)+" panic=-1\n", parameter)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if Parameters(nil) != "" {
		t.Errorf("parameters for nothing: %q", Parameters(nil))
	}
	for _, line := range []string{"kup.memory=", "kup.memory=5", "kup.memory=0x20-0x10", "kup.memory=0x10-0x20,"} {
		if kept, err := parseTold(line, parameter); err == nil {
			t.Errorf("%s was read as %v", line, kept)
		}
	}
}

// TestFramesAreHuge takes frames of this machine, which are found where they are and given back.
func TestFramesAreHuge(t *testing.T) {
	mem, err := mapHuge(3)
	if err != nil {
		t.Fatal(err)
	}
	found, err := find(mem)
	if err != nil {
		t.Fatal(err)
	}
	p := &Pool{mapped: [][]byte{mem}, frames: found, free: slices.Clone(found)}
	seen := map[uint64]bool{}
	for range 3 {
		f, err := p.Next()
		if err != nil {
			t.Fatal(err)
		}
		if f.Addr%Size != 0 || len(f.Mem) != Size || seen[f.Addr] {
			t.Errorf("frame %#x of %d bytes", f.Addr, len(f.Mem))
		}
		seen[f.Addr] = true
		f.Mem[Size-1] = 1
	}
	if _, err := p.Next(); err == nil {
		t.Error("an empty pool has given a frame")
	}
	if err := p.Check(); err != nil {
		t.Error(err)
	}
	p.frames[1].Addr += Size
	if err := p.Check(); err == nil {
		t.Error("a frame that was moved was not noticed")
	}
	p.Return(found[:1])
	if f, err := p.Next(); err != nil || f.Addr != found[0].Addr {
		t.Errorf("after its return: %#x, %v", f.Addr, err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := readNumber("/sys/kernel/mm/hugepages/hugepages-2048kB/surplus_hugepages", 10); err != nil || left != 0 {
		t.Errorf("%d huge pages are left: %v", left, err)
	}
}
