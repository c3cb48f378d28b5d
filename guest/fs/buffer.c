/*
 * The buffer cache: recently used metadata, in pages of the device. A list is enough for its
 * few entries; data does not come through here. All of it is used under sb->lock.
 *
 * A page may hold file data beside metadata, where blocks are smaller. So what is dirty is noted
 * by sector, and only that is written: the rest may be older than what the disk holds.
 */
#include "guest/fs/internal.h"
#include "guest/include/page.h"
#include "guest/include/printk.h"
#include "guest/include/string.h"

enum { MAX_BUFFERS = 64 };

enum buffer_state { BUFFER_BUSY, BUFFER_VALID, BUFFER_FAILED };

struct buffer {
	struct list link;
	struct super_block *sb;
	u64 index; /* in pages of the device */
	volatile enum buffer_state state;
	s32 users;
	u32 len;   /* valid bytes: less than a page at the end of the device */
	u32 dirty; /* a bit a sector */
	char *data;
	struct page *page; /* NULL: data lies in persistent memory */
	struct bio bio;
};

static struct wait_queue buffer_wait = WAIT_QUEUE_INIT(buffer_wait);

static void free_buffer(struct buffer *buf)
{
	list_del(&buf->link);
	buf->sb->nr_buffers--;
	if (buf->page)
		put_page(buf->page);
	kfree(buf);
}

static struct buffer *find(struct super_block *sb, u64 index)
{
	/* From the end: what was used last is what is used next. */
	for (struct list *l = sb->buffers.prev; l != &sb->buffers; l = l->prev) {
		struct buffer *buf = list_entry(l, struct buffer, link);

		if (buf->index == index)
			return buf;
	}
	return NULL;
}

static void transfer_done(struct bio *bio)
{
	struct buffer *buf = bio->private;

	buf->state = bio->status ? BUFFER_FAILED : BUFFER_VALID;
	wake_up(&buffer_wait);
}

static u64 first_sector(const struct buffer *buf)
{
	return buf->index << (PAGE_SHIFT - SECTOR_SHIFT);
}

/* Starts to read or write `len` bytes at `offset` of the buffer. */
static void transfer(struct buffer *buf, u32 offset, u32 len, bool write)
{
	buf->state = BUFFER_BUSY;
	buf->bio.sector = first_sector(buf) + (offset >> SECTOR_SHIFT);
	buf->bio.write = write;
	buf->bio.done = transfer_done;
	buf->bio.private = buf;
	buf->bio.nr_vecs = 1;
	buf->bio.vecs[0] = (struct bio_vec){page_phys(buf->page) + offset, len};
	blkdev_submit(buf->sb->bdev, &buf->bio);
}

/* Writes what is dirty and waits. 0, or -EIO and what was not written is dirty still. */
static int write_buffer(struct buffer *buf)
{
	while (buf->dirty) {
		u32 first = (u32)__builtin_ctz(buf->dirty);
		u32 count = (u32)__builtin_ctz(~(buf->dirty >> first));

		transfer(buf, first << SECTOR_SHIFT, count << SECTOR_SHIFT, true);
		wait_event(buffer_wait, READ_ONCE(buf->state) != BUFFER_BUSY);
		bool failed = buf->state == BUFFER_FAILED;
		buf->state = BUFFER_VALID;
		if (failed)
			return -EIO;
		buf->dirty &= ~(((1U << count) - 1) << first);
	}
	return 0;
}

/* Makes room for one more by dropping what was not used longest. */
static void shrink(struct super_block *sb)
{
	struct buffer *buf, *next;

	list_for_each_safe(buf, next, &sb->buffers, link)
	{
		if (sb->nr_buffers < MAX_BUFFERS)
			return;
		if (!buf->users && !write_buffer(buf))
			free_buffer(buf);
	}
}

static void fill_buffer(struct buffer *buf)
{
	struct block_device *bdev = buf->sb->bdev;
	u64 phys;

	if (bdev->ops->direct) {
		buf->state = bdev->ops->direct(bdev, first_sector(buf), &phys) ? BUFFER_FAILED
									       : BUFFER_VALID;
		buf->data = phys_to_virt(phys);
		return;
	}
	buf->data = page_kva(buf->page);
	transfer(buf, 0, buf->len, false);
}

static struct buffer *add(struct super_block *sb, u64 index)
{
	u64 sector = index << (PAGE_SHIFT - SECTOR_SHIFT);
	u64 left = (sb->bdev->sectors - sector) << SECTOR_SHIFT;
	bool direct = sb->bdev->ops->direct;

	shrink(sb);
	struct buffer *buf = kmalloc(sizeof(*buf));
	if (!buf)
		return NULL;
	buf->page = direct ? NULL : alloc_page(0);
	if (!direct && !buf->page) {
		kfree(buf);
		return NULL;
	}
	buf->sb = sb;
	buf->index = index;
	buf->users = 0;
	buf->dirty = 0;
	buf->len = (u32)MIN(left, (u64)PAGE_SIZE);
	list_add_tail(&buf->link, &sb->buffers);
	sb->nr_buffers++;
	fill_buffer(buf);
	return buf;
}

int buffer_read(struct super_block *sb, u64 offset, u32 len, struct buffer **out, void **data)
{
	u64 index = offset >> PAGE_SHIFT;
	u32 at = offset & (PAGE_SIZE - 1);

	if (offset >> SECTOR_SHIFT >= sb->bdev->sectors)
		return -EIO;
	struct buffer *buf = find(sb, index);
	if (!buf)
		buf = add(sb, index);
	if (!buf)
		return -ENOMEM;
	buf->users++;
	wait_event(buffer_wait, READ_ONCE(buf->state) != BUFFER_BUSY);
	if (buf->state == BUFFER_FAILED || at + len > buf->len) {
		/* Not kept: a later try reads again. */
		if (!--buf->users && buf->state == BUFFER_FAILED)
			free_buffer(buf);
		return -EIO;
	}
	list_del(&buf->link);
	list_add_tail(&buf->link, &sb->buffers);
	*out = buf;
	*data = buf->data + at;
	return 0;
}

void buffer_put(struct buffer *buf)
{
	buf->users--;
}

/* The sectors of the buffer that the bytes lie in. */
static u32 sector_mask(u32 at, u32 len)
{
	u32 first = at >> SECTOR_SHIFT;
	u32 last = (at + len - 1) >> SECTOR_SHIFT;

	return ((2U << last) - 1) & ~((1U << first) - 1);
}

void buffer_dirty(struct buffer *buf, const void *data, u32 len)
{
	if (buf->page)
		buf->dirty |= sector_mask((u32)((const char *)data - buf->data), len);
}

void buffer_forget(struct super_block *sb, u64 offset, u32 len)
{
	struct buffer *buf = find(sb, offset >> PAGE_SHIFT);

	if (buf)
		buf->dirty &= ~sector_mask(offset & (PAGE_SIZE - 1), len);
}

int buffer_sync(struct super_block *sb)
{
	struct buffer *buf;
	int err = 0;

	list_for_each(buf, &sb->buffers, link)
	{
		int failed = write_buffer(buf);

		if (!err)
			err = failed;
	}
	return err;
}

void buffer_release_all(struct super_block *sb)
{
	struct buffer *buf, *next;

	list_for_each_safe(buf, next, &sb->buffers, link)
	{
		if (buf->dirty)
			printk("%s: changes at byte %lu could not be written and are lost\n",
			       sb->bdev->name, buf->index << PAGE_SHIFT);
		free_buffer(buf);
	}
}
