/*
 * The page cache: a radix tree of pages for each file, page locks, reading a page, and writing
 * dirty ones back.
 */
#include "guest/include/filemap.h"
#include "guest/include/errno.h"
#include "guest/include/fs.h"
#include "guest/include/mm.h"
#include "guest/include/printk.h"
#include "guest/include/sched.h"
#include "guest/include/string.h"

#define NODE_SHIFT  6
#define NODE_SLOTS  (1U << NODE_SHIFT)
#define WRITE_BATCH 32

struct node {
	void *slots[NODE_SLOTS]; /* nodes, in the lowest level pages */
};

/* Who waits for a page's lock: by hash, so that struct page needs no queue. */
#define WAIT_TABLE 16
static struct wait_queue page_waits[WAIT_TABLE];

void filemap_init(void)
{
	for (unsigned i = 0; i < WAIT_TABLE; i++)
		wait_queue_init(&page_waits[i]);
}

static struct wait_queue *page_wait(const struct page *page)
{
	return &page_waits[page_to_pfn(page) % WAIT_TABLE];
}

/* --- page locks ------------------------------------------------------------------------------ */

bool trylock_page(struct page *page)
{
	return !(__atomic_fetch_or(&page->flags, PG_LOCKED, __ATOMIC_ACQUIRE) & PG_LOCKED);
}

void lock_page(struct page *page)
{
	wait_event(*page_wait(page), trylock_page(page));
}

void unlock_page(struct page *page)
{
	__atomic_fetch_and(&page->flags, ~PG_LOCKED, __ATOMIC_RELEASE);
	wake_up(page_wait(page));
}

void wait_on_page_locked(struct page *page)
{
	wait_event(*page_wait(page), !(READ_ONCE(page->flags) & PG_LOCKED));
}

void page_end_read(struct page *page, int error)
{
	/* One is set, the other is not: both change at once. */
	__atomic_fetch_xor(&page->flags, PG_LOCKED | (error ? PG_ERROR : PG_UPTODATE),
			   __ATOMIC_RELEASE);
	wake_up(page_wait(page));
}

/* --- the tree; as->lock held ----------------------------------------------------------------- */

void address_space_init(struct address_space *as, struct inode *host,
			const struct address_space_ops *ops)
{
	*as = (struct address_space){.host = host, .ops = ops};
	list_init(&as->dirty);
	list_init(&as->mappings);
	list_init(&as->cached);
}

static bool tree_covers(const struct address_space *as, u64 index)
{
	return as->height &&
	       (as->height * NODE_SHIFT >= 64 || index >> as->height * NODE_SHIFT == 0);
}

struct page **filemap_slots(struct address_space *as, u64 index, u64 max, u64 *n)
{
	u64 slot = index & (NODE_SLOTS - 1);
	struct node *node = as->root;

	*n = max;
	if (!tree_covers(as, index))
		return NULL;
	for (u32 shift = (as->height - 1) * NODE_SHIFT; shift; shift -= NODE_SHIFT) {
		node = node->slots[index >> shift & (NODE_SLOTS - 1)];
		if (!node) {
			*n = MIN(max, (1UL << shift) - (index & ((1UL << shift) - 1)));
			return NULL;
		}
	}
	*n = MIN(max, NODE_SLOTS - slot);
	return (struct page **)&node->slots[slot];
}

/* The slot of index, with all nodes on the way; NULL without memory. */
static void **tree_slot(struct address_space *as, u64 index)
{
	struct node *node;

	while (!tree_covers(as, index)) {
		node = kzalloc(sizeof(*node));
		if (!node)
			return NULL;
		node->slots[0] = as->root;
		as->root = node;
		as->height++;
	}
	node = as->root;
	for (u32 shift = (as->height - 1) * NODE_SHIFT; shift; shift -= NODE_SHIFT) {
		void **slot = &node->slots[index >> shift & (NODE_SLOTS - 1)];

		if (!*slot)
			*slot = kzalloc(sizeof(*node));
		node = *slot;
		if (!node)
			return NULL;
	}
	return &node->slots[index & (NODE_SLOTS - 1)];
}

