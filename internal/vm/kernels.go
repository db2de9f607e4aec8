package vm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Kernel is an unpacked distribution kernel.
type Kernel struct {
	Release string // as uname -r says, for instance 6.1.0-56-cloud-amd64
	Image   string // the bzImage's path
	Modules string // the folder lib/modules/RELEASE
}

// ErrNoKernel matches the error of FindKernel when the set-up has not fetched a kernel.
var ErrNoKernel = errors.New("no such kernel")

// FindKernels lists the kernels that lie in a cache folder as DIR/RELEASE/{boot,lib/modules}, oldest first.
func FindKernels(cacheDir string) ([]Kernel, error) {
	images, err := filepath.Glob(filepath.Join(cacheDir, "*", "boot", "vmlinuz-*"))
	if err != nil {
		return nil, err
	}
	var found []Kernel
	for _, image := range images {
		release := strings.TrimPrefix(filepath.Base(image), "vmlinuz-")
		root := filepath.Dir(filepath.Dir(image))
		modules := filepath.Join(root, "lib", "modules", release)
		if _, err := os.Stat(modules); err != nil {
			return nil, fmt.Errorf("kernel %s has no modules: %w; remove %s and run `make setup`", release, err, root)
		}
		found = append(found, Kernel{Release: release, Image: image, Modules: modules})
	}
	slices.SortFunc(found, func(a, b Kernel) int { return compareReleases(a.Release, b.Release) })
	return found, nil
}

// FindKernel gives the newest kernel of a line in the repository's cache: "6.1" or "6.12" for Debian's cloud flavour, which `make setup` fetches, "6.1-generic" or
// "6.12-generic" for the generic one, which `scripts/setup.sh generic` does. The environment variable KUP_KERNELS names another cache folder.
func FindKernel(line string) (Kernel, error) {
	dir, err := cache("KUP_KERNELS", "kernels")
	if err != nil {
		return Kernel{}, err
	}
	version, remedy := line, "make setup"
	if v, is := strings.CutSuffix(line, "-generic"); is {
		version, remedy, dir = v, "scripts/setup.sh generic", filepath.Join(dir, "generic")
	}
	kernels, err := FindKernels(dir)
	if err != nil {
		return Kernel{}, err
	}
	for _, k := range slices.Backward(kernels) {
		if k.isOf(version) {
			return k, nil
		}
	}
	return Kernel{}, fmt.Errorf("%w: no Linux %s in %s; run `%s` to fetch it", ErrNoKernel, version, dir, remedy)
}

// isOf tells whether a kernel is of a line, as "6.1".
func (k Kernel) isOf(line string) bool {
	return strings.HasPrefix(k.Release, line+".") || strings.HasPrefix(k.Release, line+"-")
}

// FindHeaders gives the folder to build modules for a kernel with: what `make setup` has unpacked, or the environment variable KUP_HEADERS names.
func FindHeaders(k Kernel) (string, error) {
	dir, err := cache("KUP_HEADERS", "headers")
	if err != nil {
		return "", err
	}
	headers := filepath.Join(dir, k.Release, "usr", "src", "linux-headers-"+k.Release)
	if _, err := os.Stat(filepath.Join(headers, "Makefile")); err != nil {
		return "", fmt.Errorf("%w: no headers of Linux %s: %w; run `make setup` to fetch them", ErrNoKernel, k.Release, err)
	}
	return headers, nil
}

// cache is the folder that an environment variable names, or one in the repository's cache.
func cache(variable, name string) (string, error) {
	if dir := os.Getenv(variable); dir != "" {
		return dir, nil
	}
	root, err := repository()
	return filepath.Join(root, ".cache", name), err
}

// repository is the folder of this module's go.mod, from the working directory upwards.
func repository() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s is not inside the kup repository: no go.mod in it or above it", start)
		}
	}
}

// compareReleases orders kernel releases by their numbers, then by their text: 6.1.0-9 < 6.1.0-56 < 6.12.117.
func compareReleases(a, b string) int {
	numbers := func(s string) []int {
		var all []int
		for _, word := range strings.FieldsFunc(s, func(r rune) bool { return r < '0' || r > '9' }) {
			n, err := strconv.Atoi(word)
			if err != nil {
				break // too long for a number: no release looks so
			}
			all = append(all, n)
		}
		return all
	}
	if c := slices.Compare(numbers(a), numbers(b)); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}
