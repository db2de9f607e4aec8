// SPDX-License-Identifier: GPL-2.0
/* /dev/kup-frames: page frames that outlive the kernel. See kup_frames_uapi.h. */
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "kup_frames.h"

/* device_open is for root, even if somebody changes the mode of the file. */
static int device_open(struct inode *inode, struct file *file)
{
	return capable(CAP_SYS_ADMIN) ? 0 : -EPERM;
}

static long ioctl_preserve(void __user *arg)
{
	struct kup_frames_range r;

	if (copy_from_user(&r, arg, sizeof(r)))
		return -EFAULT;
	return preserved_add(r.start, r.length);
}

static long ioctl_bind(void __user *arg)
{
	struct kup_frames_bind b;
	long err;

	if (copy_from_user(&b, arg, sizeof(b)))
		return -EFAULT;
	err = bind_frames(&b);
	return copy_to_user(arg, &b, sizeof(b)) ? -EFAULT : err;
}

static long ioctl_free(void __user *arg)
{
	struct kup_frames_range r;
	long err;

	if (copy_from_user(&r, arg, sizeof(r)))
		return -EFAULT;
	r.freed = 0;
	err = preserved_free(r.start, r.length, &r.freed);
	if (!err)
		preserved_settle();
	return copy_to_user(arg, &r, sizeof(r)) ? -EFAULT : err;
}

static long device_ioctl(struct file *file, unsigned int command, unsigned long arg)
{
	void __user *p = (void __user *)arg;

	switch (command) {
	case KUP_FRAMES_PRESERVE:
		return ioctl_preserve(p);
	case KUP_FRAMES_BIND:
		return ioctl_bind(p);
	case KUP_FRAMES_FREE:
		return ioctl_free(p);
	}
	return -ENOTTY;
}

/* read_page reads within one frame, which nobody can bind or free meanwhile. */
static int read_page(char __user *to, size_t n, u64 from)
{
	unsigned long pfn = PHYS_PFN(from);
	struct preserved *r = preserved_find(pfn);
	int err;

	if (!r)
		return -ENXIO;
	err = preserved_claim(r, pfn);
	if (err)
		return err;
	if (copy_to_user(to, page_address(pfn_to_page(pfn)) + offset_in_page(from), n))
		err = -EFAULT;
	preserved_unclaim(r, pfn);
	return err;
}

static ssize_t device_read(struct file *file, char __user *to, size_t size, loff_t *at)
{
	size_t done = 0;

	while (done < size) {
		size_t n = min_t(size_t, size - done, PAGE_SIZE - offset_in_page(*at));
		int err = read_page(to + done, n, *at);

		if (err)
			return done ? done : err;
		done += n;
		*at += n;
		if (signal_pending(current))
			break;
		cond_resched();
	}
	return done;
}

static const struct file_operations device_operations = {
	.owner = THIS_MODULE,
	.open = device_open,
	.unlocked_ioctl = device_ioctl,
	.read = device_read,
	.llseek = default_llseek,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "kup-frames",
	.mode = 0600,
	.fops = &device_operations,
};

static int __init device_init(void)
{
	int err = kup_find_symbols();

	return err ? err : misc_register(&device);
}

static void __exit device_exit(void)
{
	misc_deregister(&device);
	preserved_forget();
}

module_init(device_init);
module_exit(device_exit);
MODULE_DESCRIPTION("Page frames that outlive the kernel");
MODULE_AUTHOR("The KUP project");
MODULE_LICENSE("GPL");
