/*
 * File data: pages of the page cache filled and written back, straight between their frames and
 * the device. Blocks that are consecutive on the device go in one bio, however many pages they
 * belong to; a page is finished when the last of its blocks is.
 */
#include "guest/fs/ext2.h"
#include "guest/include/page.h"
#include "guest/include/printk.h"
#include "guest/include/string.h"

/* A page of a transfer whose blocks are smaller than pages. */
struct io_part {
	s32 left; /* blocks of it not finished yet */
	int error;
};

/* A call of read_pages or write_pages. Blocks are counted from its first page's first one. */
struct file_io {
	struct inode *inode;
	u64 pgoff;
	u64 size;  /* of the file, when the transfer began */
	u64 tail;  /* from this page of the transfer on, not all of a page is in the file */
	u32 shift; /* blocks per page = 1 << shift */
	bool write;
	s32 users;	       /* bios under way, and the caller while it adds more */
	int status;	       /* the first error, for who waits */
	struct io_part *parts; /* one a page, or NULL if a block is a page */
	struct page *pages[];
};

struct io_bio {
	struct file_io *io;
	u32 first; /* the blocks it carries */
	u32 count;
	struct bio bio;
};

static struct wait_queue write_wait = WAIT_QUEUE_INIT(write_wait);

/* What of the page does not lie in the file reads as zero and is written as zero. */
static void zero_tail(struct file_io *io, u32 index)
{
	u64 start = (io->pgoff + index) << PAGE_SHIFT;
	u64 used = start < io->size ? io->size - start : 0;

	memset((char *)page_kva(io->pages[index]) + used, 0, PAGE_SIZE - used);
}

static void end_page(struct file_io *io, u32 index, int error)
{
	if (io->write) {
		if (error)
			io->status = error;
		return;
	}
	if (index >= io->tail && !error)
		zero_tail(io, index);
	page_end_read(io->pages[index], error);
}

/* Of blocks smaller than pages: the last one of a page ends that. */
static void finish_parts(struct file_io *io, u32 first, u32 count, int error)
{
	u32 per_page = 1U << io->shift;

	while (count) {
		u32 index = first >> io->shift;
		u32 here = MIN(count, per_page - (first & (per_page - 1)));
		struct io_part *part = &io->parts[index];

		if (error)
			part->error = error;
		if (!__atomic_sub_fetch(&part->left, (s32)here, __ATOMIC_ACQ_REL))
			end_page(io, index, part->error);
		first += here;
		count -= here;
	}
}

/* Blocks [first, first + count) are done, or failed. Any context. */
static void finish_blocks(struct file_io *io, u32 first, u32 count, int error)
{
	if (io->parts) {
		finish_parts(io, first, count, error);
		return;
	}
	for (u32 index = first; index < first + count; index++)
		end_page(io, index, error);
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

	return page_phys(io->pages[block >> io->shift]) +
	       ((u64)in_page << (PAGE_SHIFT - io->shift));
}

/*
 * Fills the bio with the frames of up to `count` blocks, those that follow one another as one
 * piece. Returns how many there was room for. This loop runs once a page: it is kept short.
 */
static u32 add_blocks(struct bio *bio, const struct file_io *io, u32 first, u32 count)
{
	u32 block_size = (u32)(PAGE_SIZE >> io->shift);
	struct bio_vec *vec = NULL;
	u64 end = 0; /* of the last piece; frame 0 is never a page's */
	u32 n;

	bio->nr_vecs = 0;
	for (n = 0; n < count; n++) {
		u64 phys = block_phys(io, first + n);

		if (phys != end) {
			if (bio->nr_vecs == BIO_MAX_VECS)
				break;
			vec = &bio->vecs[bio->nr_vecs++];
			*vec = (struct bio_vec){.phys = phys};
		}
		vec->len += block_size;
		end = phys + block_size;
	}
	return n;
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
	count = add_blocks(&b->bio, io, first, count);
	b->count = count;
	__atomic_add_fetch(&io->users, 1, __ATOMIC_RELAXED);
	blkdev_submit(io->inode->sb->bdev, &b->bio);
	return count;
}

/*
 * A hole reads as zero. What is written to a file has blocks (ops->allocate), so a hole of a page
 * that is written back is a part of it that was not.
 */
static void finish_hole(struct file_io *io, u32 first, u32 count)
{
	u32 block_size = (u32)(PAGE_SIZE >> io->shift);

	for (u32 i = 0; !io->write && i < count; i++)
		memset(phys_to_virt(block_phys(io, first + i)), 0, block_size);
	finish_blocks(io, first, count, 0);
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

static struct file_io *alloc_io(u32 shift, struct page **pages, unsigned n)
{
	size_t list = n * sizeof(pages[0]);
	struct file_io *io = kmalloc(sizeof(*io) + list + (shift ? n * sizeof(struct io_part) : 0));

	if (!io)
		return NULL;
	io->parts = shift ? (struct io_part *)(io->pages + n) : NULL;
	for (unsigned i = 0; i < n; i++)
		io->pages[i] = pages[i];
	for (unsigned i = 0; shift && i < n; i++)
		io->parts[i] = (struct io_part){.left = 1 << shift};
	return io;
}

/* Starts the transfer. The caller holds one of io->users. NULL: no memory. */
static struct file_io *start_io(struct inode *inode, u64 pgoff, struct page **pages, unsigned n,
				bool write)
{
	u32 shift = PAGE_SHIFT - ext2_sb(inode)->block_shift;
	struct file_io *io = alloc_io(shift, pages, n);

	if (!io)
		return NULL;
	u64 whole_pages = inode->size >> PAGE_SHIFT;

	io->inode = inode;
	io->pgoff = pgoff;
	io->size = inode->size;
	io->tail = whole_pages > pgoff ? whole_pages - pgoff : 0;
	io->shift = shift;
	io->write = write;
	io->users = 1;
	io->status = 0;
	for (u64 i = io->tail; write && i < n; i++)
		zero_tail(io, (u32)i);
	for (u32 first = 0; first < n << shift;)
		first += start_stretch(io, first, (n << shift) - first);
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

static int ext2_dax_run(struct inode *inode, u64 pgoff, u64 max, u64 *phys, u64 *n)
{
	struct block_device *bdev = inode->sb->bdev;
	u64 pages = (inode->size + PAGE_SIZE - 1) >> PAGE_SHIFT;
	struct ext2_run run;
	int err;

	if (pgoff >= pages)
		return -ERANGE;
	err = ext2_map(inode, pgoff, &run);
	if (err)
		return err;
	*n = MIN(MIN(max, pages - pgoff), (u64)run.count);
	if (!run.block)
		return -ENOENT;
	return bdev->ops->direct(bdev, (u64)run.block << (PAGE_SHIFT - SECTOR_SHIFT), phys);
}

const struct address_space_ops ext2_aops = {
    .read_pages = ext2_read_pages,
    .write_pages = ext2_write_pages,
    .dax_run = ext2_dax_run,
};
