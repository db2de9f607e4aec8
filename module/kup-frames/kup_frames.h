/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUP_FRAMES_H
#define KUP_FRAMES_H

#include <linux/kallsyms.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/page-isolation.h>
#include <linux/pid.h>
#include <linux/rmap.h>
#include <linux/static_call.h>
#include <linux/userfaultfd_k.h>
#include <linux/version.h>

#include "kup_frames_uapi.h"

/*
 * Functions of the kernel that it does not export, each called by static_call(kup_NAME). A pointer would not do: with CONFIG_X86_KERNEL_IBT, functions that
 * nobody in the kernel has a pointer to cannot be called through one. `kup module build` looks for this list.
 */
#ifdef __PAGETABLE_P4D_FOLDED
#define KUP_P4D_FUNCTION(X)
#else
#define KUP_P4D_FUNCTION(X) X(__p4d_alloc)
#endif
#ifdef CONFIG_MEMCG
#define KUP_MEMCG_FUNCTIONS(X) X(__mem_cgroup_charge) X(__mem_cgroup_uncharge)
#else
#define KUP_MEMCG_FUNCTIONS(X)
#endif
#ifdef CONFIG_MEMORY_HOTPLUG /* else it is gone after the boot */
#define KUP_HOTPLUG_FUNCTION(X) X(init_per_zone_wmark_min)
int init_per_zone_wmark_min(void);
#else
#define KUP_HOTPLUG_FUNCTION(X)
#endif
#define KUP_FUNCTIONS(X) \
	X(mfill_atomic_install_pte) \
	X(__anon_vma_prepare) \
	KUP_P4D_FUNCTION(X) X(__pud_alloc) X(__pmd_alloc) X(__pte_alloc) \
	KUP_MEMCG_FUNCTIONS(X) \
	KUP_HOTPLUG_FUNCTION(X) \
	X(set_pageblock_migratetype) \
	X(pidfd_get_pid)

#define KUP_DECLARE(name) DECLARE_STATIC_CALL(kup_##name, name);
KUP_FUNCTIONS(KUP_DECLARE)

/* symbols.c */
extern const struct boot_params *kup_boot_params;
int kup_find_symbols(void);

/* preserved.c: page frames that the kernel before has left to us. */
struct preserved;
int preserved_add(u64 start, u64 length);
struct preserved *preserved_find(unsigned long pfn);
bool preserved_has(const struct preserved *r, unsigned long pfn);
int preserved_claim(struct preserved *r, unsigned long pfn);
void preserved_unclaim(struct preserved *r, unsigned long pfn);
void preserved_took(struct preserved *r, unsigned long n);
int preserved_free(u64 start, u64 length, u64 *freed);
void preserved_settle(void);
void preserved_forget(void);

/* bind.c */
long bind_frames(struct kup_frames_bind *b);

/*
 * What the kernel keeps for a userfaultfd was private to fs/userfaultfd.c until 6.9, and did not change from 5.17 to then. All fields down to mm are here.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 9, 0)
struct userfaultfd_ctx {
	wait_queue_head_t fault_pending_wqh;
	wait_queue_head_t fault_wqh;
	wait_queue_head_t fd_wqh;
	wait_queue_head_t event_wqh;
	seqcount_spinlock_t refile_seq;
	refcount_t refcount;
	unsigned int flags;
	unsigned int features;
	bool released;
	atomic_t mmap_changing;
	struct mm_struct *mm;
};
#define KUP_LOCK_CHANGES(ctx)
#define KUP_UNLOCK_CHANGES(ctx)
#else
#define KUP_LOCK_CHANGES(ctx) down_read(&(ctx)->map_changing_lock)
#define KUP_UNLOCK_CHANGES(ctx) up_read(&(ctx)->map_changing_lock)
#endif

/* mfill_atomic_install_pte() took other parameters until 6.4. */
static inline int kup_install(pmd_t *pmd, struct vm_area_struct *vma, unsigned long address, struct page *page)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
	return static_call(kup_mfill_atomic_install_pte)(vma->vm_mm, pmd, vma, address, page, true, false);
#else
	return static_call(kup_mfill_atomic_install_pte)(pmd, vma, address, page, true, 0);
#endif
}

#endif
