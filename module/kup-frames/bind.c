// SPDX-License-Identifier: GPL-2.0
/*
 * Binding: a preserved frame becomes a page of anonymous memory, as if a process had just written to it for the first time.
 *
 * The pages are put into the page tables by what UFFDIO_COPY does it with, under the same locks and after the same checks (mm/userfaultfd.c).
 */
#include <linux/fs.h>
#include <linux/file.h>
#include <linux/magic.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "kup_frames.h"

/* How many pages are bound before the lock is let go, and how many runs are read at once. */
#define PAGES_AT_ONCE 512
#define RUNS_AT_ONCE (PAGE_SIZE / sizeof(struct kup_frames_run))

/* A target is the address space that frames are bound into. */
struct target {
	struct mm_struct *mm;
	struct file *file;		/* of the userfaultfd, if there is one */
	struct userfaultfd_ctx *uffd;
};

/* mm_of returns the address space of a process, which is not always known to its main thread: that may have ended before the others. */
static struct mm_struct *mm_of(struct pid *pid)
{
	struct task_struct *leader = get_pid_task(pid, PIDTYPE_TGID), *thread;
	struct mm_struct *mm = NULL;

	if (!leader)
		return NULL;
	rcu_read_lock();
	for_each_thread(leader, thread) {
		mm = get_task_mm(thread);
		if (mm)
			break;
	}
	rcu_read_unlock();
	put_task_struct(leader);
	return mm;
}

static int open_pidfd(struct target *t, int fd)
{
	unsigned int flags;
	struct pid *pid = static_call(kup_pidfd_get_pid)(fd, &flags);

	if (IS_ERR(pid))
		return PTR_ERR(pid);
	t->mm = mm_of(pid);
	put_pid(pid);
	return t->mm ? 0 : -ESRCH;
}

static bool is_userfaultfd(struct file *file)
{
	return file_inode(file)->i_sb->s_magic == ANON_INODE_FS_MAGIC && !strcmp(file->f_path.dentry->d_name.name, "[userfaultfd]");
}

static int open_userfaultfd(struct target *t, int fd)
{
	t->file = fget(fd);
	if (!t->file)
		return -EBADF;
	if (!is_userfaultfd(t->file))
		return -EINVAL;
	t->uffd = t->file->private_data;
	if (!mmget_not_zero(t->uffd->mm))
		return -ESRCH;
	t->mm = t->uffd->mm;
	return 0;
}

static void close_target(struct target *t)
{
	if (t->mm)
		mmput(t->mm);
	if (t->file)
		fput(t->file);
}

/* lock_target keeps mappings from changing. EAGAIN: they are just being changed, and whoever reads the userfaultfd's events does not know yet. */
static int lock_target(struct target *t)
{
	if (atomic_read(&t->mm->mm_users) == 1)
		return -ESRCH; /* only we are left */
	if (mmap_read_lock_killable(t->mm))
		return -EINTR;
	if (!t->uffd)
		return 0;
	KUP_LOCK_CHANGES(t->uffd);
	if (!atomic_read(&t->uffd->mmap_changing))
		return 0;
	KUP_UNLOCK_CHANGES(t->uffd);
	mmap_read_unlock(t->mm);
	return -EAGAIN;
}

static void unlock_target(struct target *t)
{
	if (t->uffd)
		KUP_UNLOCK_CHANGES(t->uffd);
	mmap_read_unlock(t->mm);
}

/* find_mapping returns the mapping at an address if frames can be bound there. */
static struct vm_area_struct *find_mapping(struct target *t, unsigned long address)
{
	struct vm_area_struct *vma = find_vma(t->mm, address);

	if (!vma || address < vma->vm_start)
		return ERR_PTR(-EFAULT);
	if (t->uffd && vma->vm_userfaultfd_ctx.ctx != t->uffd)
		return ERR_PTR(-ENOENT);
	if (!vma_is_anonymous(vma) || vma->vm_flags & (VM_SHARED | VM_HUGETLB | VM_SPECIAL))
		return ERR_PTR(-EOPNOTSUPP);
	if (!vma->anon_vma && static_call(kup___anon_vma_prepare)(vma))
		return ERR_PTR(-ENOMEM);
	return vma;
}

/* find_pmd is pmd_alloc() for all levels. NULL: no memory. */
static pmd_t *find_pmd(struct mm_struct *mm, unsigned long address)
{
	pgd_t *pgd = pgd_offset(mm, address);
	p4d_t *p4d;
	pud_t *pud;

#ifndef __PAGETABLE_P4D_FOLDED
	if (pgd_none(*pgd) && static_call(kup___p4d_alloc)(mm, pgd, address))
		return NULL;
#endif
	p4d = p4d_offset(pgd, address);
	if (p4d_none(*p4d) && static_call(kup___pud_alloc)(mm, p4d, address))
		return NULL;
	pud = pud_offset(p4d, address);
	if (pud_none(*pud) && static_call(kup___pmd_alloc)(mm, pud, address))
		return NULL;
	return pmd_offset(pud, address);
}

/* prepare_pmd makes sure that there is a page table, and no huge page. */
static int prepare_pmd(struct mm_struct *mm, pmd_t *pmd)
{
	pmd_t value = READ_ONCE(*pmd);

	if (pmd_none(value) && static_call(kup___pte_alloc)(mm, pmd))
		return -ENOMEM;
	value = READ_ONCE(*pmd);
	if (!pmd_present(value) || pmd_leaf(value))
		return -EEXIST;
	return pmd_bad(value) ? -EFAULT : 0;
}

