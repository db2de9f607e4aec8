/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * What /dev/kup-frames understands; internal/kernel/frames.go has the same in Go.
 *
 * Preserved memory is RAM that the boot loader (kup, by kexec) had reserved with a setup_data entry of type SETUP_INDIRECT whose own type is
 * KUP_FRAMES_SETUP_TYPE. All addresses and lengths are in bytes and multiples of 4096.
 *
 * read(2) of the device, at an offset that is a physical address, gives the contents of preserved memory that has neither been bound nor freed.
 */
#ifndef KUP_FRAMES_UAPI_H
#define KUP_FRAMES_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define KUP_FRAMES_SETUP_TYPE	0x804b5550u	/* SETUP_INDIRECT | "KUP" */

/*
 * KUP_FRAMES_PRESERVE says that there is preserved memory in a range, which lies in one entry of setup_data.
 * Errors: EINVAL, malformed; ENXIO, not reserved for us; EEXIST, said before; EBUSY, a page is in use, so that it cannot have been preserved. Not all
 * pages are looked at here: one that is in use gives EIO when it is to be bound.
 */
struct kup_frames_range {
	__u64 start;	/* physical */
	__u64 length;
	__u64 freed;	/* out, KUP_FRAMES_FREE: pages */
};

/* A run of page frames that follow each other, and where it goes. */
struct kup_frames_run {
	__u64 address;	/* virtual */
	__u64 start;	/* physical */
	__u64 length;
};

/*
 * KUP_FRAMES_BIND makes preserved page frames ordinary anonymous memory of a process, in private anonymous mappings, where no page is yet. It stops at
 * the first frame for which this is not possible, and at signals: in each case the fields below say how far it came, and the same structure goes on there.
 *
 * The process is given by a pidfd. With KUP_FRAMES_UFFD, it is given by a userfaultfd, which must watch all of the mappings. Whoever waits for the
 * pages is not woken, see UFFDIO_WAKE.
 *
 * Errors: EINVAL, malformed; ENXIO, the frame was not preserved; EBUSY, it has been bound or freed; EIO, its memory is damaged; EFAULT, no such mapping; EOPNOTSUPP, the mapping is
 * not private anonymous memory; EEXIST, a page is there; ENOENT, the userfaultfd does not watch the mapping; EAGAIN, the userfaultfd has events that must
 * be read first; ENOMEM, no memory for page tables or over the limit of the memory cgroup; ESRCH, the process has ended; EINTR, a signal.
 */
struct kup_frames_bind {
	__s32 fd;
	__u32 flags;
	__u64 runs;	/* pointer to struct kup_frames_run */
	__u64 count;	/* of runs */
	__u64 run;	/* in, out: the run to go on with */
	__u64 page;	/* in, out: the page in it */
	__u64 bound;	/* out: pages that this call has bound */
};

#define KUP_FRAMES_UFFD		1u

/*
 * KUP_FRAMES_FREE hands those frames of a range, which may span several preserved ones, to the page allocator that have not been bound, and that no other
 * call is just binding or reading. EINTR: a signal came first; the same call frees the rest.
 */

#define KUP_FRAMES_PRESERVE	_IOW('K', 0xf0, struct kup_frames_range)
#define KUP_FRAMES_BIND		_IOWR('K', 0xf1, struct kup_frames_bind)
#define KUP_FRAMES_FREE		_IOWR('K', 0xf2, struct kup_frames_range)

#endif
