/*
 * The page cache of one file. The page's lock (PG_LOCKED) is held while it is read; a page that
 * is not PG_UPTODATE is not looked into.
 */
#ifndef GUEST_FILEMAP_H
#define GUEST_FILEMAP_H

#include "guest/include/list.h"
#include "guest/include/page.h"
#include "guest/include/spinlock.h"
#include "guest/include/types.h"

struct inode;

struct address_space_ops {
	/*
	 * Starts to read n pages, index pgoff and following, into the given locked frames, and
	 * returns without waiting for the device where it can. Each page is finished by
	 * page_end_read, also when no I/O could be started. Holes of the file are zeroed. May
	 * sleep for metadata.
	 */
	void (*read_pages)(struct inode *inode, u64 pgoff, struct page **pages, unsigned n);
	/*
	 * Writes n pages, index pgoff and following, back to where they lie on the device and
	 * waits. 0, or negative errno if any failed. Never allocates blocks: -ENOSPC on a hole.
	 */
	int (*write_pages)(struct inode *inode, u64 pgoff, struct page **pages, unsigned n);
	/*
	 * For an inode with dax set: where page pgoff of the file lies in persistent memory, and
	 * in *n how many pages from it on, at most max, follow one another there. 0; -ENOENT for
	 * a hole of *n pages; -ERANGE past the end; -EUCLEAN, -EIO for a damaged map. May sleep.
	 */
	int (*dax_run)(struct inode *inode, u64 pgoff, u64 max, u64 *phys, u64 *n);
};

struct address_space {
	struct inode *host;
	const struct address_space_ops *ops;
	struct spinlock lock; /* tree and nr_pages, dirty */
	void *root;	      /* radix tree of struct page, 64 slots a node */
	u32 height;	      /* levels; 0: empty */
	u64 nr_pages;
	struct list dirty;    /* pages with PG_DIRTY, by page.lru */
	struct list mappings; /* mappings of the file, by vma.mapping_link */
	struct list cached;   /* among those that have or had pages; vmscan.c */
	u64 hand;	      /* index where reclaim goes on */
	bool dax_dirty;	      /* written in place since the last flush */
};

/* Once, at boot. */
void filemap_init(void);

void address_space_init(struct address_space *as, struct inode *host,
			const struct address_space_ops *ops);

/* The page of that index, with a reference, or NULL; it may be locked or not up to date. */
struct page *find_get_page(struct address_space *as, u64 index);

/*
 * Under as->lock: the tree's slots of index, index + 1, ... and in *n how many of them (at most
 * max) lie in the same node; NULL where there is no node, *n then says how many indices to skip.
 */
struct page **filemap_slots(struct address_space *as, u64 index, u64 max, u64 *n);

/*
 * Adds n locked frames that follow each other in memory as pages index, index + 1, ... with the
 * references they have. Stops at the first that is there already or that no tree node can be had
 * for; returns the number added.
 */
u64 filemap_add(struct address_space *as, struct page *pages, u64 index, u64 n);

/*
 * The next pages from *index on, at most max, each with a reference; *index moves behind them.
 * Returns how many; 0 at the end of the cache.
 */
unsigned filemap_next_pages(struct address_space *as, u64 *index, struct page **pages,
			    unsigned max);

/*
 * Takes a clean, locked page out of the cache and drops the cache's reference. False if anybody
 * but the cache and the caller has one, or it is dirty.
 */
bool filemap_remove(struct page *page);

/* Takes a locked page out of the cache, dirty or not; who has a reference keeps an orphan. */
void filemap_drop(struct page *page);
/* Forgets the pages behind byte `size` and unmaps them. What is dirty there is lost. Sleeps. */
void filemap_truncate(struct address_space *as, u64 size);
/* Forgets those of the pages first to last that nobody maps, uses or has changed. */
void filemap_invalidate(struct address_space *as, u64 first, u64 last);
/* A zeroed page of an index that the cache does not have, up to date; *out with a reference. */
int add_zeroed_page(struct address_space *as, u64 index, struct page **out);

/* Page locks. lock_page sleeps; unlock_page from any context. */
void lock_page(struct page *page);
bool trylock_page(struct page *page);
void unlock_page(struct page *page);
void wait_on_page_locked(struct page *page);

/* The page holds news for the device. Locked. */
void set_page_dirty(struct page *page);

/* Reads the page if need be and waits; *out with a reference. Past the end: -ERANGE. Or -EIO. */
int read_cache_page(struct address_space *as, u64 index, struct page **out);

struct readahead;
/* Starts reads of the absent ones of n pages from index on; page marker gets
 * PG_READAHEAD. Returns how many were started. */
u64 start_read(struct address_space *as, u64 index, u64 n, u64 marker);
/* A fault missed at index, or met the marker there. flags are the mapping's VM_*. */
void sync_readahead(struct address_space *as, struct readahead *ra, u64 index, unsigned flags);
void async_readahead(struct address_space *as, struct readahead *ra, struct page *page);

/* The read of a page ended, error 0 or negative: sets the flags, unlocks, wakes. Any context. */
void page_end_read(struct page *page, int error);

/* What fsync does: dirty pages, then metadata and the device's cache. 0 or the first error. */
int file_sync(struct inode *inode);

/* Writes all dirty pages and waits. 0 or the first error; what failed stays dirty. Sleeps. */
int filemap_write_back(struct address_space *as);

/* Forgets every page, waiting for reads; none may be mapped or dirty. For the inode's end. */
void filemap_release(struct address_space *as);

#endif