/* charge charges the target's memory cgroup, and would rather fail than have somebody killed for lack of memory. */
static int charge(struct page *page, struct mm_struct *mm)
{
#ifdef CONFIG_MEMCG
	if (!mem_cgroup_disabled())
		return static_call(kup___mem_cgroup_charge)(page_folio(page), mm, GFP_KERNEL | __GFP_RETRY_MAYFAIL);
#endif
	return 0;
}

static void uncharge(struct page *page)
{
#ifdef CONFIG_MEMCG
	if (!mem_cgroup_disabled())
		static_call(kup___mem_cgroup_uncharge)(page_folio(page));
#endif
}

/* install makes a reserved page an anonymous one, or leaves it as it is. */
static int install(struct vm_area_struct *vma, unsigned long address, pmd_t *pmd, struct page *page)
{
	int err;

	ClearPageReserved(page);
	__folio_mark_uptodate(page_folio(page));
	err = charge(page, vma->vm_mm);
	if (err)
		goto reserve;
	do {
		err = prepare_pmd(vma->vm_mm, pmd);
		if (!err)
			err = kup_install(pmd, vma, address, page);
	} while (err == -EAGAIN); /* the page table was taken away in between */
	if (err)
		goto uncharge;
	adjust_managed_page_count(page, 1);
	return 0;

uncharge:
	uncharge(page);
reserve:
	folio_clear_uptodate(page_folio(page));
	SetPageReserved(page);
	return err;
}

/* A cursor remembers what neighbouring pages have in common, as long as the target is locked. */
struct cursor {
	struct vm_area_struct *vma;
	struct preserved *range;
	pmd_t *pmd;
	unsigned long pmd_of;	/* the address that pmd is for, rounded down */
};

static int move_cursor(struct cursor *c, struct target *t, unsigned long address, unsigned long pfn)
{
	if (!c->vma || address < c->vma->vm_start || address >= c->vma->vm_end) {
		struct vm_area_struct *vma = find_mapping(t, address);

		if (IS_ERR(vma))
			return PTR_ERR(vma);
		c->vma = vma;
	}
	if (!c->pmd || c->pmd_of != (address & PMD_MASK)) {
		c->pmd = find_pmd(t->mm, address);
		c->pmd_of = address & PMD_MASK;
		if (!c->pmd)
			return -ENOMEM;
	}
	if (!c->range || !preserved_has(c->range, pfn))
		c->range = preserved_find(pfn);
	return c->range ? 0 : -ENXIO;
}

static int bind_page(struct cursor *c, struct target *t, unsigned long address, unsigned long pfn)
{
	int err = move_cursor(c, t, address, pfn);

	if (err)
		return err;
	err = preserved_claim(c->range, pfn);
	if (err)
		return err;
	err = install(c->vma, address, c->pmd, pfn_to_page(pfn));
	if (err)
		preserved_unclaim(c->range, pfn);
	else
		preserved_took(c->range, 1);
	return err;
}

static bool well_formed(const struct kup_frames_run *run)
{
	return run->length && PAGE_ALIGNED(run->address) && PAGE_ALIGNED(run->start) && PAGE_ALIGNED(run->length) &&
	       run->address + run->length > run->address && run->start + run->length > run->start;
}

/* bind_some binds up to PAGES_AT_ONCE pages of runs, the first of which is number first, up to number end. The target is locked. */
static int bind_some(struct target *t, struct kup_frames_bind *b, const struct kup_frames_run *runs, u64 first, u64 end)
{
	struct cursor c = {};
	unsigned int n;

	for (n = 0; n < PAGES_AT_ONCE && b->run < end; n++) {
		const struct kup_frames_run *run = &runs[b->run - first];
		int err;

		if (!well_formed(run) || b->page >= PHYS_PFN(run->length))
			return -EINVAL;
		err = bind_page(&c, t, run->address + PFN_PHYS(b->page), PHYS_PFN(run->start) + b->page);
		if (err)
			return err;
		b->bound++;
		if (++b->page == PHYS_PFN(run->length)) {
			b->run++;
			b->page = 0;
		}
	}
	return 0;
}

/* bind_read binds runs that have been read; the first of them is the one to go on with. */
static int bind_read(struct target *t, struct kup_frames_bind *b, const struct kup_frames_run *runs, u64 n)
{
	u64 first = b->run, end = first + n;

	while (b->run < end) {
		int err = lock_target(t);

		if (err)
			return err;
		err = bind_some(t, b, runs, first, end);
		unlock_target(t);
		if (err)
			return err;
		if (signal_pending(current) && b->run < b->count)
			return -EINTR;
		cond_resched();
	}
	return 0;
}

static int bind_runs(struct target *t, struct kup_frames_bind *b)
{
	const struct kup_frames_run __user *from = u64_to_user_ptr(b->runs);
	struct kup_frames_run *runs = (void *)__get_free_page(GFP_KERNEL);
	int err = 0;

	if (!runs)
		return -ENOMEM;
	while (!err && b->run < b->count) {
		u64 n = min_t(u64, b->count - b->run, RUNS_AT_ONCE);

		if (copy_from_user(runs, from + b->run, n * sizeof(*runs)))
			err = -EFAULT;
		else
			err = bind_read(t, b, runs, n);
	}
	free_page((unsigned long)runs);
	return err;
}

/* bind_frames is KUP_FRAMES_BIND. */
long bind_frames(struct kup_frames_bind *b)
{
	struct target t = {};
	int err;

	b->bound = 0;
	if (b->flags & ~KUP_FRAMES_UFFD || b->run > b->count || b->count > U32_MAX)
		return -EINVAL;
	err = b->flags & KUP_FRAMES_UFFD ? open_userfaultfd(&t, b->fd) : open_pidfd(&t, b->fd);
	if (!err)
		err = bind_runs(&t, b);
	close_target(&t);
	return err;
}
