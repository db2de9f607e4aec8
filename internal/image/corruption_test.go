package image

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDamageIsFound spoils each file of an image in each way, and expects Open (for metadata) and Verify to say what is wrong.
func TestDamageIsFound(t *testing.T) {
	files := []string{manifestName, stateName, sealName, "pages-4711.foam", "deleted-1"}
	damages := map[string]struct {
		spoil func(path string) error
		why   error
	}{
		"first byte":    {flip(func(int64) int64 { return 0 }), ErrCorrupt},
		"second byte":   {flip(func(int64) int64 { return 1 }), ErrCorrupt},
		"middle byte":   {flip(func(size int64) int64 { return size / 2 }), ErrCorrupt},
		"last byte":     {flip(func(size int64) int64 { return size - 1 }), ErrCorrupt},
		"cut by one":    {resize(func(size int64) int64 { return size - 1 }), ErrCorrupt},
		"cut in half":   {resize(func(size int64) int64 { return size / 2 }), ErrCorrupt},
		"empty":         {resize(func(int64) int64 { return 0 }), ErrCorrupt},
		"one byte more": {resize(func(size int64) int64 { return size + 1 }), ErrCorrupt},
		"deleted":       {os.Remove, ErrCorrupt},
		"directory":     {func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }, ErrCorrupt},
		"link": {func(path string) error {
			return errors.Join(os.Rename(path, path+".elsewhere"), os.Symlink(path+".elsewhere", path))
		}, ErrCorrupt},
		"foreign owner":  {func(path string) error { return os.Chown(path, 1234, 0) }, ErrOwner},
		"group may read": {func(path string) error { return os.Chmod(path, 0o640) }, ErrOwner},
		"all may write":  {func(path string) error { return os.Chmod(path, 0o602) }, ErrOwner},
	}
	// The manifest is what makes an image: damage to its beginning, or its absence, makes something else.
	other := map[string]error{
		"manifest/first byte": ErrNotImage, "manifest/second byte": ErrNotImage, "manifest/empty": ErrNotImage,
		"manifest/deleted": ErrNotImage,
	}
	for _, file := range files {
		for name, damage := range damages {
			t.Run(file+"/"+name, func(t *testing.T) {
				dir := write(t, minimal(), true)
				if err := damage.spoil(filepath.Join(dir, file)); err != nil {
					t.Fatal(err)
				}
				want := damage.why
				if w := other[file+"/"+name]; w != nil {
					want = w
				}
				for what, err := range map[string]error{"Verify": Verify(dir, nil), "Open": openContents(dir)} {
					if !errors.Is(err, want) || !errors.Is(err, ErrNotAcceptable) {
						t.Errorf("%s: %v; it should match %q", what, err, want)
					} else if !strings.Contains(err.Error(), dir) {
						t.Errorf("%s: %v; it does not name the image", what, err)
					}
				}
			})
		}
	}
}

func openContents(dir string) error {
	_, err := Open(dir, WithContents(nil))
	return err
}

func flip(at func(size int64) int64) func(string) error {
	return func(path string) error {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		return flipAt(f, at(info.Size()))
	}
}

func flipAt(f *os.File, offset int64) error {
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, offset); err != nil {
		return err
	}
	b[0] ^= 0x40
	_, err := f.WriteAt(b, offset)
	return err
}

func resize(to func(size int64) int64) func(string) error {
	return func(path string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Truncate(path, to(info.Size()))
	}
}

