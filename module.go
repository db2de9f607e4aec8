package kup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kup-project/kup/internal/kexec"
	"github.com/kup-project/kup/internal/kmod"
)

// ModuleOptions say for which kernel kup's module is to be built.
type ModuleOptions struct {
	Kernel  string // path of a bzImage, or a release, as uname -r prints it
	Headers string // folder of its headers; empty: where distributions put them
	Out     string // path of the module; empty: kup-frames-RELEASE.ko
}

// ModuleReport says what was built.
type ModuleReport = kmod.Report

// BuildModule builds the module that makes page frames that have outlived a kernel memory of applications again, for the kernel that comes next. It checks that this
// kernel will take it, as far as that can be told beforehand.
func BuildModule(ctx context.Context, o ModuleOptions) (*ModuleReport, error) {
	image, release, err := findKernel(o.Kernel)
	if err != nil {
		return nil, err
	}
	if o.Headers == "" {
		o.Headers = "/usr/src/linux-headers-" + release
		if build := filepath.Join("/lib/modules", release, "build"); exists(build) {
			o.Headers = build
		}
	}
	if o.Out == "" {
		o.Out = "kup-frames-" + release + ".ko"
	}
	return kmod.Build(ctx, kmod.Options{Release: release, Image: image, Headers: o.Headers, Out: o.Out})
}

// WriteModuleSource writes the source of the module into a folder, for those who build it by other means: it has a dkms.conf.
func WriteModuleSource(dir string) error { return kmod.WriteSource(dir) }

// findKernel returns the image and the release of the kernel that a user names by either.
func findKernel(name string) (image, release string, err error) {
	if strings.Contains(name, "/") || exists(name) {
		im, err := kexec.Open(name)
		if err != nil {
			return "", "", err
		}
		if im.Version == "" {
			return "", "", fmt.Errorf("%s does not tell its version; name the kernel by its release instead", name)
		}
		return name, im.Version, nil
	}
	if installed := "/boot/vmlinuz-" + name; exists(installed) {
		image = installed
	}
	return image, name, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
