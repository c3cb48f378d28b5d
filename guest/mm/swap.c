/* The swap area: its slots, the pages in memory that have one, and the way between the two. */
#include "guest/include/swap.h"
#include "guest/include/filemap.h"
#include "guest/include/printk.h"
#include "guest/include/sched.h"
#include "guest/include/string.h"

#define SLOTS_MAX  ((PAGE_SIZE << MAX_ORDER) / sizeof(struct slot)) /* 512 MiB */
#define SLOT_SHIFT (PAGE_SHIFT - SECTOR_SHIFT)

/* The first page of an area, as mkswap writes it. */
struct swap_header {
	u8 boot[1024];
	u32 version, last_page, nr_badpages;
	u8 unused[4096 - 1024 - 12 - 10];
	char magic[10];
};
_Static_assert(sizeof(struct swap_header) == PAGE_SIZE, "the header is a page");

/* One page of the area. */
struct slot {
	struct page *page; /* in the cache; the cache holds a reference */
	u32 count;	   /* entries that name it */
};

static struct {
	struct spinlock lock; /* all below, and page.private of the cache's */
	struct block_device *bdev;
	struct slot *slots;
	u64 nr, nr_free; /* slot 0 is the header and never free */
	u64 next; /* where the search goes on, so that pages that leave together lie together */
} area;

/* --- input and output ------------------------------------------------------------------------ */

struct swap_io {
	struct bio bio;
	struct wait_queue wait;
	bool ended;
};

static void io_done(struct bio *bio)
{
	struct swap_io *io = bio->private;

	WRITE_ONCE(io->ended, true);
	wake_up(&io->wait);
}

/* Transfers n pages from or to consecutive slots and waits. */
static int transfer(struct block_device *bdev, u64 slot, struct page **pages, unsigned n,
		    bool write)
{
	struct swap_io io;

	/* Not all of it: the pieces are many, and what is not used need not be cleared. */
	io.ended = false;
	wait_queue_init(&io.wait);
	io.bio.status = 0;
	io.bio.next = NULL;
	io.bio.parts = 0;
	io.bio.sector = slot << SLOT_SHIFT;
	io.bio.write = write;
	io.bio.done = io_done;
	io.bio.private = &io;
	io.bio.nr_vecs = n;
	for (unsigned i = 0; i < n; i++) {
		io.bio.vecs[i].phys = page_phys(pages[i]);
		io.bio.vecs[i].len = PAGE_SIZE;
	}
	blkdev_submit(bdev, &io.bio);
	wait_event(io.wait, READ_ONCE(io.ended));
	return io.bio.status;
}

int swap_read(struct page **pages, unsigned n)
{
	return transfer(area.bdev, pages[0]->private, pages, n, false);
}

int swap_write(struct page **pages, unsigned n)
{
	int err = 0;

	for (unsigned i = 0, run; i < n && !err; i += run) {
		for (run = 1; i + run < n && pages[i + run]->private == pages[i]->private + run;)
			run++;
		err = transfer(area.bdev, pages[i]->private, pages + i, run, true);
	}
	return err;
}

/* --- slots; area.lock held ------------------------------------------------------------------- */

static bool slot_free(const struct slot *s)
{
	return !s->page && !s->count;
}

static void cache_remove(struct page *page)
{
	struct slot *s = &area.slots[page->private];

	__atomic_fetch_and(&page->flags, ~(u32)PG_SWAPCACHE, __ATOMIC_RELAXED);
	s->page = NULL;
	area.nr_free += slot_free(s);
}

static void cache_insert(struct page *page, u64 slot)
{
	area.slots[slot].page = page;
	get_page(page);
	page->private = slot;
	__atomic_fetch_or(&page->flags, PG_SWAPCACHE, __ATOMIC_RELAXED);
}

/* --- the cache ------------------------------------------------------------------------------- */

void swap_dup(u64 slot)
{
	spin_lock(&area.lock);
	area.slots[slot].count++;
	spin_unlock(&area.lock);
}

void swap_put(u64 slot)
{
	struct slot *s = &area.slots[slot];
	struct page *unused = NULL;

	spin_lock(&area.lock);
	BUG_ON(!s->count);
	if (!--s->count) {
		/* Whoever has it locked looks himself when he is done. */
		if (!s->page)
			area.nr_free++;
		else if (trylock_page(s->page))
			unused = s->page;
		if (unused)
			cache_remove(unused);
	}
	spin_unlock(&area.lock);
	if (unused) {
		unlock_page(unused);
		put_page(unused);
	}
}

