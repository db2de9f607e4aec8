package vm

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/u-root/u-root/pkg/cpio"
)

// Initramfs describes a guest's root file system.
//
// A file has the size, mode, modification time (whole seconds) and owner root in every initramfs it is put into: for kup a
// mapped file under the next kernel must be the file that it was under the last one.
type Initramfs struct {
	Kernel Kernel
	// Init is the host's path of the program cmd/guest-init, see BuildInit.
	Init string
	// Programs are paths of programs, scripts or libraries on the host. They come to the same paths in the guest, with their
	// interpreter and all shared libraries. Busybox and its applets are always there, but a program here goes first.
	Programs []string
	// Files are single files: path in the guest -> path on the host.
	Files map[string]string
	// Texts are small files made up here: path in the guest -> content. They have mode 0644 and modification time 0.
	Texts map[string]string
	// Modules are names of kernel modules, loaded in this order with all that they depend on, after those of the agent; nil
	// means DefaultModules.
	Modules []string
}

const busybox = "/usr/bin/busybox"

// baseTexts are files that C libraries and servers look for. A user for each server lets it drop its rights.
var baseTexts = map[string]string{
	"/etc/passwd": "root:x:0:0:root:/root:/bin/sh\n" +
		"memcache:x:101:101::/nonexistent:/bin/false\n" +
		"redis:x:102:102::/nonexistent:/bin/false\n" +
		"nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
	"/etc/group":         "root:x:0:\ntty:x:5:\nmemcache:x:101:\nredis:x:102:\nnogroup:x:65534:\n",
	"/etc/hosts":         "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 kup-guest\n",
	"/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}

// Write makes the initramfs, an uncompressed newc archive: the kernel unpacks that fastest. The file appears when it is
// complete.
func (i Initramfs) Write(path string) error {
	t := newTree()
	for _, fill := range []func(*tree) error{i.addBase, i.addModules, i.addPrograms, addApplets} {
		if err := fill(t); err != nil {
			return fmt.Errorf("initramfs %s: %w", path, err)
		}
	}
	out, err := renameio.NewPendingFile(path)
	if err != nil {
		return err
	}
	defer out.Cleanup()
	buffered := bufio.NewWriterSize(out, 1<<20)
	archive := cpio.Newc.Writer(buffered)
	if err := t.write(archive); err != nil {
		return fmt.Errorf("initramfs %s: %w", path, err)
	}
	if err := errors.Join(cpio.WriteTrailer(archive), buffered.Flush()); err != nil {
		return fmt.Errorf("initramfs %s: %w", path, err)
	}
	return out.CloseAtomicallyReplace()
}

func (i Initramfs) addBase(t *tree) error {
	for _, dir := range []string{"usr/bin", "usr/sbin", "usr/lib", "usr/lib64"} {
		t.addDirectory(dir)
		t.addLink(strings.TrimPrefix(dir, "usr/"), dir)
	}
	for _, dir := range []string{"proc", "sys", "dev", "run", "tmp", "root", "data", "etc"} {
		t.addDirectory(dir)
	}
	t.add(cpio.CharDev("dev/console", 0o600, 5, 1)) // init's first standard output
	t.addLink("bin/network-up", "/init")
	if err := t.addFile("init", i.Init); err != nil {
		return err
	}
	if err := t.addFromHost(busybox); err != nil {
		return err
	}
	for path, text := range baseTexts {
		if _, own := i.Texts[path]; !own {
			t.addText(path, text)
		}
	}
	for path, text := range i.Texts {
		t.addText(path, text)
	}
	for guest, host := range i.Files {
		if err := t.addFile(guest, host); err != nil {
			return err
		}
	}
	return nil
}

func (i Initramfs) addModules(t *tree) error {
	wanted := i.Modules
	if wanted == nil {
		wanted = DefaultModules
	}
	available, err := openModuleTree(i.Kernel.Modules)
	if err != nil {
		return err
	}
	modules, err := available.resolve(slices.Concat(agentModules, wanted))
	if err != nil {
		return err
	}
	dir := "/lib/modules/" + i.Kernel.Release + "/"
	var list strings.Builder
	for _, m := range modules {
		t.addText(dir+m.path, string(m.content))
		fmt.Fprintln(&list, dir+m.path)
	}
	t.addText("/etc/kup-guest/modules", list.String())
	return available.addOptional(t, dir)
}

// addOptional adds modules that are loaded when somebody asks for them, and the list in which modprobe(8) looks for what they depend on.
func (m *moduleTree) addOptional(t *tree, dir string) error {
	var list strings.Builder
	for _, name := range OptionalModules {
		modules, err := m.resolve([]string{name})
		if err != nil {
			return err
		}
		if len(modules) == 0 {
			continue // built in
		}
		last := len(modules) - 1
		fmt.Fprintf(&list, "%s:", modules[last].path)
		for _, needed := range slices.Backward(modules[:last]) {
			fmt.Fprintf(&list, " %s", needed.path)
		}
		fmt.Fprintln(&list)
		for _, one := range modules {
			t.addText(dir+one.path, string(one.content))
		}
	}
	t.addText(dir+"modules.dep", list.String())
	return nil
}

func (i Initramfs) addPrograms(t *tree) error {
	needed, err := newLibraries()
	if err != nil {
		return err
	}
	for _, p := range i.Programs {
		if err := needed.add(p); err != nil {
			return err
		}
	}
	for _, path := range needed.found {
		if err := t.addFromHost(path); err != nil {
			return err
		}
	}
	return nil
}

// addApplets gives busybox's commands their names where nothing else has them.
func addApplets(t *tree) error {
	list, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("%s --list: %w; the package busybox-static brings it", busybox, err)
	}
	for name := range strings.FieldsSeq(string(list)) {
		if name != "busybox" && !t.has("usr/bin/"+name) && !t.has("usr/sbin/"+name) {
			t.addLink("usr/bin/"+name, "busybox")
		}
	}
	return nil
}

// WriteBootFiles copies a kernel and its initramfs into a folder that becomes a guest's disk, see CreateDisk, as
// boot/vmlinuz-RELEASE and boot/initrd-RELEASE, and gives their paths in the guest.
func WriteBootFiles(dir string, i Initramfs) (kernelPath, initrdPath string, err error) {
	if err := os.MkdirAll(dir+"/boot", 0o755); err != nil {
		return "", "", err
	}
	image, err := os.ReadFile(i.Kernel.Image)
	if err != nil {
		return "", "", err
	}
	kernelPath = "/boot/vmlinuz-" + i.Kernel.Release
	initrdPath = "/boot/initrd-" + i.Kernel.Release
	if err := os.WriteFile(dir+kernelPath, image, 0o644); err != nil {
		return "", "", err
	}
	if err := i.Write(dir + initrdPath); err != nil {
		return "", "", err
	}
	return DiskMount + kernelPath, DiskMount + initrdPath, nil
}
