package kmod

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/kup-project/kup/internal/kexec"
	"github.com/kup-project/kup/module"
)

// Options say what to build.
type Options struct {
	Release string // of the kernel that the module is for, as uname -r will print it
	Image   string // path of that kernel's bzImage, "": its functions are not checked
	Headers string // folder of its headers
	Out     string // where the module goes

	kernel *kexec.Image // Image, if it was opened before
}

// Build builds the module, checks it and puts it into place. Nothing is left behind but o.Out. The error of a failing compiler has its last lines.
func Build(ctx context.Context, o Options) (*Report, error) {
	if err := checkHeaders(o.Headers); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "kup-module-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := WriteSource(dir); err != nil {
		return nil, err
	}
	if err := compile(ctx, o.Headers, dir); err != nil {
		return nil, err
	}
	built, err := os.ReadFile(filepath.Join(dir, module.Name+".ko"))
	if err != nil {
		return nil, err
	}
	report, err := check(o, built)
	if err != nil {
		return nil, err
	}
	report.Path = o.Out
	return report, renameio.WriteFile(o.Out, built, 0o644)
}

// ErrNoHeaders says that a folder does not have the headers of a kernel.
var ErrNoHeaders = errors.New("no kernel headers to build modules with")

func checkHeaders(dir string) error {
	for _, name := range []string{"Makefile", "Module.symvers"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("%w: %w; on Debian, package linux-headers-RELEASE has them in /usr/src/linux-headers-RELEASE", ErrNoHeaders, err)
		}
	}
	return nil
}

// WriteSource writes the module's source into a folder, which may be there. No file is overwritten.
func WriteSource(dir string) error {
	source, err := fs.Sub(module.Source, module.Name)
	if err != nil {
		return err
	}
	return os.CopyFS(dir, source)
}

// compile builds a module in a folder. Descriptions for debuggers are left out: they need a program, pahole, that may not be there.
func compile(ctx context.Context, headers, dir string) error {
	headers, err := filepath.Abs(headers)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "make", "-C", headers, "M="+dir, "CONFIG_DEBUG_INFO=", "CONFIG_DEBUG_INFO_BTF_MODULES=", "modules")
	text, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%w; install make, and the compiler that the kernel was built with", err)
	}
	if err != nil {
		return fmt.Errorf("the module cannot be built with the headers in %s: %w:\n%s", headers, err, lastLines(string(text), 15))
	}
	return nil
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
