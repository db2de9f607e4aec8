// SPDX-License-Identifier: GPL-2.0
/*
 * Page frames that the kernel before has left to us, and which of them are still to be had.
 *
 * Ranges are only added, never taken away, so that they can be looked at without a lock. A frame is claimed by whoever clears its bit.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/io.h>
#include <linux/memory_hotplug.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/rculist.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <asm/setup.h>

#include "kup_frames.h"

struct preserved {
	struct list_head node;
	unsigned long first;		/* pfn */
	unsigned long pages;
	atomic_long_t left;		/* neither bound nor freed; the module cannot be unloaded before that is 0 */
	unsigned long *unclaimed;	/* a bit for each page */
};

static LIST_HEAD(ranges);
static DEFINE_MUTEX(adding);

/* holds_range tells whether an entry of setup_data reserves a range for us. */
static bool holds_range(const struct setup_data *entry, u64 start, u64 length)
{
	const struct setup_indirect *indirect = (const void *)entry->data;

	return entry->type == SETUP_INDIRECT && entry->len >= sizeof(*indirect) && indirect->type == KUP_FRAMES_SETUP_TYPE &&
	       start >= indirect->addr && length <= indirect->len && start - indirect->addr <= indirect->len - length;
}

/* check_reserved makes sure that the kernel has reserved a range, all its life, for us and nobody else. */
static int check_reserved(u64 start, u64 length)
{
	u64 at = kup_boot_params->hdr.setup_data;

	while (at) {
		struct setup_data *entry = memremap(at, sizeof(*entry) + sizeof(struct setup_indirect), MEMREMAP_WB);
		bool held;

		if (!entry)
			return -ENOMEM;
		held = holds_range(entry, start, length);
		at = entry->next;
		memunmap(entry);
		if (held)
			return 0;
	}
	return -ENXIO;
}

/* untouched tells whether a page is as the boot has left it. */
static bool untouched(struct page *page)
{
	struct folio *folio = page_folio(page);

	return PageReserved(page) && &folio->page == page && folio_ref_count(folio) == 1 && !folio->mapping && !folio_test_lru(folio);
}

/* So many frames, at a multiple of that, are online together (include/linux/mmzone.h, PAGES_PER_SUBSECTION), and freed as one if all are unclaimed: 2 MB. */
#define BLOCK 512UL
#define BLOCK_ORDER 9

/* check_pages looks at one page of each block, for that has to be done before applications run; whoever claims a page looks at it again. */
static int check_pages(const struct preserved *r)
{
	unsigned long pfn;

	for (pfn = r->first; pfn < r->first + r->pages; pfn = ALIGN(pfn + 1, BLOCK)) {
		struct page *page = pfn_to_online_page(pfn);

		if (!page || !untouched(page))
			return -EBUSY;
		cond_resched();
	}
	return 0;
}

static bool overlaps(const struct preserved *r)
{
	struct preserved *other;

	list_for_each_entry(other, &ranges, node)
		if (r->first < other->first + other->pages && other->first < r->first + r->pages)
			return true;
	return false;
}

static int check(const struct preserved *r)
{
	int err = check_reserved(PFN_PHYS(r->first), PFN_PHYS(r->pages));

	if (err)
		return err;
	if (overlaps(r))
		return -EEXIST;
	return check_pages(r);
}

/*
 * make_movable tells the page allocator that pages are for what can be moved, as the boot does with memory that nobody has reserved (mm/mm_init.c, deferred_free_range);
 * of what is reserved it says nothing, and that means "unmovable". The kernel's own pages would be all over, and no memory could be taken offline for the next update.
 */
static void make_movable(const struct preserved *r)
{
	unsigned long end = r->first + r->pages, pfn;

	for (pfn = pageblock_align(r->first); pfn + pageblock_nr_pages <= end; pfn += pageblock_nr_pages)
		static_call(kup_set_pageblock_migratetype)(pfn_to_page(pfn), MIGRATE_MOVABLE);
}

/* publish makes a range that was checked known to everybody. */
static int publish(struct preserved *r)
{
	r->unclaimed = kvcalloc(BITS_TO_LONGS(r->pages), sizeof(long), GFP_KERNEL);
	if (!r->unclaimed)
		return -ENOMEM;
	make_movable(r);
	bitmap_fill(r->unclaimed, r->pages);
	atomic_long_set(&r->left, r->pages);
	__module_get(THIS_MODULE);
	list_add_tail_rcu(&r->node, &ranges);
	return 0;
}

/* preserved_add is KUP_FRAMES_PRESERVE. */
int preserved_add(u64 start, u64 length)
{
	struct preserved *r;
	u64 end;
	int err;

	if (!length || !PAGE_ALIGNED(start) || !PAGE_ALIGNED(length) || check_add_overflow(start, length, &end))
		return -EINVAL;
	r = kzalloc(sizeof(*r), GFP_KERNEL);
	if (!r)
		return -ENOMEM;
	r->first = PHYS_PFN(start);
	r->pages = PHYS_PFN(length);
	mutex_lock(&adding);
	err = check(r);
	if (!err)
		err = publish(r);
	mutex_unlock(&adding);
	if (err)
		kfree(r);
	return err;
}