static void tree_free(struct node *node, u32 level)
{
	for (unsigned i = 0; i < NODE_SLOTS; i++) {
		if (!node->slots[i])
			continue;
		if (level) {
			tree_free(node->slots[i], level - 1);
		} else {
			struct page *page = node->slots[i];

			/* It may still be read ahead. */
			wait_on_page_locked(page);
			page->mapping = NULL;
			put_page(page);
		}
	}
	kfree(node);
}

/* --- the cache ------------------------------------------------------------------------------- */

struct page *find_get_page(struct address_space *as, u64 index)
{
	u64 irq = spin_lock_irqsave(&as->lock);
	struct page **slot, *page = NULL;
	u64 n;

	slot = filemap_slots(as, index, 1, &n);
	if (slot)
		page = *slot;
	if (page)
		get_page(page);
	spin_unlock_irqrestore(&as->lock, irq);
	return page;
}

u64 filemap_add(struct address_space *as, struct page *pages, u64 index, u64 n)
{
	u64 irq = spin_lock_irqsave(&as->lock);
	u64 i = 0;

	/* Pages without a place to come back from stay. */
	if (as->ops)
		reclaim_add_cache(as);
	while (i < n) {
		void **slot = tree_slot(as, index + i);
		u64 end = MIN(n, i + NODE_SLOTS - ((index + i) & (NODE_SLOTS - 1)));

		for (; slot && i < end && !*slot; i++, slot++) {
			pages[i].mapping = as;
			pages[i].index = index + i;
			*slot = &pages[i];
		}
		if (i < end)
			break;
	}
	as->nr_pages += i;
	spin_unlock_irqrestore(&as->lock, irq);
	return i;
}

unsigned filemap_next_pages(struct address_space *as, u64 *index, struct page **pages, unsigned max)
{
	u64 irq = spin_lock_irqsave(&as->lock);
	unsigned found = 0;

	while (found < max && tree_covers(as, *index)) {
		u64 n, i;
		struct page **slots = filemap_slots(as, *index, ~*index, &n);

		for (i = 0; slots && i < n && found < max; i++) {
			if (!slots[i])
				continue;
			get_page(slots[i]);
			pages[found++] = slots[i];
		}
		*index += slots ? i : n;
	}
	spin_unlock_irqrestore(&as->lock, irq);
	return found;
}

bool filemap_remove(struct page *page)
{
	struct address_space *as = page->mapping;
	u64 irq = spin_lock_irqsave(&as->lock);
	bool alone = page->refcount == 2 && !(page->flags & PG_DIRTY);
	u64 n;

	if (alone) {
		*filemap_slots(as, page->index, 1, &n) = NULL;
		page->mapping = NULL;
		as->nr_pages--;
	}
	spin_unlock_irqrestore(&as->lock, irq);
	if (alone)
		put_page(page);
	return alone;
}

void filemap_drop(struct page *page)
{
	struct address_space *as = page->mapping;
	u64 irq, n;

	if (!as)
		return;
	irq = spin_lock_irqsave(&as->lock);
	if (__atomic_fetch_and(&page->flags, ~(u32)PG_DIRTY, __ATOMIC_RELAXED) & PG_DIRTY)
		list_del(&page->lru);
	*filemap_slots(as, page->index, 1, &n) = NULL;
	page->mapping = NULL;
	as->nr_pages--;
	spin_unlock_irqrestore(&as->lock, irq);
	put_page(page);
}

int add_zeroed_page(struct address_space *as, u64 index, struct page **out)
{
	struct page *page = alloc_page(GFP_ZERO);

	if (!page)
		return -ENOMEM;
	page->flags |= PG_UPTODATE;
	get_page(page);
	if (filemap_add(as, page, index, 1)) {
		*out = page;
		return 0;
	}
	page->flags = 0;
	put_page(page);
	put_page(page);
	return -ENOMEM;
}

