package image

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"
)

// Bits of XCR0, see arch/x86/include/asm/fpu/types.h, enum xfeature.
const (
	xfeatureAVX  = 1 << 2
	xfeature512  = 1<<5 | 1<<6 | 1<<7 // mask registers, upper halves of ZMM0-15, ZMM16-31
	xfeaturePKRU = 1 << 9

	// xfeatureVectors are the features that libraries choose code by when a program starts. Between two calls their registers are
	// in the initial state, so a look at the registers says nothing about whether the program needs them.
	xfeatureVectors = xfeatureAVX | xfeature512
)

var xfeatureNames = map[int]string{
	0: "x87", 1: "SSE", 2: "AVX", 3: "MPX", 4: "MPX", 5: "AVX-512", 6: "AVX-512", 7: "AVX-512", 8: "PT", 9: "protection keys",
	17: "AMX", 18: "AMX", 19: "APX",
}

// Layout of an XSTATE regset: the legacy area, then the header of 64 bytes that begins with XSTATE_BV.
const (
	xstateBV  = 512
	xstateMin = 576
)

// XStateInUse returns the features whose registers are not in their initial state in a thread's XSTATE (XSTATE_BV).
func XStateInUse(xstate []byte) uint64 {
	if len(xstate) < xstateMin {
		return 0
	}
	return binary.LittleEndian.Uint64(xstate[xstateBV:])
}

// NeedsXCR0 returns the XSAVE features without which the processes could not go on as they were.
func NeedsXCR0(st *State) uint64 {
	need := st.Host.XCR0 & xfeatureVectors
	for i := range st.Processes {
		p := &st.Processes[i]
		// PKRU always has a value. It means something only where a mapping has a key.
		ignore := uint64(xfeaturePKRU)
		for _, v := range p.Memory.VMAs {
			if v.PKey > 0 {
				ignore = 0
			}
		}
		for _, t := range p.Threads {
			need |= XStateInUse(t.XState) &^ ignore
		}
	}
	return need
}

// checkCPU refuses a state that needs features which a processor with that XCR0 lacks.
func checkCPU(st *State, xcr0 uint64) error {
	missing := NeedsXCR0(st) &^ xcr0
	if missing == 0 {
		return nil
	}
	var names []string
	for ; missing != 0; missing &= missing - 1 {
		bit := bits.TrailingZeros64(missing)
		name, ok := xfeatureNames[bit]
		if !ok {
			name = fmt.Sprintf("XSAVE feature %d", bit)
		}
		if len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	return reject(ErrCPU, "its processes use %s, which this processor does not have (or its kernel or hypervisor hides); "+
		"restore it on one that has", strings.Join(names, ", "))
}
