package image

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestEveryStateCanBeInspected(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		st := states().Draw(t, "state")
		v := &View{Dir: "/img", Manifest: &Manifest{}, State: st}
		var out bytes.Buffer
		if err := v.WriteJSON(&out); err != nil {
			t.Fatal(err)
		}
		var decoded struct {
			State struct {
				Processes []struct {
					PID int `json:"pid"`
				} `json:"processes"`
				Files []map[string]any `json:"files"`
			} `json:"state"`
		}
		if err := json.Unmarshal(out.Bytes(), &decoded); err != nil {
			t.Fatalf("%v in\n%s", err, out.String())
		}
		if len(decoded.State.Processes) != len(st.Processes) || len(decoded.State.Files) != len(st.Files) {
			t.Fatal("processes or files are missing")
		}
		for i, p := range decoded.State.Processes {
			if p.PID != st.Processes[i].PID {
				t.Fatalf("process %d has pid %d", i, p.PID)
			}
		}
		if err := v.WriteSummary(&out); err != nil {
			t.Fatal(err)
		}
	})
}

func TestInspectPrintsBytesForPeople(t *testing.T) {
	for name, c := range map[string]struct {
		in   any
		want string
	}{
		"short":    {[]byte{1, 0xff}, `"01ff"`},
		"long":     {make([]byte, 300), `"300 bytes, blake3 `},
		"empty":    {[]byte(nil), `""`},
		"no UTF-8": {"a\xffb\n", `"a\\xffb\n"`},
	} {
		var out bytes.Buffer
		switch in := c.in.(type) {
		case []byte:
			out.WriteString(mustJSON(t, SigInfo{Raw: in}))
		case string:
			out.WriteString(mustJSON(t, Path{Path: in}))
		}
		if !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: %s does not have %s", name, out.String(), c.want)
		}
	}
}

func TestSummaryShowsTheTree(t *testing.T) {
	st := minimal()
	child := Process{PID: 4712, PPID: 4711, State: Zombie, Comm: "evil\x1b[2J"}
	st.Processes = append(st.Processes, child)
	v, err := Inspect(write(t, st, true))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := v.WriteSummary(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"28 KiB stored", "1 regular", "4711  running  1", `  evil\x1b[2J`, "Sealed:   yes"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	var out bytes.Buffer
	if err := appendJSON(&out, reflect.ValueOf(v)); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
