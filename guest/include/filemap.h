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
	 * For an inode with dax set: the physical address of page pgoff of the file, in
	 * persistent memory. 0, -ERANGE past the end, -ENOENT for a
	 * hole, -EIO for a damaged map.
	 */
	int (*dax_pfn)(struct inode *inode, u64 pgoff, u64 *phys);
};

struct address_space {
	struct inode *host;
	const struct address_space_ops *ops;
	struct spinlock lock; /* tree and nr_pages, dirty */
	void *root;	      /* radix tree of struct page, 64 slots a node */
	u32 height;	      /* levels; 0: empty */
	u64 nr_pages;
	struct list dirty; /* pages with PG_DIRTY, by page.lru */
};

void address_space_init(struct address_space *as, struct inode *host,
			const struct address_space_ops *ops);

/* The read of a page ended, error 0 or negative: sets the flags, unlocks, wakes. Any context. */
void page_end_read(struct page *page, int error);

/* Writes all dirty pages and waits. 0 or the first error; what failed stays dirty. Sleeps. */
int filemap_write_back(struct address_space *as);

/* Forgets every page; none may be mapped, locked or dirty. For the inode's end. */
void filemap_release(struct address_space *as);

#endif
