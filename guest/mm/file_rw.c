/* read() and write() of regular files: between user memory and the page cache, or storage. */
#include "guest/include/file_rw.h"
#include "guest/include/errno.h"
#include "guest/include/mm.h"
#include "guest/include/string.h"
#include "guest/include/uaccess.h"

#define READ_WINDOW 32 /* pages started at once by a reader that misses */

/* Where page index of the file can be read; unpin with put_page if *page is set. */
static int pin_page(struct inode *inode, u64 index, struct page **page, void **kva)
{
	int err;

	*page = NULL;
	if (inode->dax) {
		u64 phys, n;

		err = inode->mapping.ops->dax_run(inode, index, 1, &phys, &n);
		if (err == -ENOENT) {
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
		int err = pin_page(inode, (pos + done) >> PAGE_SHIFT, &page, &kva);

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

/* --- writing; inode->lock held ---------------------------------------------------------------- */

/* The page of an index behind the file's end: zero, however it came there. */
static int pin_behind_end(struct address_space *as, u64 index, struct page **page)
{
	*page = find_get_page(as, index);
	if (!*page)
		return add_zeroed_page(as, index, page);
	/* Read ahead while the file was longer. */
	lock_page(*page);
	clear_page(page_kva(*page));
	__atomic_fetch_or(&(*page)->flags, PG_UPTODATE, __ATOMIC_RELAXED);
	unlock_page(*page);
	return 0;
}

/* Blocks for the bytes. Persistent memory has its size first, as dax_run looks at it. */
static int make_room(struct inode *inode, u64 pos, size_t len)
{
	u64 index = pos >> PAGE_SHIFT;
	int err = inode->ops->allocate(inode, index, MAX(inode->size, pos + len));

	if (err || !inode->dax)
		return err;
	if (inode->size < pos + len)
		inode->size = pos + len;
	/* A hole that was mapped as zeroes has a place now. */
	unmap_mapping_range(&inode->mapping, index, index);
	return 0;
}

/*
 * Where the bytes can be written. A page of the cache is there before its blocks are: read
 * afterwards, a hole would hold what its block was before.
 */
static int pin_for_write(struct inode *inode, u64 pos, size_t len, struct page **page, void **kva)
{
	u64 index = pos >> PAGE_SHIFT;
	int err;

	if (inode->dax) {
		err = make_room(inode, pos, len);
		return err ? err : pin_page(inode, index, page, kva);
	}
	reclaim_if_low();
	if (index < (inode->size + PAGE_SIZE - 1) >> PAGE_SHIFT)
		err = read_cache_page(&inode->mapping, index, page);
	else
		err = pin_behind_end(&inode->mapping, index, page);
	if (err)
		return err;
	*kva = page_kva(*page);
	err = make_room(inode, pos, len);
	if (err)
		put_page(*page);
	return err;
}

/* Bytes that lie in one page. Those done, or why none. */
static s64 write_part(struct inode *inode, u64 pos, u64 buf, size_t len)
{
	u64 old_size = inode->size;
	struct page *page;
	void *kva;
	size_t done;
	int err = pin_for_write(inode, pos, len, &page, &kva);

	if (err) {
		inode->size = old_size;
		return err;
	}
	done = len - copy_from_user((char *)kva + (pos & ~PAGE_MASK), buf, len);
	inode->size = MAX(old_size, done ? pos + done : 0);
	if (page) {
		set_page_dirty(page);
		put_page(page);
	} else {
		inode->mapping.dax_dirty = true;
	}
	return done ? (s64)done : -EFAULT;
}

/* Pages that nobody can take from the file until they are written are not to fill memory. */
static void balance_dirty(struct inode *inode)
{
	if (nr_free_pages() < nr_total_pages() / 8 && !list_empty(&inode->mapping.dirty))
		filemap_write_back(&inode->mapping);
}

static s64 write_locked(struct inode *inode, u64 pos, u64 buf, size_t n)
{
	size_t done = 0;
	s64 ret = 0;

	if (pos >= inode->max_size)
		return -EFBIG;
	n = MIN(n, inode->max_size - pos);
	if (pos > inode->size)
		ret = file_extend(inode, pos);
	while (done < n && ret >= 0) {
		size_t len = MIN(n - done, PAGE_SIZE - ((pos + done) & ~PAGE_MASK));

		ret = write_part(inode, pos + done, buf + done, len);
		if (ret > 0)
			done += (size_t)ret;
		if (ret > 0 && (size_t)ret < len)
			break;
		balance_dirty(inode);
	}
	return done ? (s64)done : ret;
}

s64 file_write_user(struct inode *inode, u64 *pos, u64 buf, size_t n, bool append)
{
	u64 old_size;
	s64 ret;

	if (!n)
		return 0;
	mutex_lock(&inode->lock);
	old_size = inode->size;
	if (append)
		*pos = old_size;
	ret = write_locked(inode, *pos, buf, n);
	if (ret > 0) {
		*pos += (u64)ret;
		inode->mtime = inode->ctime = fs_time(inode);
	} else {
		inode->size = old_size;
	}
	/* Blocks of what could not be copied go again. */
	if ((size_t)ret == n)
		inode->ops->update(inode);
	else
		inode->ops->truncate(inode);
	mutex_unlock(&inode->lock);
	return ret;
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
		err = pin_page(inode, (pos + done) >> PAGE_SHIFT, &page, &kva);
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