bool preserved_has(const struct preserved *r, unsigned long pfn)
{
	return pfn >= r->first && pfn - r->first < r->pages;
}

/* preserved_find returns the range that a frame is in, or NULL. */
struct preserved *preserved_find(unsigned long pfn)
{
	struct preserved *r;

	list_for_each_entry_lockless(r, &ranges, node)
		if (preserved_has(r, pfn))
			return r;
	return NULL;
}

/*
 * preserved_claim makes a frame the caller's, who says in the end that he took it, or gives it up. EBUSY: it is somebody else's; EIO: its memory is damaged, or
 * somebody holds it who should not, and so it is nobody's any more.
 */
int preserved_claim(struct preserved *r, unsigned long pfn)
{
	if (!test_and_clear_bit(pfn - r->first, r->unclaimed))
		return -EBUSY;
	if (untouched(pfn_to_page(pfn)) && !PageHWPoison(pfn_to_page(pfn)))
		return 0;
	pr_warn("page frame %#lx is damaged, or in use\n", pfn);
	preserved_took(r, 1);
	return -EIO;
}

void preserved_unclaim(struct preserved *r, unsigned long pfn)
{
	smp_mb__before_atomic();
	set_bit(pfn - r->first, r->unclaimed);
}

/* preserved_took: n frames that were claimed are ordinary ones now. */
void preserved_took(struct preserved *r, unsigned long n)
{
	if (atomic_long_sub_and_test(n, &r->left))
		module_put(THIS_MODULE);
}

static bool claim_block(struct preserved *r, unsigned long first)
{
	unsigned long at = first - r->first, n;

	if (find_next_zero_bit(r->unclaimed, at + BLOCK, at) < at + BLOCK)
		return false;
	for (n = 0; n < BLOCK; n++) {
		if (!preserved_claim(r, first + n))
			continue;
		while (n--)
			preserved_unclaim(r, first + n);
		return false;
	}
	return true;
}

/* free_block frees the frames of a block, as the boot does with memory that nobody has reserved (mm/page_alloc.c, __free_pages_core). */
static void free_block(unsigned long first)
{
	struct page *page = pfn_to_page(first);
	unsigned long n;

	for (n = 0; n < BLOCK; n++) {
		ClearPageReserved(page + n);
		set_page_count(page + n, n == 0);
	}
	__free_pages(page, BLOCK_ORDER);
	adjust_managed_page_count(page, BLOCK);
}

/* free_some frees one unclaimed frame, or the block that begins with it and ends before end, and returns how many these were. */
static unsigned long free_some(struct preserved *r, unsigned long pfn, unsigned long end)
{
	if (IS_ALIGNED(pfn, BLOCK) && end - pfn >= BLOCK && claim_block(r, pfn)) {
		free_block(pfn);
		return BLOCK;
	}
	if (preserved_claim(r, pfn))
		return 0;
	free_reserved_page(pfn_to_page(pfn));
	return 1;
}

/* free_within frees the unclaimed frames of [first, end), which is in r. */
static int free_within(struct preserved *r, unsigned long first, unsigned long end, u64 *freed)
{
	unsigned long at = first - r->first, before = *freed;

	for (;;) {
		unsigned long n;

		at = find_next_bit(r->unclaimed, end - r->first, at);
		if (at >= end - r->first)
			return 0;
		n = free_some(r, r->first + at, end);
		at += max(n, 1UL);
		if (!n)
			continue;
		preserved_took(r, n);
		*freed += n;
		if (*freed - before < 4 * BLOCK)
			continue;
		if (signal_pending(current))
			return -EINTR;
		cond_resched();
		before = *freed;
	}
}

/* preserved_free is KUP_FRAMES_FREE. */
int preserved_free(u64 start, u64 length, u64 *freed)
{
	unsigned long first = PHYS_PFN(start), end;
	struct preserved *r;
	u64 last;

	if (!PAGE_ALIGNED(start) || !PAGE_ALIGNED(length) || check_add_overflow(start, length, &last))
		return -EINVAL;
	end = PHYS_PFN(last);
	list_for_each_entry_lockless(r, &ranges, node) {
		unsigned long from = max(first, r->first), to = min(end, r->first + r->pages);
		int err;

		if (from >= to)
			continue;
		err = free_within(r, from, to, freed);
		if (err)
			return err;
	}
	return 0;
}

/* preserved_settle makes the kernel count anew how much memory it has and should keep free, as when memory was brought online. */
void preserved_settle(void)
{
#ifdef CONFIG_MEMORY_HOTPLUG
	static_call(kup_init_per_zone_wmark_min)();
#endif
}

/* preserved_forget frees the list, not the frames, when the module is unloaded. */
void preserved_forget(void)
{
	struct preserved *r, *next;

	list_for_each_entry_safe(r, next, &ranges, node) {
		kvfree(r->unclaimed);
		kfree(r);
	}
}
