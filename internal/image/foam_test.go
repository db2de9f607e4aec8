package image

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFallback(t *testing.T) {
	st := minimal()
	file := st.Processes[0].Memory.FOAM
	frames := FOAM{Name: file.Name, Windows: []Window{{0x401000, 0x403000, 0x123000}}, Extents: file.Extents[:1], Physical: true}
	st.Processes[0].Memory.FOAM = frames
	st.Memories = []SharedMem{{Size: 1, FOAM: FOAM{Name: "shared-1.foam", Windows: []Window{{0, 1 << 12, 0}}}}}
	if st.HasFallback() {
		t.Error("a state without a fallback has one")
	}
	st.Processes[0].Memory.Fallback = &file
	if !st.HasFallback() {
		t.Error("a state with a fallback has none")
	}
	if got := st.Physical(); len(got) != 1 || got[0] != (Extent{0x123000, 0x125000}) {
		t.Errorf("in page frames: %v", got)
	}
	shared := st.Memories[0].FOAM
	st.UseFallback()
	if diff := cmp.Diff(file, st.Processes[0].Memory.FOAM); diff != "" || len(st.Physical()) != 0 || st.Processes[0].Memory.Fallback != nil {
		t.Errorf("it does not use the fallback: %s", diff)
	}
	if diff := cmp.Diff(shared, st.Memories[0].FOAM); diff != "" {
		t.Errorf("what needs no fallback has changed: %s", diff)
	}
}