bool swap_cache_add_page(struct page *page)
{
	bool found = false;

	spin_lock(&area.lock);
	for (u64 left = area.nr; area.nr_free && left && !found; left--) {
		area.next = area.next + 1 < area.nr ? area.next + 1 : 1;
		found = slot_free(&area.slots[area.next]);
	}
	if (found) {
		cache_insert(page, area.next);
		area.nr_free--;
	}
	spin_unlock(&area.lock);
	return found;
}

bool swap_cache_add_slot(struct page *page, u64 slot)
{
	struct slot *s = &area.slots[slot];
	bool wanted;

	spin_lock(&area.lock);
	wanted = s->count && !s->page;
	if (wanted)
		cache_insert(page, slot);
	spin_unlock(&area.lock);
	return wanted;
}

bool slot_wanted(u64 slot)
{
	bool wanted;

	spin_lock(&area.lock);
	wanted = slot < area.nr && area.slots[slot].count && !area.slots[slot].page;
	spin_unlock(&area.lock);
	return wanted;
}

struct page *swap_cache_get(u64 slot)
{
	struct page *page;

	spin_lock(&area.lock);
	page = area.slots[slot].page;
	if (page)
		get_page(page);
	spin_unlock(&area.lock);
	return page;
}

bool swap_cache_drop(struct page *page, bool if_alone)
{
	bool drop;

	spin_lock(&area.lock);
	/* The caller and the cache have it, and nobody finds it any more to want it. */
	drop = (page->flags & PG_SWAPCACHE) &&
	       (!area.slots[page->private].count || (if_alone && page->refcount == 2));
	if (drop)
		cache_remove(page);
	spin_unlock(&area.lock);
	if (drop)
		put_page(page);
	return drop;
}

/* --- on and off ------------------------------------------------------------------------------ */

u64 nr_swap_slots(void)
{
	return area.nr ? area.nr - 1 : 0;
}

u64 nr_free_slots(void)
{
	return area.nr_free;
}

/* How many pages the area has, its header counted, or negative errno. */
static s64 read_header(struct block_device *bdev)
{
	struct page *page = alloc_page(GFP_ZERO);
	const struct swap_header *h;
	s64 ret;

	if (!page)
		return -ENOMEM;
	h = page_kva(page);
	ret = transfer(bdev, 0, &page, 1, false);
	if (!ret && (memcmp(h->magic, "SWAPSPACE2", 10) != 0 || h->version != 1 || h->nr_badpages ||
		     h->last_page < 1 || h->last_page >= bdev->sectors >> SLOT_SHIFT))
		ret = -EINVAL;
	if (!ret)
		ret = (s64)MIN((u64)h->last_page + 1, SLOTS_MAX);
	put_page(page);
	return ret;
}

int swap_on(struct block_device *bdev)
{
	struct slot *slots;
	s64 nr;

	if (bdev->read_only)
		return -EROFS;
	nr = read_header(bdev);
	if (nr < 0)
		return (int)nr;
	slots = kzalloc((u64)nr * sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	spin_lock(&area.lock);
	if (!area.bdev) {
		area.bdev = bdev;
		area.slots = slots;
		area.nr = (u64)nr;
		area.nr_free = (u64)nr - 1;
		area.next = 0;
		slots = NULL;
	}
	spin_unlock(&area.lock);
	kfree(slots);
	if (!slots)
		pr_info("swap: %lu MiB on %s\n", (u64)nr >> (20 - PAGE_SHIFT), bdev->name);
	return slots ? -EBUSY : 0;
}

int swap_off(void)
{
	struct slot *slots = NULL;
	int err = 0;

	spin_lock(&area.lock);
	if (!area.bdev) {
		err = -EINVAL;
	} else if (area.nr_free != area.nr - 1) {
		err = -EBUSY;
	} else {
		slots = area.slots;
		area.bdev = NULL;
		area.slots = NULL;
		area.nr = area.nr_free = 0;
	}
	spin_unlock(&area.lock);
	kfree(slots);
	return err;
}
