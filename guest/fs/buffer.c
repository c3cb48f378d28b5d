/*
 * The buffer cache: recently used metadata, in pages of the device. A list is enough for its
 * few entries; data does not come through here.
 */
#include "guest/fs/internal.h"
#include "guest/include/page.h"
#include "guest/include/string.h"

enum { MAX_BUFFERS = 64 };

enum buffer_state { BUFFER_READING, BUFFER_VALID, BUFFER_FAILED };

struct buffer {
	struct list link;
	struct super_block *sb;
	u64 index; /* in pages of the device */
	volatile enum buffer_state state;
	s32 users;
	u32 len; /* valid bytes: less than a page at the end of the device */
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

/* Makes room for one more by dropping what was not used longest. */
static void shrink(struct super_block *sb)
{
	struct buffer *buf, *next;

	list_for_each_safe(buf, next, &sb->buffers, link)
	{
		if (sb->nr_buffers < MAX_BUFFERS)
			return;
		if (!buf->users && buf->state != BUFFER_READING)
			free_buffer(buf);
	}
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

static void read_done(struct bio *bio)
{
	struct buffer *buf = bio->private;

	buf->state = bio->status ? BUFFER_FAILED : BUFFER_VALID;
	wake_up(&buffer_wait);
}

static void fill_buffer(struct buffer *buf)
{
	struct block_device *bdev = buf->sb->bdev;
	u64 sector = buf->index << (PAGE_SHIFT - SECTOR_SHIFT);
	u64 phys;

	if (bdev->ops->direct) {
		buf->state = bdev->ops->direct(bdev, sector, &phys) ? BUFFER_FAILED : BUFFER_VALID;
		buf->data = phys_to_virt(phys);
		return;
	}
	buf->data = page_kva(buf->page);
	buf->bio.sector = sector;
	buf->bio.write = false;
	buf->bio.done = read_done;
	buf->bio.private = buf;
	buf->bio.nr_vecs = 1;
	buf->bio.vecs[0] = (struct bio_vec){page_phys(buf->page), buf->len};
	blkdev_submit(bdev, &buf->bio);
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
	buf->state = BUFFER_READING;
	buf->users = 0;
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
	wait_event(buffer_wait, buf->state != BUFFER_READING);
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

void buffer_release_all(struct super_block *sb)
{
	struct buffer *buf, *next;

	list_for_each_safe(buf, next, &sb->buffers, link)
	{
		free_buffer(buf);
	}
}
