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

static void submit(struct address_space *as, u64 index, struct page **pages, unsigned n)
{
	if (!n)
		return;
	as->ops->read_pages(as->host, index, pages, n);
	/* The cache has its own references; these were the submitter's. */
	for (unsigned i = 0; i < n; i++)
		put_page(pages[i]);
}

void start_read(struct address_space *as, u64 index, u64 n, u64 marker)
{
	u64 end = (as->host->size + PAGE_SIZE - 1) >> PAGE_SHIFT;
	struct page *batch[WINDOW_MAX];
	u64 first = index;
	unsigned fill = 0;

	if (index >= end)
		return;
	end = MIN(end, index + n);
	for (; index < end; index++) {
		struct page *page = alloc_page(0);
		int err;

		if (!page)
			break;
		page->flags = PG_LOCKED | (index == marker ? PG_READAHEAD : 0);
		err = filemap_add(as, page, index);
		if (!err) {
			if (!fill)
				first = index;
			batch[fill++] = page;
		} else {
			page->flags = 0;
			put_page(page);
		}
		/* A page that is there already ends the batch; no memory ends it all. */
		if (err || fill == WINDOW_MAX) {
			submit(as, first, batch, fill);
			fill = 0;
		}
		if (err == -ENOMEM)
			return;
	}
	submit(as, first, batch, fill);
}

static void start_window(struct address_space *as, struct readahead *ra)
{
	start_read(as, ra->start, ra->size,
		   ra->async_size ? ra->start + ra->size - ra->async_size : NO_MARKER);
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
	fault_counters.readahead_pages += ra->size;
	start_window(as, ra);
}
