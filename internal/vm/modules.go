package vm

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/therootcompany/xz"
)

// agentModules are what the guest's agent needs.
var agentModules = []string{"virtio_pci", "virtio_console"}

// DefaultModules are the modules, where they are not built in, that a guest needs for disk (with the checksum that ext4 asks for by another name) and network
// (virtio), and kup for its drop rule (nf_tables) and for what it asks about sockets (sock_diag(7)).
var DefaultModules = []string{
	"virtio_blk", "crc32c_generic", "ext4", "virtio_net",
	"nfnetlink", "nf_tables",
	"inet_diag", "tcp_diag", "udp_diag", "unix_diag", "netlink_diag",
}

// OptionalModules are there for modprobe(8): they give memory that was kept over a change of the kernel to the page allocator.
var OptionalModules = []string{"dax_hmem", "kmem"}

// GiveBackFiles are OptionalModules of a kernel that is to come, for Initramfs.Files: kup looks whether the next kernel has them.
func GiveBackFiles(k Kernel) (map[string]string, error) {
	tree, err := openModuleTree(k.Modules)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, name := range OptionalModules {
		path, ok := tree.files[name]
		if !ok {
			return nil, fmt.Errorf("%s has no module %s", k.Modules, name)
		}
		files[filepath.Join("/lib/modules", k.Release, path)] = filepath.Join(k.Modules, path)
	}
	return files, nil
}

// module is one to load: its file name below lib/modules/RELEASE, and its uncompressed content.
type module struct {
	name    string // with underscores, as in lsmod(8)
	path    string // relative, without the suffix of a compression
	content []byte
}

// moduleTree is a kernel's folder lib/modules/RELEASE. Dependencies are read from the modules themselves: modules.dep is
// made by depmod(8) at installation, and these kernels are not installed.
type moduleTree struct {
	dir     string
	files   map[string]string // name -> path relative to dir
	builtin map[string]bool
}

func openModuleTree(dir string) (*moduleTree, error) {
	t := &moduleTree{dir: dir, files: map[string]string{}, builtin: map[string]bool{}}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if name, ok := moduleName(path); ok {
			t.files[name], err = filepath.Rel(dir, path)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	list, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(list)) {
		if name, ok := moduleName(strings.TrimSpace(line)); ok {
			t.builtin[name] = true
		}
	}
	return t, nil
}

// moduleName is the name of a module file; dashes and underscores mean the same.
func moduleName(path string) (name string, ok bool) {
	name, _, ok = strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_"), ok
}

// resolve gives the modules to load for the wanted ones, each after those that it depends on. Built-in ones are left out.
func (t *moduleTree) resolve(wanted []string) ([]module, error) {
	var order []module
	visited := map[string]bool{}
	var visit func(name, wantedBy string) error
	visit = func(name, wantedBy string) error {
		name = strings.ReplaceAll(name, "-", "_")
		if visited[name] || t.builtin[name] {
			return nil
		}
		visited[name] = true
		path, ok := t.files[name]
		if !ok {
			return fmt.Errorf("%s: module %s, which %s needs, is neither there nor built in", t.dir, name, wantedBy)
		}
		content, err := readModule(filepath.Join(t.dir, path))
		if err != nil {
			return err
		}
		depends, err := moduleDependencies(content)
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(t.dir, path), err)
		}
		for _, d := range depends {
			if err := visit(d, name); err != nil {
				return err
			}
		}
		plain := path[:strings.LastIndex(path, ".ko")+len(".ko")]
		order = append(order, module{name: name, path: plain, content: content})
		return nil
	}
	for _, name := range wanted {
		if err := visit(name, "the guest"); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// readModule reads a module's ELF file, decompressing it where necessary: init loads it with finit_module(2), which
// decompresses only in kernels that were built so.
func readModule(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var in io.Reader = f
	switch filepath.Ext(path) {
	case ".ko":
	case ".xz":
		if in, err = xz.NewReader(f, xz.DefaultDictMax); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	default:
		return nil, fmt.Errorf("%s: modules of this compression are not supported, only plain and xz", path)
	}
	content, err := io.ReadAll(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return content, nil
}

// moduleDependencies reads "depends=a,b" from a module's .modinfo section, a list of NUL-terminated strings.
func moduleDependencies(content []byte) ([]string, error) {
	file, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("not a kernel module: no .modinfo section")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for entry := range bytes.SplitSeq(info, []byte{0}) {
		if list, ok := bytes.CutPrefix(entry, []byte("depends=")); ok && len(list) > 0 {
			return strings.Split(string(list), ","), nil
		}
	}
	return nil, nil
}
