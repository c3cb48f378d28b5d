/* read() and write() of regular files: between user memory and the page cache, or storage. */
#include "guest/include/file_rw.h"
#include "guest/include/errno.h"
#include "guest/include/mm.h"
#include "guest/include/string.h"
#include "guest/include/uaccess.h"

#define READ_WINDOW 32 /* pages started at once by a reader that misses */

/* Where page index of the file can be read or written; unpin with put_page if *page is set. */
static int pin_page(struct inode *inode, u64 index, bool write, struct page **page, void **kva)
{
	int err;

	*page = NULL;
	if (inode->dax) {
		u64 phys, n;

		err = inode->mapping.ops->dax_run(inode, index, 1, &phys, &n);
		if (err == -ENOENT) {
			if (write)
				return -ENOSPC;
			phys = page_phys(zero_page);
			err = 0;
		}
		if (!err)
			*kva = phys_to_virt(phys);
		return err;
	}
	reclaim_if_low();
	*page = find_get_page(&inode->mapping, index);
	if (*page)
		put_page(*page);
	else
		start_read(&inode->mapping, index, READ_WINDOW, ~0UL);
	err = read_cache_page(&inode->mapping, index, page);
	if (!err)
		*kva = page_kva(*page);
	return err;
}

/* Bytes of [pos, pos + n) that lie in the file and in one page. */
static size_t part_of(const struct inode *inode, u64 pos, size_t n)
{
	if (pos >= inode->size)
		return 0;
	return MIN(MIN(n, inode->size - pos), PAGE_SIZE - (pos & ~PAGE_MASK));
}

s64 file_read_user(struct inode *inode, u64 pos, u64 buf, size_t n)
{
	size_t done = 0, len;

	while ((len = part_of(inode, pos + done, n - done))) {
		struct page *page;
		void *kva;
		size_t bad;
		int err = pin_page(inode, (pos + done) >> PAGE_SHIFT, false, &page, &kva);

		if (err)
			return done ? (s64)done : err;
		bad = copy_to_user(buf + done, (char *)kva + ((pos + done) & ~PAGE_MASK), len);
		if (page)
			put_page(page);
		done += len - bad;
		if (bad)
			return done ? (s64)done : -EFAULT;
	}
	return (s64)done;
}

s64 file_write_user(struct inode *inode, u64 pos, u64 buf, size_t n)
{
	size_t done = 0, len;

	while ((len = part_of(inode, pos + done, n - done))) {
		struct page *page;
		void *kva;
		size_t bad;
		int err = pin_page(inode, (pos + done) >> PAGE_SHIFT, true, &page, &kva);

		if (err)
			return done ? (s64)done : err;
		bad = copy_from_user((char *)kva + ((pos + done) & ~PAGE_MASK), buf + done, len);
		if (page) {
			set_page_dirty(page);
			put_page(page);
		} else {
			inode->mapping.dax_dirty = true;
		}
		done += len - bad;
		if (bad)
			return done ? (s64)done : -EFAULT;
	}
	/* Files do not grow: no block is ever allocated. */
	return done || !n ? (s64)done : -ENOSPC;
}

int file_read_kernel(struct inode *inode, u64 pos, void *buf, size_t n)
{
	size_t done = 0, len;

	while (done < n) {
		struct page *page;
		void *kva;
		int err;

		len = part_of(inode, pos + done, n - done);
		if (!len)
			return -ENOEXEC;
		err = pin_page(inode, (pos + done) >> PAGE_SHIFT, false, &page, &kva);
		if (err)
			return err;
		memcpy((char *)buf + done, (char *)kva + ((pos + done) & ~PAGE_MASK), len);
		if (page)
			put_page(page);
		done += len;
	}
	return 0;
}

int file_sync(struct inode *inode)
{
	int err = 0;

	if (inode->dax)
		inode->mapping.dax_dirty = false;
	else
		err = filemap_write_back(&inode->mapping);
	if (!err && inode->ops->fsync)
		err = inode->ops->fsync(inode);
	if (err && inode->dax)
		inode->mapping.dax_dirty = true;
	return err;
}
