/*
 * A file gets another size: what lies between the ends, in the cache and in mappings. inode->lock
 * is held, so one changes the size at a time. The new size is set before pages go: a fault that
 * comes later finds the page outside of the file.
 */
#include "guest/include/errno.h"
#include "guest/include/file_rw.h"
#include "guest/include/mm.h"
#include "guest/include/string.h"

static u64 pages_up(u64 bytes)
{
	return (bytes + PAGE_SIZE - 1) >> PAGE_SHIFT;
}

/*
 * What the page of byte pos holds behind it becomes zero, on the device too, and mappings that
 * may write to it ask again: some of the page has no block.
 */
static int zero_behind(struct inode *inode, u64 pos)
{
	u64 offset = pos & ~PAGE_MASK, phys, n;
	struct page *page;
	int err;

	if (!offset)
		return 0;
	if (inode->dax) {
		err = inode->mapping.ops->dax_run(inode, pos >> PAGE_SHIFT, 1, &phys, &n);
		if (!err)
			memset((char *)phys_to_virt(phys) + offset, 0, PAGE_SIZE - offset);
		return err == -ENOENT ? 0 : err;
	}
	err = read_cache_page(&inode->mapping, pos >> PAGE_SHIFT, &page);
	if (err)
		return err;
	lock_page(page);
	memset((char *)page_kva(page) + offset, 0, PAGE_SIZE - offset);
	page_mkclean(page);
	set_page_dirty(page);
	unlock_page(page);
	put_page(page);
	return 0;
}

void filemap_truncate(struct address_space *as, u64 size)
{
	struct page *pages[16];
	u64 index = pages_up(size);
	unsigned n;

	unmap_mapping_range(as, index, ~0UL);
	while ((n = filemap_next_pages(as, &index, pages, ARRAY_SIZE(pages)))) {
		for (unsigned i = 0; i < n; i++) {
			lock_page(pages[i]);
			/* One that a fault mapped before it could see the new size. */
			page_unmap(pages[i]);
			filemap_drop(pages[i]);
			unlock_page(pages[i]);
			put_page(pages[i]);
		}
	}
}

void filemap_invalidate(struct address_space *as, u64 first, u64 last)
{
	struct page *pages[16];
	unsigned n;

	while (first <= last && (n = filemap_next_pages(as, &first, pages, ARRAY_SIZE(pages)))) {
		for (unsigned i = 0; i < n; i++) {
			if (pages[i]->index <= last && trylock_page(pages[i])) {
				if (pages[i]->mapping == as)
					filemap_remove(pages[i]);
				unlock_page(pages[i]);
			}
			put_page(pages[i]);
		}
	}
}

int file_extend(struct inode *inode, u64 size)
{
	int err = zero_behind(inode, inode->size);

	if (!err)
		inode->size = size;
	return err;
}

int file_set_size(struct inode *inode, u64 size)
{
	int err;

	if (size >= inode->size) {
		err = file_extend(inode, size);
	} else {
		err = zero_behind(inode, size);
		if (!err) {
			inode->size = size;
			filemap_truncate(&inode->mapping, size);
		}
	}
	inode->mtime = inode->ctime = fs_time(inode);
	return err ? err : inode->ops->truncate(inode);
}
