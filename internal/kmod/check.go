package kmod

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/kup-project/kup/internal/kexec"
	"github.com/kup-project/kup/module"
)

// ErrUnfit says that a kernel would not take the module.
var ErrUnfit = errors.New("the module does not fit the kernel")

// Report says what was built.
type Report struct {
	Path     string   `json:"path"`
	Release  string   `json:"release"`  // of the kernel that the module is for
	VerMagic string   `json:"vermagic"` // what the module says about it
	Checked  []string `json:"checked"`  // functions that are not exported, and that this kernel has
	Notes    []string `json:"notes"`    // sentences on what could not be checked, and on what will be in the way
}

// Check tells whether a kernel will take a module that was built before, as far as that can be told. Its errors match ErrUnfit.
func Check(im *kexec.Image, built []byte) (*Report, error) {
	r, err := check(Options{Release: im.Version, kernel: im}, built)
	if err != nil && !errors.Is(err, ErrUnfit) {
		return nil, fmt.Errorf("%w: %w", ErrUnfit, err)
	}
	return r, err
}

// check tells whether the kernel will take a module. That what it exports fits, the build has checked.
func check(o Options, built []byte) (*Report, error) {
	file, err := elf.NewFile(bytes.NewReader(built))
	if err != nil {
		return nil, err
	}
	r := &Report{Release: o.Release, Checked: []string{}, Notes: []string{}}
	if r.VerMagic, err = verMagic(file); err != nil {
		return nil, err
	}
	if release, _, _ := strings.Cut(r.VerMagic, " "); release != o.Release {
		return nil, fmt.Errorf("%w: it is built with the headers of Linux %s, and the kernel is %s", ErrUnfit, release, o.Release)
	}
	config, err := os.ReadFile(filepath.Join(o.Headers, "include/config/auto.conf"))
	if err == nil && bytes.Contains(config, []byte("\nCONFIG_MODULE_SIG_FORCE=y\n")) {
		r.Notes = append(r.Notes, "this kernel takes signed modules only: sign this one with a key that the kernel trusts")
	}
	info, source, err := kernelTypes(o)
	if err != nil {
		r.Notes = append(r.Notes, fmt.Sprintf("whether Linux %s has all functions that the module looks up could not be checked: %v", o.Release, err))
		return r, nil
	}
	r.Checked, err = checkTypes(info, built)
	if err != nil {
		return nil, fmt.Errorf("%w: Linux %s, by %s: %w", ErrUnfit, o.Release, source, err)
	}
	return r, nil
}

// verMagic reads "vermagic=..." from a module's .modinfo section, a list of NUL-terminated strings.
func verMagic(file *elf.File) (string, error) {
	section := file.Section(".modinfo")
	if section == nil {
		return "", errors.New("the module has no .modinfo section")
	}
	info, err := section.Data()
	if err != nil {
		return "", err
	}
	for entry := range bytes.SplitSeq(info, []byte{0}) {
		if magic, ok := bytes.CutPrefix(entry, []byte("vermagic=")); ok {
			return strings.TrimSpace(string(magic)), nil
		}
	}
	return "", errors.New("the module does not say which kernel it is for")
}

// kernelTypes reads the kernel's description of itself, and says where it was.
func kernelTypes(o Options) (*typeInfo, string, error) {
	vmlinux, source, err := readVmlinux(o)
	if err != nil {
		return nil, "", err
	}
	file, err := elf.NewFile(bytes.NewReader(vmlinux))
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", source, err)
	}
	section := file.Section(".BTF")
	if section == nil {
		return nil, "", fmt.Errorf("%s has no description of its types (CONFIG_DEBUG_INFO_BTF)", source)
	}
	data, err := section.Data()
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", source, err)
	}
	info, err := parseBTF(data)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", source, err)
	}
	return info, source, nil
}

// readVmlinux unpacks the kernel, or takes what Debian has put beside the headers since 6.12.
func readVmlinux(o Options) (vmlinux []byte, source string, err error) {
	if o.Image == "" && o.kernel == nil {
		source = filepath.Join(o.Headers, "vmlinux")
		vmlinux, err = os.ReadFile(source)
		return vmlinux, source, err
	}
	im := o.kernel
	if im == nil {
		if im, err = kexec.Open(o.Image); err != nil {
			return nil, o.Image, err
		}
	}
	vmlinux, err = im.Vmlinux()
	return vmlinux, im.Path, err
}

// uffdFields are the fields of struct userfaultfd_ctx in kernels that do not tell modules of it; kup_frames.h has them, too.
var uffdFields = []string{
	"fault_pending_wqh", "fault_wqh", "fd_wqh", "event_wqh", "refile_seq", "refcount", "flags", "features", "released", "mmap_changing", "mm",
}

// checkTypes looks for each function that the module will look up, and returns their names.
func checkTypes(info *typeInfo, built []byte) ([]string, error) {
	names, err := lookedUp(built)
	if err != nil {
		return nil, err
	}
	var failed []error
	for _, name := range names {
		if !info.functions[name] {
			failed = append(failed, fmt.Errorf("it has no function %s", name))
		}
	}
	uffd := info.structs["userfaultfd_ctx"]
	if !slices.Contains(uffd, "map_changing_lock") && !slices.Equal(uffd, uffdFields) {
		failed = append(failed, fmt.Errorf("struct userfaultfd_ctx has changed: %s", strings.Join(uffd, ", ")))
	}
	return names, errors.Join(failed...)
}

var functionEntry = regexp.MustCompile(`\bX\((\w+)\)`)

// lookedUp returns the names in the list KUP_FUNCTIONS that the module has been built with.
func lookedUp(built []byte) ([]string, error) {
	header, err := module.Source.ReadFile(module.Name + "/kup_frames.h")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range functionEntry.FindAllSubmatch(header, -1) {
		if bytes.Contains(built, append(slices.Clone(m[1]), 0)) {
			names = append(names, string(m[1]))
		}
	}
	return names, nil
}
