/*
 * Readahead. A miss through a mapping reads a window around it, since programs and libraries are
 * touched in clusters; a miss right behind the last window is a sequential reader, whose windows
 * grow and are started early: the first page of a window's last part carries a marker, and
 * whoever meets it starts the next window.
 */
#include "guest/include/counters.h"
#include "guest/include/errno.h"
#include "guest/include/fs.h"
#include "guest/include/mm.h"

#define READ_AROUND 32 /* pages */
#define WINDOW_MAX  64
#define MISS_LIMIT  100 /* misses that outnumber hits by this end reading around */
#define NO_MARKER   (~0UL)

/* A block of at most n frames, each with a reference; its size in *got, 0 without memory. */
static struct page *alloc_run(u64 n, u64 *got)
{
	unsigned order = 0;

	while (order < MAX_ORDER && 2UL << order <= n)
		order++;
	for (;; order--) {
		struct page *page = alloc_pages(order, 0);

		*got = page ? 1UL << order : 0;
		if (page)
			split_pages(page);
		if (page || !order)
			return page;
	}
}

/* Starts reads from index on until a page is there already; returns how far it came. */
static u64 read_run(struct address_space *as, u64 index, u64 n, u64 marker)
{
	struct page *batch[WINDOW_MAX];
	u64 got, added, fill = 0;

	n = MIN(n, (u64)WINDOW_MAX);
	/* Frames in one piece are one piece of the transfer. */
	while (fill < n) {
		struct page *run = alloc_run(n - fill, &got);

		for (u64 i = 0; i < got; i++) {
			run[i].flags = PG_LOCKED;
			batch[fill + i] = &run[i];
		}
		if (marker - index - fill < got)
			run[marker - index - fill].flags |= PG_READAHEAD;
		added = filemap_add(as, run, index + fill, got);
		fill += added;
		for (u64 i = added; i < got; i++) {
			run[i].flags = 0;
			put_page(&run[i]);
		}
		if (added < got || !got)
			break;
	}
	/* Locked pages stay in the cache, whose reference is the only one. */
	if (fill)
		as->ops->read_pages(as->host, index, batch, (unsigned)fill);
	return fill;
}

/* How many pages from index on are absent (absent) or there, at most n. */
static u64 count_run(struct address_space *as, u64 index, u64 n, bool absent)
{
	u64 irq = spin_lock_irqsave(&as->lock);
	u64 done = 0, part, i;

	while (done < n) {
		struct page **slots = filemap_slots(as, index + done, n - done, &part);

		for (i = 0; i < part && (slots && slots[i]) != absent; i++)
			;
		done += i;
		if (i < part)
			break;
	}
	spin_unlock_irqrestore(&as->lock, irq);
	return done;
}

u64 start_read(struct address_space *as, u64 index, u64 n, u64 marker)
{
	u64 end = (as->host->size + PAGE_SIZE - 1) >> PAGE_SHIFT;
	u64 total = 0;

	if (index >= end)
		return 0;
	end = index + MIN(n, end - index);
	while (index < end) {
		u64 run, done;

		index += count_run(as, index, end - index, false);
		run = count_run(as, index, MIN(end - index, (u64)WINDOW_MAX), true);
		done = run ? read_run(as, index, run, marker) : 0;
		if (!done)
			break;
		index += done;
		total += done;
	}
	return total;
}

static void start_window(struct address_space *as, struct readahead *ra)
{
	u64 marker = ra->async_size ? ra->start + ra->size - ra->async_size : NO_MARKER;

	fault_counters.readahead_pages += start_read(as, ra->start, ra->size, marker);
}

void sync_readahead(struct address_space *as, struct readahead *ra, u64 index, unsigned flags)
{
	bool sequential = (flags & VM_SEQ_READ) || (ra->size && index == ra->start + ra->size);

	if (flags & VM_RAND_READ) {
		start_read(as, index, 1, NO_MARKER);
		return;
	}
	if (sequential) {
		ra->start = index;
		ra->size = MIN(MAX(ra->size * 2, (u64)READ_AROUND), (u64)WINDOW_MAX);
		ra->async_size = ra->size / 2;
		start_window(as, ra);
		return;
	}
	if (ra->misses < 2 * MISS_LIMIT)
		ra->misses++;
	if (ra->misses > MISS_LIMIT) {
		start_read(as, index, 1, NO_MARKER);
		return;
	}
	ra->start = index > READ_AROUND / 2 ? index - READ_AROUND / 2 : 0;
	ra->size = READ_AROUND;
	ra->async_size = READ_AROUND / 4;
	start_window(as, ra);
}

void async_readahead(struct address_space *as, struct readahead *ra, struct page *page)
{
	__atomic_fetch_and(&page->flags, ~PG_READAHEAD, __ATOMIC_RELAXED);
	/* Another mapping's marker says nothing about this one's window, but its end is near. */
	if (page->index < ra->start || page->index >= ra->start + ra->size) {
		ra->start = page->index;
		ra->size = READ_AROUND;
	} else {
		ra->start += ra->size;
		ra->size = MIN(ra->size * 2, (u64)WINDOW_MAX);
	}
	ra->async_size = ra->size;
	start_window(as, ra);
}
