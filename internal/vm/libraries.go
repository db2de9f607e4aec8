package vm

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// libraries finds what a program needs to start: its interpreter and its shared libraries, as ld.so(8) would.
type libraries struct {
	search []string        // folders, best first
	known  map[string]bool // files that have been looked at
	found  []string
}

func newLibraries() (*libraries, error) {
	l := &libraries{known: map[string]bool{}}
	if err := l.readConfig("/etc/ld.so.conf"); err != nil {
		return nil, err
	}
	// The folders that ld.so knows by itself on Debian.
	l.search = append(l.search, "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib")
	return l, nil
}

// readConfig reads folders and includes, see ldconfig(8).
func (l *libraries) readConfig(path string) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		pattern, isInclude := strings.CutPrefix(line, "include")
		switch {
		case line == "":
		case isInclude:
			files, err := filepath.Glob(strings.TrimSpace(pattern))
			if err != nil {
				return fmt.Errorf("%s: %s: %w", path, line, err)
			}
			for _, f := range files {
				if err := l.readConfig(f); err != nil {
					return err
				}
			}
		default:
			l.search = append(l.search, line)
		}
	}
	return nil
}

// add looks at a program, script or library, and all it needs. Paths stay as they were named, symbolic links included:
// the dynamic linker in the guest will ask by these names.
func (l *libraries) add(path string) error {
	if l.known[path] {
		return nil
	}
	l.known[path] = true
	interpreter, isScript, err := scriptInterpreter(path)
	if err != nil {
		return err
	}
	l.found = append(l.found, path)
	if isScript {
		return l.add(interpreter)
	}
	file, err := elf.Open(path)
	if err != nil {
		if _, ok := errors.AsType[*elf.FormatError](err); ok {
			return fmt.Errorf("%s is neither an ELF file nor a script: %w", path, err)
		}
		return err
	}
	defer file.Close()
	if interpreter, ok := elfInterpreter(file); ok {
		if err := l.add(interpreter); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	needed, err := file.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	own, err := ownSearchPath(file, path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, name := range needed {
		library, err := l.locate(name, own)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := l.add(library); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// locate finds a library: in the folders that the program itself names, then in those of the system.
func (l *libraries) locate(name string, own []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dirs := range [][]string{own, l.search} {
		for _, dir := range dirs {
			path := filepath.Join(dir, name)
			f, err := elf.Open(path)
			if err != nil {
				continue // absent, or a linker script
			}
			f.Close()
			if f.Class == elf.ELFCLASS64 && f.Machine == elf.EM_X86_64 {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("shared library %s was not found", name)
}

// ownSearchPath is a file's DT_RUNPATH, or else DT_RPATH.
func ownSearchPath(file *elf.File, path string) ([]string, error) {
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		values, err := file.DynString(tag)
		if err != nil && file.Section(".dynamic") != nil {
			return nil, err
		}
		if len(values) == 0 {
			continue
		}
		origin := strings.NewReplacer("$ORIGIN", filepath.Dir(path), "${ORIGIN}", filepath.Dir(path))
		return strings.Split(origin.Replace(strings.Join(values, ":")), ":"), nil
	}
	return nil, nil
}

// elfInterpreter is the dynamic linker that a program asks for; static programs and libraries have none.
func elfInterpreter(file *elf.File) (string, bool) {
	for _, p := range file.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		text := make([]byte, p.Filesz)
		if _, err := p.ReadAt(text, 0); err != nil {
			return "", false
		}
		return strings.TrimRight(string(text), "\x00"), true
	}
	return "", false
}

// scriptInterpreter is the program of a script's first line "#!/path argument".
func scriptInterpreter(path string) (interpreter string, isScript bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	head := make([]byte, 256) // BINPRM_BUF_SIZE: the kernel reads no more either
	n, err := f.Read(head)
	if err != nil {
		return "", false, fmt.Errorf("%s: %w", path, err)
	}
	line, _, _ := strings.Cut(string(head[:n]), "\n")
	rest, isScript := strings.CutPrefix(line, "#!")
	if !isScript {
		return "", false, nil
	}
	words := strings.Fields(rest)
	if len(words) == 0 {
		return "", false, fmt.Errorf("%s: the first line names no interpreter", path)
	}
	return words[0], true, nil
}
