package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/kexec"
)

// expect is an error if err is not the wanted one.
func expect(what string, err, want error) error {
	if !errors.Is(err, want) {
		return fmt.Errorf("%s: %v instead of %v", what, err, want)
	}
	return nil
}

func (t *taker) refuseUnknown() error {
	first := t.Blocks[0]
	_, err := t.binder.ReadAt(make([]byte, page), int64(first.Start))
	return errors.Join(
		expect("binding before it is preserved", t.bindOne(t.tenant.at, t.pages[0]), kernel.ENXIO),
		expect("reading before it is preserved", err, kernel.ENXIO),
		expect("memory of this kernel", t.binder.Preserve(kexec.Ranges{{Start: 16 << 20, End: 32 << 20}}), kernel.ENXIO),
		expect("more than was reserved", t.binder.Preserve(kexec.Ranges{{Start: first.Start - page, End: first.End}}), kernel.ENXIO),
		expect("no whole pages", t.binder.Preserve(kexec.Ranges{{Start: first.Start + 1, End: first.End}}), kernel.EINVAL),
	)
}

// refuseDamaged tells the kernel of an error in the memory of a frame; Documentation/ABI/testing/sysfs-memory-page-offline.
func (t *taker) refuseDamaged() error {
	damaged := t.spare[6]
	file := memory + "hard_offline_page"
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		fmt.Println("note: this kernel does not follow errors of memory")
		return nil
	}
	// The answer is about what the kernel could do, and it can do nothing for reserved memory.
	_ = os.WriteFile(file, fmt.Appendf(nil, "%#x", damaged), 0)
	return errors.Join(
		expect("binding it", t.bindOne(t.tenant.at, damaged), kernel.EIO),
		expect("binding it again", t.bindOne(t.tenant.at, damaged), kernel.EBUSY))
}

func (t *taker) refuse() error {
	n, f := t.tenant, t.pages[0]
	return errors.Join(
		expect("a frame of this kernel", t.bindOne(n.at, 16<<20), kernel.ENXIO),
		expect("no mapping", t.bindOne(n.at+uint64(len(t.pages))*page, f), kernel.EFAULT),
		expect("an address of the kernel's", t.bindOne(0xffff888000000000, f), kernel.EFAULT),
		expect("a shared mapping", t.bindOne(n.shared, f), kernel.EOPNOTSUPP),
		expect("a file's mapping", t.bindOne(n.file, f), kernel.EOPNOTSUPP),
		expect("a page that is there", t.bindOne(n.full, f), kernel.EEXIST),
		expect("no whole page", t.bindOne(n.at+8, f), kernel.EINVAL),
		expect("no userfaultfd", func() error {
			_, err := t.binder.BindWatched(n.pidfd, []frames.Binding{{Address: n.at, Start: f, Length: page}})
			return err
		}(), kernel.EINVAL),
	)
}

// refuseFull binds until the tenant's memory cgroup is full.
func (t *taker) refuseFull() error {
	const limit, swap = group + "/memory.max", group + "/memory.swap.max"
	if err := errors.Join(os.WriteFile(swap, []byte("0"), 0), os.WriteFile(limit, []byte("8M"), 0)); err != nil {
		return err
	}
	runs := t.runs()
	bound, err := t.binder.Bind(t.tenant.pidfd, runs)
	if err := expect(fmt.Sprintf("%d pages", bound), err, kernel.ENOMEM); err != nil {
		return err
	}
	fmt.Printf("%d of %d pages were bound before the limit\n", bound, len(t.pages))
	if _, err := t.binder.ReadAt(make([]byte, page), int64(t.pages[len(t.pages)-1])); err != nil {
		return err
	}
	t.pages = t.pages[bound:]
	t.tenant.at += bound * page
	return errors.Join(os.WriteFile(swap, []byte("max"), 0), os.WriteFile(limit, []byte("max"), 0))
}

func (t *taker) refuseBound() error {
	last := t.tenant.at + uint64(len(t.pages)-1)*page
	err := expect("a page that is there", t.bindOne(last, t.spare[4]), kernel.EEXIST)
	return errors.Join(err,
		expect("a frame that is bound", t.bindOne(t.tenant.full, t.pages[0]), kernel.EBUSY),
		expect("blocks that are known", t.binder.Preserve(t.Blocks[:1]), kernel.EEXIST))
}

func (t *taker) refuseFreed() error {
	_, err := t.binder.ReadAt(make([]byte, page), int64(t.spare[5]))
	return errors.Join(
		expect("binding a frame that was freed", t.bindOne(t.tenant.full, t.spare[5]), kernel.EBUSY),
		expect("reading it", err, kernel.EBUSY))
}
