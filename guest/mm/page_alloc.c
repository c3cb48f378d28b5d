/*
 * The page allocator: buddies of 1 to 512 frames.
 *
 * RAM that was never handed out is described by a few ranges, not by free lists: a monitor brings
 * each page in when it is first touched, so listing free memory would cost what laziness saves.
 * When the lists run dry, the next 2 MiB of a range become one block. Splitting a block writes
 * the struct page of each half's first frame, and only those are ever read as a buddy's. Single
 * frames go through a stack in front of the lists, so that frames in use are used again before
 * fresh ones.
 */
#include "guest/abi.h"
#include "guest/include/boot.h"
#include "guest/include/hugetlb.h"
#include "guest/include/mm_init.h"
#include "guest/include/page.h"
#include "guest/include/printk.h"
#include "guest/include/spinlock.h"
#include "guest/include/string.h"
#include "guest/include/swap.h"

struct fresh_range {
	u64 next, end; /* frame numbers */
};

#define HOT_ORDER 5 /* blocks that refill the stack of single frames */

struct page *mem_map;
u64 max_pfn;

static struct spinlock lock; /* all below */
static struct list free_lists[MAX_ORDER + 1];
static struct fresh_range fresh[BOOT_MEMMAP_MAX + 4];
static unsigned nr_fresh;
static u64 free_pages, total_pages;
static struct page *hot; /* free single frames, linked by page.private */
static unsigned nr_hot;

static void add_free(struct page *page, unsigned order)
{
	page->flags = PG_BUDDY;
	page->order = order;
	list_add(&page->lru, &free_lists[order]);
}

/* The largest aligned block at the range's start goes to the lists. */
static bool take_fresh(void)
{
	for (; nr_fresh; nr_fresh--) {
		struct fresh_range *r = &fresh[nr_fresh - 1];
		unsigned order = MAX_ORDER;

		if (r->next == r->end)
			continue;
		while (!IS_ALIGNED(r->next, 1UL << order) || r->end - r->next < 1UL << order)
			order--;
		add_free(pfn_to_page(r->next), order);
		r->next += 1UL << order;
		return true;
	}
	return false;
}

/* Merges the block with its free buddies and lists the result. */
static void free_block(struct page *page, unsigned order)
{
	u64 pfn = page_to_pfn(page);

	for (; order < MAX_ORDER; order++) {
		struct page *buddy = pfn_to_page(pfn ^ 1UL << order);

		if (!(buddy->flags & PG_BUDDY) || buddy->order != order)
			break;
		list_del(&buddy->lru);
		buddy->flags = 0;
		pfn &= ~(1UL << order);
	}
	add_free(pfn_to_page(pfn), order);
}

/* The stack's frames go back to the lists, where they merge. False if there were none. */
static bool drain_hot(void)
{
	bool any = hot;

	while (hot) {
		struct page *page = hot;

		hot = (struct page *)page->private;
		free_block(page, 0);
	}
	nr_hot = 0;
	return any;
}

static struct page *take_listed(unsigned order)
{
	for (unsigned o = order; o <= MAX_ORDER; o++) {
		struct page *page;

		if (list_empty(&free_lists[o]))
			continue;
		page = list_entry(free_lists[o].next, struct page, lru);
		list_del(&page->lru);
		while (o > order) {
			o--;
			add_free(page + (1UL << o), o);
		}
		return page;
	}
	return NULL;
}

/* From the lists; from what single frames merge to, if they are many; from fresh RAM; from any. */
static struct page *take_block(unsigned order)
{
	struct page *page = take_listed(order);

	if (!page && nr_hot >= 4U << order && drain_hot())
		page = take_listed(order);
	while (!page && take_fresh())
		page = take_listed(order);
	if (!page && drain_hot())
		page = take_listed(order);
	return page;
}

static void push_hot(struct page *page)
{
	page->private = (u64)hot;
	hot = page;
	nr_hot++;
}

/* Single frames come from a stack, the one freed last first, and it is refilled by the block. */
static struct page *take_hot(void)
{
	struct page *page = hot;

	if (likely(page)) {
		hot = (struct page *)page->private;
		nr_hot--;
		return page;
	}
	page = take_block(HOT_ORDER);
	if (!page)
		return take_block(0);
	for (unsigned i = 1U << HOT_ORDER; --i;) {
		page[i].flags = 0;
		push_hot(&page[i]);
	}
	return page;
}

static void init_page(struct page *page, unsigned order)
{
	page->flags = 0;
	page->refcount = 1;
	page->mapcount = 0;
	page->order = order;
	page->mapping = NULL;
}

struct page *alloc_pages(unsigned order, unsigned flags)
{
	struct page *page;
	u64 irq;

	BUG_ON(order > MAX_ORDER);
	irq = spin_lock_irqsave(&lock);
	page = order ? take_block(order) : take_hot();
	if (likely(page))
		free_pages -= 1UL << order;
	spin_unlock_irqrestore(&lock, irq);
	if (unlikely(!page))
		return NULL;
	init_page(page, order);
	if (flags & GFP_ZERO)
		for (unsigned i = 0; i < 1U << order; i++)
			clear_page(page_kva(page + i));
	return page;
}

void split_pages(struct page *page)
{
	for (unsigned i = 0, n = 1U << page->order; i < n; i++)
		init_page(page + i, 0);
}

