/*
 * File data: pages of the page cache filled and written back, straight between their frames and
 * the device. Blocks that are consecutive on the device go in one bio, however many pages they
 * belong to; a page is finished when the last of its blocks is.
 */
#include "guest/fs/ext2.h"
#include "guest/include/page.h"
#include "guest/include/printk.h"
#include "guest/include/string.h"

/* A page of a transfer. */
struct io_page {
	struct page *page;
	s32 left; /* blocks of it not finished yet */
	int error;
};

/* A call of read_pages or write_pages. Blocks are counted from its first page's first one. */
struct file_io {
	struct inode *inode;
	u64 pgoff;
	u64 size;  /* of the file, when the transfer began */
	u32 shift; /* blocks per page = 1 << shift */
	bool write;
	s32 users;  /* bios under way, and the caller while it adds more */
	int status; /* the first error, for who waits */
	struct io_page pages[];
};

struct io_bio {
	struct file_io *io;
	u32 first; /* the blocks it carries */
	u32 count;
	struct bio bio;
};

static struct wait_queue write_wait = WAIT_QUEUE_INIT(write_wait);

/* Bytes of the page that lie in the file: the rest reads as zero and is written as zero. */
static void zero_tail(struct file_io *io, struct page *page, u32 index)
{
	u64 start = (io->pgoff + index) << PAGE_SHIFT;

	if (start >= io->size)
		memset(page_kva(page), 0, PAGE_SIZE);
	else if (io->size - start < PAGE_SIZE)
		memset((char *)page_kva(page) + (io->size - start), 0,
		       PAGE_SIZE - (io->size - start));
}

static void end_page(struct file_io *io, u32 index)
{
	struct io_page *p = &io->pages[index];

	if (io->write) {
		if (p->error)
			io->status = p->error;
		return;
	}
	if (!p->error)
		zero_tail(io, p->page, index);
	page_end_read(p->page, p->error);
}

/* Blocks [first, first + count) are done, or failed. Any context. */
static void finish_blocks(struct file_io *io, u32 first, u32 count, int error)
{
	u32 per_page = 1U << io->shift;

	while (count) {
		u32 index = first >> io->shift;
		u32 here = MIN(count, per_page - (first & (per_page - 1)));
		struct io_page *p = &io->pages[index];

		if (error)
			p->error = error;
		if (!__atomic_sub_fetch(&p->left, (s32)here, __ATOMIC_ACQ_REL))
			end_page(io, index);
		first += here;
		count -= here;
	}
}

static void put_io(struct file_io *io)
{
	bool write = io->write;

	if (__atomic_sub_fetch(&io->users, 1, __ATOMIC_ACQ_REL))
		return;
	if (write)
		wake_up(&write_wait); /* who waits frees it, and may have by now */
	else
		kfree(io);
}

static void io_done(struct bio *bio)
{
	struct io_bio *b = bio->private;
	struct file_io *io = b->io;

	finish_blocks(io, b->first, b->count, bio->status);
	kfree(b);
	put_io(io);
}

static u64 block_phys(const struct file_io *io, u32 block)
{
	u32 in_page = block & ((1U << io->shift) - 1);

	return page_phys(io->pages[block >> io->shift].page) +
	       ((u64)in_page << (PAGE_SHIFT - io->shift));
}

/* Adds memory to the bio, to its last piece if it follows that. False if the bio is full. */
static bool add_piece(struct bio *bio, u64 phys, u32 len)
{
	struct bio_vec *last = bio->nr_vecs ? &bio->vecs[bio->nr_vecs - 1] : NULL;

	if (last && last->phys + last->len == phys) {
		last->len += len;
		return true;
	}
	if (bio->nr_vecs == BIO_MAX_VECS)
		return false;
	bio->vecs[bio->nr_vecs++] = (struct bio_vec){phys, len};
	return true;
}

/* Sends as many of the blocks as one bio carries; returns how many it took care of. */
static u32 submit_blocks(struct file_io *io, u32 first, u32 count, u32 disk_block)
{
	u32 block_size = (u32)(PAGE_SIZE >> io->shift);
	struct io_bio *b = kmalloc(sizeof(*b));

	if (!b) {
		finish_blocks(io, first, count, -ENOMEM);
		return count;
	}
	b->io = io;
	b->first = first;
	b->bio.sector = (u64)disk_block * (block_size >> SECTOR_SHIFT);
	b->bio.write = io->write;
	b->bio.done = io_done;
	b->bio.private = b;
	b->bio.nr_vecs = 0;
	for (b->count = 0; b->count < count; b->count++) {
		if (!add_piece(&b->bio, block_phys(io, first + b->count), block_size))
			break;
	}
	count = b->count; /* b may be gone once submitted */
	__atomic_add_fetch(&io->users, 1, __ATOMIC_RELAXED);
	blkdev_submit(io->inode->sb->bdev, &b->bio);
	return count;
}

