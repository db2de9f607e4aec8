package tracee

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kup-project/kup/internal/kernel"
)

func TestBlobIsAssembledFromSource(t *testing.T) {
	dir := t.TempDir()
	object, code := filepath.Join(dir, "blob.o"), filepath.Join(dir, "blob")
	for _, args := range [][]string{
		{"as", "-o", object, "testdata/blob.S"},
		{"objcopy", "-O", "binary", "-j", ".text", object, code},
	} {
		if text, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, text)
		}
	}
	want, err := os.ReadFile(code)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, blob[:]) {
		t.Errorf("blob_amd64.go has\n% x\nbut testdata/blob.S gives\n% x", blob, want)
	}
	symbols, err := exec.Command("nm", object).Output()
	if err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]uint64{
		"restart": blobRestart, "enter": blobEnter, "asked": blobAsked, "questions": blobQuestions, "stopped": blobStopped, "home": blobHome,
		"O_AREA": recArea, "O_LEN": recLen, "O_TID": recTID, "O_SIG": recSignal, "O_SAF": recFlags, "O_CGT": recCaught,
		"O_BLOCK": recBlock, "O_MASK": recMask, "O_FLAGS": recEflags, "O_RSP": recRsp, "O_RAX": recRax, "O_RIP": recRip, "O_EXIT": recExit,
		"CLEANAT": areaCleanAt, "CLEANN": areaCleanN, "COUNT": areaCount, "TABLE": areaTable, "ENTRY_SIZE": entrySize,
	} {
		found := regexp.MustCompile(`(?m)^([0-9a-f]{16}) . ` + name + `$`).FindStringSubmatch(string(symbols))
		if found == nil || parseHex(t, found[1]) != at {
			t.Errorf("%s is %v in testdata/blob.S, %#x in Go", name, found, at)
		}
	}
}

func parseHex(t *testing.T, s string) (v uint64) {
	t.Helper()
	for _, c := range s {
		v = v<<4 | uint64(strings.IndexRune("0123456789abcdef", c))
	}
	return v
}

// TestResumption compares with what arch/x86/kernel/signal.c does.
func TestResumption(t *testing.T) {
	const rip = 0x401000
	e := func(n int64) uint64 { return uint64(n) }
	for _, c := range []struct {
		name             string
		rax, orig        uint64
		ended, restarted resumption
		caught           uint64
		flags            uint32
	}{
		{"not in a system call", e(-512), e(-1), resumption{e(-512), rip}, resumption{e(-512), rip}, 0, 0},
		{"finished", 7, 0, resumption{7, rip}, resumption{7, rip}, 0, 0},
		{"failed", e(-2), 2, resumption{e(-2), rip}, resumption{e(-2), rip}, 0, 0},
		{"read", e(-512), 0, resumption{e(-4), rip}, resumption{0, rip - 2}, 0b100, saRestart},
		{"wait", e(-513), 61, resumption{61, rip - 2}, resumption{61, rip - 2}, 0, 0},
		{"pause", e(-514), 34, resumption{e(-4), rip}, resumption{34, rip - 2}, 0b100, 0},
		{"nanosleep", e(-516), 35, resumption{e(-4), rip}, resumption{219, rip - 2}, 0b100, 0},
	} {
		r := record{regs: kernel.Regs{Rax: c.rax, Orig_rax: c.orig, Rip: rip}, caught: 0b101, mask: 0b011, signal: 28}
		b := r.bytes()
		word := func(at int) uint64 { return leWord(b[at:]) }
		ended, restarted := resumption{word(recRax), word(recRip)}, resumption{word(recRax + 8), word(recRip + 8)}
		if ended != c.ended || restarted != c.restarted {
			t.Errorf("%s: ends as %x, restarts as %x; want %x and %x", c.name, ended, restarted, c.ended, c.restarted)
		}
		if word(recCaught) != c.caught || uint32(word(recFlags)) != c.flags {
			t.Errorf("%s: caught %b, flags %#x; want %b, %#x", c.name, word(recCaught), word(recFlags), c.caught, c.flags)
		}
	}
}

func leWord(b []byte) (v uint64) {
	for i := range 8 {
		v |= uint64(b[i]) << (8 * i)
	}
	return v
}

// TestStepsAreAll keeps the list of steps that kup is killed at complete.
func TestStepsAreAll(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, call := range regexp.MustCompile(`crashPoint\("([^"]*)"\)`).FindAllSubmatch(text, -1) {
			named = append(named, string(call[1]))
		}
	}
	slices.Sort(named)
	want := slices.Sorted(slices.Values(steps))
	if !slices.Equal(named, want) {
		t.Errorf("crash points are %q, but tested are %q", named, want)
	}
}