void put_page(struct page *page)
{
	s32 left;
	u64 irq;

	page = compound_head(page);
	left = __atomic_sub_fetch(&page->refcount, 1, __ATOMIC_ACQ_REL);
	if (left > 0)
		return;
	if (page->flags & PG_HUGETLB) {
		hugetlb_page_free(page);
		return;
	}
	if (page->flags & PG_ANON)
		anon_page_free(page);
	BUG_ON(left < 0 || page->mapcount || (page->flags & (PG_RESERVED | PG_LOCKED | PG_BUDDY)));
	if (unlikely(page->flags & PG_HWPOISON))
		return; /* nobody gets it again */
	irq = spin_lock_irqsave(&lock);
	free_pages += 1UL << page->order;
	if (page->order)
		free_block(page, page->order);
	else
		push_hot(page);
	spin_unlock_irqrestore(&lock, irq);
}

/* --- boot ------------------------------------------------------------------------------------ */

extern char kernel_start[];

/* The start of RAM that is used: below lie the loader's structures and a PC's holes. */
#define FIRST_RAM 0x100000UL

static struct {
	u64 start, end;
} reserved[3];
static unsigned nr_reserved;

static void reserve(u64 start, u64 end)
{
	reserved[nr_reserved].start = ALIGN_DOWN(start, PAGE_SIZE);
	reserved[nr_reserved++].end = ALIGN_UP(end, PAGE_SIZE);
}

/*
 * Frames just outside a range are buddies of its first and last blocks, but never become blocks
 * themselves: say so in their struct page.
 */
static void mark_edges(u64 start, u64 end)
{
	u64 pfn;

	for (pfn = start; pfn < end && !IS_ALIGNED(pfn, 1UL << MAX_ORDER); pfn += pfn & -pfn)
		pfn_to_page(pfn ^ (pfn & -pfn))->flags = 0;
	for (pfn = end; pfn > start && !IS_ALIGNED(pfn, 1UL << MAX_ORDER); pfn -= pfn & -pfn)
		pfn_to_page(pfn)->flags = 0;
}

/* What is not reserved of [start, end), in bytes, from reservation i on. */
static void add_fresh(u64 start, u64 end, unsigned i)
{
	for (; i < nr_reserved; i++) {
		if (reserved[i].start >= end || reserved[i].end <= start)
			continue;
		if (reserved[i].start > start)
			add_fresh(start, reserved[i].start, i + 1);
		start = MIN(end, reserved[i].end);
	}
	start = ALIGN_UP(start, PAGE_SIZE) >> PAGE_SHIFT;
	end >>= PAGE_SHIFT;
	if (start >= end)
		return;
	BUG_ON(nr_fresh == ARRAY_SIZE(fresh));
	mark_edges(start, end);
	fresh[nr_fresh++] = (struct fresh_range){start, end};
	free_pages += end - start;
}

/* Room for mem_map in RAM, clear of what is reserved so far. */
static u64 find_room(u64 size)
{
	for (u32 i = 0; i < boot_info.nr_ranges; i++) {
		const struct boot_range *r = &boot_info.ranges[i];
		u64 start = ALIGN_UP(MAX(r->start, FIRST_RAM), PAGE_SIZE);

		if (r->type != FOAL_MEMMAP_RAM)
			continue;
		for (unsigned k = 0; k < 2 * nr_reserved; k++) {
			const unsigned j = k % nr_reserved;

			if (start < reserved[j].end && start + size > reserved[j].start)
				start = reserved[j].end;
		}
		if (start < r->start + r->len && size <= r->start + r->len - start)
			return start;
	}
	panic("memory map: no %lu KiB for the page array", size >> 10);
}

void page_alloc_init(void)
{
	u64 size, start;

	for (unsigned o = 0; o <= MAX_ORDER; o++)
		list_init(&free_lists[o]);
	reserve(virt_to_phys(kernel_start), early_alloc_end());
	if (boot_info.initrd_len)
		reserve(boot_info.initrd, boot_info.initrd + boot_info.initrd_len);
	for (u32 i = 0; i < boot_info.nr_ranges; i++) {
		const struct boot_range *r = &boot_info.ranges[i];

		if (r->type == FOAL_MEMMAP_RAM)
			max_pfn = MAX(max_pfn, (r->start + r->len) >> PAGE_SHIFT);
	}
	/* Never touched as a whole: the part for RAM that is not used stays as absent as that. */
	size = ALIGN_UP(max_pfn, 1UL << MAX_ORDER) * sizeof(struct page);
	start = find_room(size);
	mem_map = phys_to_virt(start);
	reserve(start, start + size);
	for (u32 i = 0; i < boot_info.nr_ranges; i++) {
		const struct boot_range *r = &boot_info.ranges[i];

		if (r->type == FOAL_MEMMAP_RAM && r->start + r->len > FIRST_RAM)
			add_fresh(MAX(r->start, FIRST_RAM), r->start + r->len, 0);
	}
	total_pages = free_pages;
	pr_info("memory: %lu MiB free\n", free_pages >> (20 - PAGE_SHIFT));
}

u64 nr_free_pages(void)
{
	return free_pages;
}

u64 nr_total_pages(void)
{
	return total_pages;
}