void filemap_release(struct address_space *as)
{
	BUG_ON(!list_empty(&as->mappings));
	if (!list_empty(&as->dirty))
		printk("inode %lu: changed pages could not be written and are lost\n",
		       as->host->ino);
	while (!list_empty(&as->dirty))
		list_del(as->dirty.next);
	list_del(&as->cached);
	if (as->height)
		tree_free(as->root, as->height - 1);
	as->root = NULL;
	as->height = 0;
	as->nr_pages = 0;
}

/* A page whose read failed is read once more, unless another task has done so meanwhile. */
static void read_again(struct address_space *as, struct page *page)
{
	lock_page(page);
	if (!(page->flags & PG_ERROR)) {
		unlock_page(page);
		return;
	}
	__atomic_fetch_and(&page->flags, ~(u32)PG_ERROR, __ATOMIC_RELAXED);
	as->ops->read_pages(as->host, page->index, &page, 1);
}

int read_cache_page(struct address_space *as, u64 index, struct page **out)
{
	struct page *page;

	if (index >= (as->host->size + PAGE_SIZE - 1) >> PAGE_SHIFT)
		return -ERANGE;
	/* Twice: readahead's errors are not final, an own read's are. */
	for (int attempt = 0; attempt < 2; attempt++) {
		page = find_get_page(as, index);
		if (!page) {
			start_read(as, index, 1, ~0UL);
			page = find_get_page(as, index);
		} else if (READ_ONCE(page->flags) & PG_ERROR) {
			read_again(as, page);
		}
		if (!page)
			return -ENOMEM;
		wait_on_page_locked(page);
		if (READ_ONCE(page->flags) & PG_UPTODATE) {
			*out = page;
			return 0;
		}
		put_page(page);
	}
	return -EIO;
}

/* --- writing back ---------------------------------------------------------------------------- */

void set_page_dirty(struct page *page)
{
	struct address_space *as = page->mapping;
	u64 irq = spin_lock_irqsave(&as->lock);

	if (!(__atomic_fetch_or(&page->flags, PG_DIRTY, __ATOMIC_RELAXED) & PG_DIRTY))
		list_add_tail(&page->lru, &as->dirty);
	spin_unlock_irqrestore(&as->lock, irq);
}

/*
 * Takes up to max dirty pages of consecutive index off the list; each gets a reference. They are
 * clean from here on: a write after page_mkclean marks them again and is written next time.
 */
static unsigned take_dirty(struct address_space *as, struct page **pages, unsigned max)
{
	u64 irq = spin_lock_irqsave(&as->lock);
	unsigned n = 0;

	while (n < max && !list_empty(&as->dirty)) {
		struct page *page = list_entry(as->dirty.next, struct page, lru);

		if (n && page->index != pages[n - 1]->index + 1)
			break;
		list_del(&page->lru);
		__atomic_fetch_and(&page->flags, ~PG_DIRTY, __ATOMIC_RELAXED);
		get_page(page);
		pages[n++] = page;
	}
	spin_unlock_irqrestore(&as->lock, irq);
	return n;
}

/*
 * Locks the pages for writing, up to the first that was truncated meanwhile: its blocks may be
 * another's. What follows that one is left for another time. Returns how many are locked.
 */
static unsigned lock_dirty(struct page **pages, unsigned n)
{
	unsigned good = n;

	for (unsigned i = 0; i < n; i++) {
		lock_page(pages[i]);
		if (!pages[i]->mapping)
			good = MIN(good, i);
		if (i < good) {
			page_mkclean(pages[i]);
			continue;
		}
		if (pages[i]->mapping)
			set_page_dirty(pages[i]);
		unlock_page(pages[i]);
		put_page(pages[i]);
	}
	return good;
}

int filemap_write_back(struct address_space *as)
{
	struct page *pages[WRITE_BATCH];
	unsigned n;

	while ((n = take_dirty(as, pages, WRITE_BATCH))) {
		int err;

		n = lock_dirty(pages, n);
		err = n ? as->ops->write_pages(as->host, pages[0]->index, pages, n) : 0;
		for (unsigned i = 0; i < n; i++) {
			if (err)
				set_page_dirty(pages[i]);
			unlock_page(pages[i]);
			put_page(pages[i]);
		}
		if (err)
			return err;
	}
	return 0;
}