func TestDamageToThePagesIsFoundWhereverItIs(t *testing.T) {
	st := minimal()
	dir := write(t, st, true)
	foam := st.Processes[0].Memory.FOAM
	f, err := os.OpenFile(filepath.Join(dir, foam.Name), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	offsets := []int64{foam.FileSize() - 1, 0x300000, 0x400fff, 0x403000} // holes
	for _, r := range foam.runs() {
		offsets = append(offsets, int64(r.Start), int64(r.Start+r.End)/2, int64(r.End-1))
	}
	for _, offset := range offsets {
		if err := flipAt(f, offset); err != nil {
			t.Fatal(err)
		}
		if err := Verify(dir, nil); !errors.Is(err, ErrCorrupt) {
			t.Errorf("flip at %#x: %v", offset, err)
		}
		if err := flipAt(f, offset); err != nil {
			t.Fatal(err)
		}
	}
	if err := Verify(dir, nil); err != nil {
		t.Errorf("all is as it was: %v", err)
	}
}

func TestAnyFlippedByteSpoilsTheManifest(t *testing.T) {
	dir := write(t, minimal(), true)
	good, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseManifest(good); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		for _, bit := range []byte{1, 0x20, 0x80} {
			bad := bytes.Clone(good)
			bad[i] ^= bit
			if _, err := parseManifest(bad); !errors.Is(err, ErrNotAcceptable) {
				t.Fatalf("byte %d ^ %#x: %v", i, bit, err)
			}
		}
		if _, err := parseManifest(good[:i]); !errors.Is(err, ErrNotAcceptable) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
}

func TestFutureVersionIsRefusedByName(t *testing.T) {
	for _, head := range []string{"kup image 5 blake3 00\n", "kup image 99\n", "kup image 5 sha4 " + strings.Repeat("0", 128) + "\n", "kup image 0 blake3 00\n"} {
		dir := write(t, minimal(), true)
		if err := os.WriteFile(filepath.Join(dir, manifestName), []byte(head+"whatever it may look like then"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); !errors.Is(err, ErrVersion) || !errors.Is(err, ErrNotAcceptable) {
			t.Errorf("%q: %v", head, err)
		}
	}
}

func TestFirstVersionIsRead(t *testing.T) {
	dir := write(t, minimal(), true)
	path := filepath.Join(dir, manifestName)
	manifest, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(manifest), "\n")
	if err := os.WriteFile(path, []byte(head(1, []byte(body))+body), 0o600); err != nil {
		t.Fatal(err)
	}
	img, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if img.Manifest.Format != 1 {
		t.Errorf("format version, expected 1, got %d", img.Manifest.Format)
	}
}

func TestForeignDirectoriesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(dir string) error
		why   error
	}{
		"owner":    {func(dir string) error { return os.Chown(dir, 1234, 0) }, ErrOwner},
		"mode":     {func(dir string) error { return os.Chmod(dir, 0o755) }, ErrOwner},
		"gone":     {os.RemoveAll, ErrNotImage},
		"a file":   {func(dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)) }, ErrNotImage},
		"no files": {func(dir string) error { return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)) }, ErrNotImage},
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, minimal(), false)
			if err := c.spoil(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir); !errors.Is(err, c.why) || !errors.Is(err, ErrNotAcceptable) {
				t.Errorf("Open: %v", err)
			}
		})
	}
}

// rewrite replaces the manifest by a changed one with a fitting hash: what a bug would write.
func rewrite(t *testing.T, dir string, change func(*Manifest)) {
	t.Helper()
	m, err := loadManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	change(m)
	data, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, manifestName), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestInconsistentManifestsAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Manifest)
		why    error
	}{
		"architecture":    {func(m *Manifest) { m.Arch = "riscv64" }, ErrArch},
		"no state":        {func(m *Manifest) { m.Files = m.Files[1:] }, ErrCorrupt},
		"listed twice":    {func(m *Manifest) { m.Files = append(m.Files, m.Files[1]) }, ErrCorrupt},
		"other directory": {func(m *Manifest) { m.Files[1].Name = "../../etc/shadow" }, ErrCorrupt},
		"reserved name":   {func(m *Manifest) { m.Files[1].Name = sealName }, ErrCorrupt},
		"unlisted":        {func(m *Manifest) { m.Files = append(m.Files[:1], m.Files[2:]...) }, ErrCorrupt},
		"other kind":      {func(m *Manifest) { m.Files[1].Kind = EntryFOAM }, ErrCorrupt},
		"unknown kind":    {func(m *Manifest) { m.Files[1].Kind = "poetry" }, ErrCorrupt},
		"two states":      {func(m *Manifest) { m.Files[1].Kind = EntryState }, ErrCorrupt},
		"negative size":   {func(m *Manifest) { m.Files[1].Size = -1 }, ErrCorrupt},
		"other hash":      {func(m *Manifest) { m.Files[0].Hash = strings.Repeat("0", 64) }, ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, minimal(), true)
			rewrite(t, dir, c.change)
			if err := openContents(dir); !errors.Is(err, c.why) || !errors.Is(err, ErrNotAcceptable) {
				t.Errorf("Open: %v", err)
			}
		})
	}
}

func TestInconsistentSealsAreRefused(t *testing.T) {
	for name, change := range map[string]func(*Seals){
		"no files":       func(s *Seals) { s.Files = nil },
		"one more":       func(s *Seals) { s.Files = append(s.Files, FileSeal{Name: "x"}) },
		"other name":     func(s *Seals) { s.Files[0].Name = "x" },
		"no hashes":      func(s *Seals) { s.Files[1].Hashes = nil },
		"odd hashes":     func(s *Seals) { s.Files[1].Hashes = s.Files[1].Hashes[1:] },
		"data too long":  func(s *Seals) { s.Files[0].Data = []Extent{{0, 1 << 40}} },
		"data backwards": func(s *Seals) { s.Files[0].Data = []Extent{{4, 2}} },
		"less data":      func(s *Seals) { s.Files[0].Data, s.Files[0].Hashes = nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, minimal(), true)
			img, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			seals, err := img.loadSeals()
			if err != nil {
				t.Fatal(err)
			}
			change(seals)
			data, err := encoder.Marshal(seals)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(img.Path(sealName), data, 0o600); err != nil {
				t.Fatal(err)
			}
			rewrite(t, dir, func(m *Manifest) {
				e := m.entry(sealName)
				e.Size, e.Hash = int64(len(data)), hashHex(data)
			})
			if err := Verify(dir, nil); !errors.Is(err, ErrCorrupt) {
				t.Errorf("Verify: %v", err)
			}
		})
	}
}
