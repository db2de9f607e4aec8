package memory

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"

	"github.com/zeebo/blake3"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
)

// readVDSO reads the [vdso] of a process that nobody has written to.
func readVDSO(pid int) (image.VDSO, error) {
	maps, err := procfs.ReadMaps(pid)
	if err != nil {
		return image.VDSO{}, err
	}
	for _, m := range maps {
		if m.Path == "[vdso]" {
			code := make([]byte, m.Size())
			if err := kernel.ReadMemory(pid, m.Start, code); err != nil {
				return image.VDSO{}, err
			}
			sum := blake3.Sum256(code)
			return image.VDSO{Hash: sum[:], Code: code}, nil
		}
	}
	return image.VDSO{}, errors.New("this kernel gives processes no [vdso]")
}

// vdsoProxy rewrites an old vdso image so that its functions jump to those of the running kernel's vdso.
//
// The old code stays where the application expects it, as ordinary memory. Its data pages ([vvar]) are replaced by zeros, which
// its code reads as "no clock source can be read from user space: make the system call" (VDSO_CLOCKMODE_NONE is 0, see
// lib/vdso/gettimeofday.c). So a thread that was stopped in the middle of an old function is right, too: the sequence count it
// had read no longer matches, it starts over, and then asks the kernel.
type vdsoProxy struct {
	old, new map[string]uint64 // functions: offsets in the images
	code     []byte
	room     map[string]uint64 // bytes from each old function to the next symbol
}

func newVDSOProxy(old, new []byte) (*vdsoProxy, error) {
	p := &vdsoProxy{code: old}
	var err error
	if p.old, err = vdsoFunctions(old); err != nil {
		return nil, fmt.Errorf("[vdso] of the checkpoint: %w", err)
	}
	if p.new, err = vdsoFunctions(new); err != nil {
		return nil, fmt.Errorf("[vdso] of this kernel: %w", err)
	}
	p.room = map[string]uint64{}
	for name, at := range p.old {
		next := uint64(len(old))
		for _, other := range p.old {
			if other > at {
				next = min(next, other)
			}
		}
		p.room[name] = next - at
	}
	return p, nil
}

// vdsoFunctions finds the __vdso_ functions by the image's dynamic symbols.
func vdsoFunctions(code []byte) (map[string]uint64, error) {
	f, err := elf.NewFile(bytes.NewReader(code))
	if err != nil {
		return nil, err
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return nil, err
	}
	functions := map[string]uint64{}
	for _, s := range symbols {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && len(s.Name) > 7 && s.Name[:7] == "__vdso_" && s.Value < uint64(len(code)) {
			functions[s.Name] = s.Value
		}
	}
	if len(functions) == 0 {
		return nil, errors.New("it exports no function")
	}
	return functions, nil
}

// patched returns the old image for a process in which it stands at oldBase and the running kernel's at newBase. A function
// in whose first bytes a thread stands is left as it is: it then serves by system calls.
func (p *vdsoProxy) patched(oldBase, newBase uint64, threads []image.Thread) ([]byte, error) {
	code := bytes.Clone(p.code)
	for name, at := range p.old {
		jump := vdsoStub(name)
		if target, ok := p.new[name]; ok {
			jump = jumpTo(newBase + target)
		}
		if jump == nil {
			continue // nothing to jump to, and the old code does without data
		}
		if uint64(len(jump)) > p.room[name] {
			return nil, fmt.Errorf("function %s of the old [vdso] has only %d bytes of room for a jump of %d", name, p.room[name], len(jump))
		}
		if !occupied(threads, oldBase+at, oldBase+at+uint64(len(jump))) {
			copy(code[at:], jump)
		}
	}
	return code, nil
}

// occupied reports whether a thread stands behind the first instruction of [start, end).
func occupied(threads []image.Thread, start, end uint64) bool {
	for i := range threads {
		if pc := instructionPointer(threads[i].Registers); pc > start && pc < end {
			return true
		}
	}
	return false
}
