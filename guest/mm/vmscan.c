/*
 * Reclaim: when memory runs low, clean pages of the page cache are given back, and processes' own
 * pages are swapped out (lru.c). The pages of each file are gone through in a circle; one that a
 * mapping used since the last time round stays, until own pages were asked for, too.
 */
#include "guest/include/counters.h"
#include "guest/include/filemap.h"
#include "guest/include/huge.h"
#include "guest/include/mm.h"
#include "guest/include/smp_lock.h"
#include "guest/include/swap.h"

#define SCAN_BATCH     32
#define KERNEL_RESERVE 32 /* pages: to read what a program needs to end, and to swap */

static struct list caches = {&caches, &caches}; /* those with pages, by address_space.cached */
static u64 fruitless; /* free pages when a scan last found nothing; 0: it found some */

void reclaim_add_cache(struct address_space *as)
{
	if (list_empty(&as->cached))
		list_add_tail(&as->cached, &caches);
}

/* The caller has a reference, and drops it: if this was true, the last. */
static bool reclaim_page(struct page *page)
{
	bool freed = false;

	if (!trylock_page(page))
		return false;
	/* Users beside the cache, the mappings and the caller are at work on it. */
	if (!(page->flags & PG_DIRTY) && page->refcount == page->mapcount + 2 &&
	    !page_referenced(page)) {
		page_unmap(page);
		freed = filemap_remove(page);
	}
	unlock_page(page);
	return freed;
}

/* Once round the file, from where the last scan ended. */
static u64 scan_cache(struct address_space *as, u64 want)
{
	struct page *pages[SCAN_BATCH];
	u64 freed = 0, left = as->nr_pages;
	bool wrapped = false;

	while (left && freed < want) {
		unsigned n =
		    filemap_next_pages(as, &as->hand, pages, (unsigned)MIN(left, (u64)SCAN_BATCH));

		if (!n && wrapped)
			break;
		if (!n) {
			as->hand = 0;
			wrapped = true;
		}
		for (unsigned i = 0; i < n; i++) {
			freed += reclaim_page(pages[i]);
			put_page(pages[i]);
		}
		left -= n;
	}
	return freed;
}

static u64 scan_caches(u64 want)
{
	struct address_space *as;
	u64 freed = 0;

	list_for_each(as, &caches, cached)
	{
		freed += scan_cache(as, want - freed);
		if (freed >= want)
			break;
	}
	fault_counters.reclaimed += freed;
	return freed;
}

u64 reclaim_pages(u64 want)
{
	u64 freed = huge_zero_shrink();

	/* The first round takes the accessed bits, the second the pages. */
	if (freed < want)
		freed += scan_caches(want - freed);
	if (freed < want)
		freed += shrink_groups(want - freed);
	if (freed < want)
		freed += scan_caches(want - freed);
	return freed;
}

bool may_alloc_user_pages(u64 n)
{
	return nr_free_pages() >= KERNEL_RESERVE + n;
}

void reclaim_if_low(void)
{
	const u64 low = MIN(MAX(nr_total_pages() / 64, 64UL), 1024UL);
	u64 free = nr_free_pages();

	/* After a scan in vain, the next is worth it once half of what was free then is gone. */
	if (likely(free >= low) || (fruitless && free > fruitless / 2))
		return;
	lock_kernel();
	fruitless = reclaim_pages(2 * low - free) ? 0 : free;
	unlock_kernel();
}