/* A hole reads as zero; writing it would need a block that the file has not. */
static void finish_hole(struct file_io *io, u32 first, u32 count)
{
	u32 block_size = (u32)(PAGE_SIZE >> io->shift);

	for (u32 i = 0; !io->write && i < count; i++)
		memset(phys_to_virt(block_phys(io, first + i)), 0, block_size);
	finish_blocks(io, first, count, io->write ? -ENOSPC : 0);
}

/* Hands out one stretch of blocks from `first` on; returns its length, at most `left`. */
static u32 start_stretch(struct file_io *io, u32 first, u32 left)
{
	struct inode *inode = io->inode;
	u64 file_block = (io->pgoff << io->shift) + first;
	u64 file_blocks = (io->size + (PAGE_SIZE >> io->shift) - 1) >> (PAGE_SHIFT - io->shift);
	struct ext2_run run;

	if (file_block >= file_blocks) {
		finish_blocks(io, first, left, 0); /* past the end: zero_tail's */
		return left;
	}
	left = (u32)MIN((u64)left, file_blocks - file_block);
	int err = ext2_map(inode, file_block, &run);
	if (err) {
		finish_blocks(io, first, 1, err);
		return 1;
	}
	left = MIN(left, run.count);
	if (run.block)
		return submit_blocks(io, first, left, run.block);
	finish_hole(io, first, left);
	return left;
}

/* Starts the transfer. The caller holds one of io->users. NULL: no memory. */
static struct file_io *start_io(struct inode *inode, u64 pgoff, struct page **pages, unsigned n,
				bool write)
{
	struct file_io *io = kmalloc(sizeof(*io) + n * sizeof(io->pages[0]));

	if (!io)
		return NULL;
	*io = (struct file_io){
	    .inode = inode,
	    .pgoff = pgoff,
	    .size = inode->size,
	    .shift = PAGE_SHIFT - ext2_sb(inode)->block_shift,
	    .write = write,
	    .users = 1,
	};
	for (u32 i = 0; i < n; i++) {
		io->pages[i] = (struct io_page){.page = pages[i], .left = 1 << io->shift};
		if (write)
			zero_tail(io, pages[i], i);
	}
	u32 blocks = n << io->shift;
	for (u32 first = 0; first < blocks;)
		first += start_stretch(io, first, blocks - first);
	return io;
}

static void ext2_read_pages(struct inode *inode, u64 pgoff, struct page **pages, unsigned n)
{
	struct file_io *io = start_io(inode, pgoff, pages, n, false);

	for (unsigned i = 0; !io && i < n; i++)
		page_end_read(pages[i], -ENOMEM);
	if (io)
		put_io(io);
}

static int ext2_write_pages(struct inode *inode, u64 pgoff, struct page **pages, unsigned n)
{
	if (inode->sb->read_only)
		return -EROFS;
	struct file_io *io = start_io(inode, pgoff, pages, n, true);
	if (!io)
		return -ENOMEM;
	put_io(io);
	wait_event(write_wait, !__atomic_load_n(&io->users, __ATOMIC_ACQUIRE));
	int status = io->status;
	kfree(io);
	return status;
}

static int ext2_dax_pfn(struct inode *inode, u64 pgoff, u64 *phys)
{
	struct block_device *bdev = inode->sb->bdev;
	struct ext2_run run;

	if (pgoff >= (inode->size + PAGE_SIZE - 1) >> PAGE_SHIFT)
		return -ERANGE;
	int err = ext2_map(inode, pgoff, &run);
	if (err)
		return err;
	if (!run.block)
		return -ENOENT;
	return bdev->ops->direct(bdev, (u64)run.block << (PAGE_SHIFT - SECTOR_SHIFT), phys);
}

const struct address_space_ops ext2_aops = {
    .read_pages = ext2_read_pages,
    .write_pages = ext2_write_pages,
    .dax_pfn = ext2_dax_pfn,
};
