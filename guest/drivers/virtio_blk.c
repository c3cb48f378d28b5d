/*
 * Block device (virtio 1.2, section 5.2): vda, vdb, ... Any number of requests in flight, data
 * moved straight between the device and the bio's frames, completion by interrupt.
 */
#include "guest/drivers/virtio.h"
#include "guest/include/block.h"
#include "guest/include/page.h"
#include "guest/include/printk.h"
#include "guest/include/sched.h"

enum {
	BLK_F_SIZE_MAX = 1,
	BLK_F_SEG_MAX = 2,
	BLK_F_RO = 5,
	BLK_F_FLUSH = 9,
	BLK_F_DISCARD = 13,
};

/* Offsets in the configuration. */
enum {
	CONFIG_CAPACITY = 0,
	CONFIG_SIZE_MAX = 8,
	CONFIG_SEG_MAX = 12,
	CONFIG_MAX_DISCARD_SECTORS = 36,
};

enum { BLK_T_IN = 0, BLK_T_OUT = 1, BLK_T_FLUSH = 4, BLK_T_DISCARD = 11 };
enum { BLK_S_OK = 0, BLK_S_IOERR = 1, BLK_S_UNSUPP = 2 };

#define MAX_SEGS  BIO_MAX_VECS
#define MAX_DISKS 26

struct blk_header {
	u32 type;
	u32 reserved;
	u64 sector;
};

struct blk_discard {
	u64 sector;
	u32 sectors;
	u32 flags;
};

/* One request at the device. Lives in the direct map (kmalloc), so the device reaches all of it. */
struct blk_request {
	struct vring_desc table[MAX_SEGS + 2]; /* 16-byte aligned: first */
	struct vq_buf bufs[MAX_SEGS + 2];
	struct blk_header header;
	struct blk_discard discard;
	u8 status;
	struct bio *bio;	  /* a read's or write's, else NULL */
	volatile bool ended;	  /* for who waits for it, if there is no bio */
	int error;		  /* valid once ended */
	struct blk_request *next; /* when it is not in use */
};

struct virtio_blk {
	struct block_device bdev;
	struct virtio_device *dev;
	u32 max_segs;
	u32 max_seg_size;     /* bytes, a multiple of the sector size */
	u32 max_discard;      /* sectors */
	struct spinlock lock; /* vq, spare; interrupts off */
	struct virtqueue vq;
	struct blk_request *spare;
	struct wait_queue wait; /* for room in the queue, or a request's end */
};

static int status_to_errno(u8 status)
{
	if (status == BLK_S_OK)
		return 0;
	return status == BLK_S_UNSUPP ? -EOPNOTSUPP : -EIO;
}

static struct blk_request *get_request(struct virtio_blk *blk)
{
	u64 flags = spin_lock_irqsave(&blk->lock);
	struct blk_request *req = blk->spare;

	if (req)
		blk->spare = req->next;
	spin_unlock_irqrestore(&blk->lock, flags);
	return req ? req : kmalloc(sizeof(*req));
}

static void put_request(struct virtio_blk *blk, struct blk_request *req)
{
	u64 flags = spin_lock_irqsave(&blk->lock);

	req->next = blk->spare;
	blk->spare = req;
	spin_unlock_irqrestore(&blk->lock, flags);
}

/* One request of the bio ended, or the submitter is through with it. The last one ends the bio. */
static void end_part(struct bio *bio, int error)
{
	if (error)
		bio->status = error;
	if (!__atomic_sub_fetch(&bio->parts, 1, __ATOMIC_ACQ_REL))
		bio->done(bio);
}

static void end_request(struct virtio_blk *blk, struct blk_request *req, int error)
{
	struct bio *bio = req->bio;

	if (!bio) {
		/* The waiter owns the request again as soon as it sees this. */
		req->error = error;
		req->ended = true;
		return;
	}
	put_request(blk, req);
	end_part(bio, error);
}

static void blk_interrupt(struct virtio_device *dev)
{
	struct virtio_blk *blk = dev->private;
	struct blk_request *req;

	for (;;) {
		spin_lock(&blk->lock);
		req = virtqueue_get(&blk->vq);
		bool broken = !req && dev->broken;
		if (broken)
			req = virtqueue_take_any(&blk->vq);
		spin_unlock(&blk->lock);
		if (!req)
			break;
		end_request(blk, req, broken ? -EIO : status_to_errno(req->status));
	}
	wake_up(&blk->wait);
}

/* Whether a request of n descriptors can go in now, or never will. */
static bool room_or_broken(struct virtio_blk *blk, unsigned n)
{
	if (virtio_has(blk->dev, VIRTIO_F_INDIRECT_DESC))
		n = 1;
	return READ_ONCE(blk->dev->broken) || READ_ONCE(blk->vq.nr_free) >= n;
}

/*
 * Puts a request with `out` and `in` pieces in req->bufs into the queue, waiting for room. The
 * caller kicks. On an error, -EIO, the request is still the caller's.
 */
static int queue_request(struct virtio_blk *blk, struct blk_request *req, unsigned out, unsigned in)
{
	for (;;) {
		u64 flags = spin_lock_irqsave(&blk->lock);
		int err = blk->dev->broken
			      ? -EIO
			      : virtqueue_add(&blk->vq, req->bufs, out, in, req, req->table);
		if (err == -ENOSPC)
			virtqueue_kick(&blk->vq);
		spin_unlock_irqrestore(&blk->lock, flags);
		if (err != -ENOSPC)
			return err;
		wait_event(blk->wait, room_or_broken(blk, out + in));
	}
}

static void kick(struct virtio_blk *blk)
{
	u64 flags = spin_lock_irqsave(&blk->lock);

	virtqueue_kick(&blk->vq);
	spin_unlock_irqrestore(&blk->lock, flags);
}

static void fill_header(struct blk_request *req, u32 type, u64 sector)
{
	req->header = (struct blk_header){.type = type, .sector = sector};
	req->status = BLK_S_IOERR;
	req->bufs[0] = (struct vq_buf){virt_to_phys(&req->header), sizeof(req->header)};
}

static struct vq_buf status_buf(struct blk_request *req)
{
	return (struct vq_buf){virt_to_phys(&req->status), sizeof(req->status)};
}

/* How far a bio has been handed out. */
struct bio_cursor {
	u32 vec;
	u32 offset; /* in it */
	u64 sector;
};

/* Takes as much of the bio as one request may carry; returns the number of pieces. */
static unsigned take_pieces(struct virtio_blk *blk, struct bio *bio, struct bio_cursor *at,
			    struct vq_buf *bufs)
{
	unsigned n = 0;

	while (n < blk->max_segs && at->vec < bio->nr_vecs) {
		struct bio_vec *vec = &bio->vecs[at->vec];
		u32 len = MIN(vec->len - at->offset, blk->max_seg_size);

		bufs[n++] = (struct vq_buf){vec->phys + at->offset, len};
		at->sector += len >> SECTOR_SHIFT;
		at->offset += len;
		if (at->offset == vec->len) {
			at->vec++;
			at->offset = 0;
		}
	}
	return n;
}

static int submit_part(struct virtio_blk *blk, struct bio *bio, struct bio_cursor *at)
{
	struct blk_request *req = get_request(blk);

	if (!req)
		return -ENOMEM;
	fill_header(req, bio->write ? BLK_T_OUT : BLK_T_IN, at->sector);
	unsigned n = take_pieces(blk, bio, at, req->bufs + 1);
	req->bufs[n + 1] = status_buf(req);
	req->bio = bio;
	__atomic_add_fetch(&bio->parts, 1, __ATOMIC_RELAXED);
	int err = queue_request(blk, req, bio->write ? n + 1 : 1, bio->write ? 1 : n + 1);
	if (err) {
		__atomic_sub_fetch(&bio->parts, 1, __ATOMIC_RELAXED);
		put_request(blk, req);
	}
	return err;
}

static void blk_submit(struct block_device *bdev, struct bio *bio)
{
	struct virtio_blk *blk = bdev->private;
	struct bio_cursor at = {.sector = bio->sector};
	int err = blkdev_check_bio(bdev, bio);

	bio->status = 0;
	bio->parts = 1;
	while (!err && at.vec < bio->nr_vecs)
		err = submit_part(blk, bio, &at);
	kick(blk);
	end_part(bio, err);
}

/* A request without data of the caller's; waits for its end, and gives it back. */
static int run_request(struct virtio_blk *blk, struct blk_request *req, unsigned out)
{
	req->bio = NULL;
	req->ended = false;
	req->bufs[out] = status_buf(req);
	int err = queue_request(blk, req, out, 1);
	if (!err) {
		kick(blk);
		wait_event(blk->wait, req->ended);
		err = req->error;
	}
	put_request(blk, req);
	return err;
}

static int blk_flush(struct block_device *bdev)
{
	struct virtio_blk *blk = bdev->private;

	/* Without the feature the device has no volatile cache (5.2.6.2). */
	if (!virtio_has(blk->dev, BLK_F_FLUSH))
		return 0;
	struct blk_request *req = get_request(blk);
	if (!req)
		return -ENOMEM;
	fill_header(req, BLK_T_FLUSH, 0);
	return run_request(blk, req, 1);
}

static int blk_discard(struct block_device *bdev, u64 sector, u64 sectors)
{
	struct virtio_blk *blk = bdev->private;

	if (!virtio_has(blk->dev, BLK_F_DISCARD))
		return -EOPNOTSUPP;
	if (!blkdev_range_ok(bdev, sector, sectors))
		return -EINVAL;
	while (sectors) {
		u32 now = (u32)MIN(sectors, (u64)blk->max_discard);
		struct blk_request *req = get_request(blk);

		if (!req)
			return -ENOMEM;
		fill_header(req, BLK_T_DISCARD, 0);
		req->discard = (struct blk_discard){.sector = sector, .sectors = now};
		req->bufs[1] = (struct vq_buf){virt_to_phys(&req->discard), sizeof(req->discard)};
		int err = run_request(blk, req, 2);
		if (err)
			return err;
		sector += now;
		sectors -= now;
	}
	return 0;
}

static const struct block_ops blk_ops = {
    .submit = blk_submit,
    .flush = blk_flush,
    .discard = blk_discard,
};

/* Reads the limits, and refuses a device that could not carry one sector. */
static int read_limits(struct virtio_blk *blk)
{
	struct virtio_device *dev = blk->dev;

	blk->bdev.sectors = virtio_config64(dev, CONFIG_CAPACITY);
	blk->bdev.read_only = virtio_has(dev, BLK_F_RO);
	blk->max_segs = virtio_has(dev, BLK_F_SEG_MAX) ? virtio_config32(dev, CONFIG_SEG_MAX) : 1;
	blk->max_seg_size = ~0U;
	if (virtio_has(dev, BLK_F_SIZE_MAX))
		blk->max_seg_size = virtio_config32(dev, CONFIG_SIZE_MAX);
	blk->max_seg_size = ALIGN_DOWN(blk->max_seg_size, 1U << SECTOR_SHIFT);
	if (virtio_has(dev, BLK_F_DISCARD))
		blk->max_discard = virtio_config32(dev, CONFIG_MAX_DISCARD_SECTORS);

	/* A chain is never longer than the queue, indirect or not (2.7.5.3.1). */
	blk->max_segs = MIN(MAX(blk->max_segs, 1U), (u32)MAX_SEGS);
	blk->max_segs = MIN(blk->max_segs, blk->vq.size < 3 ? 0U : blk->vq.size - 2U);
	if (!blk->max_segs || !blk->max_seg_size || !blk->bdev.sectors ||
	    blk->bdev.sectors >> (63 - SECTOR_SHIFT)) {
		printk("%s: refused: %lu sectors, segments of at most %u bytes, queue of %u\n",
		       blk->bdev.name, blk->bdev.sectors, blk->max_seg_size, blk->vq.size);
		return -EINVAL;
	}
	if (!blk->max_discard)
		dev->features &= ~(1ULL << BLK_F_DISCARD);
	return 0;
}

static int blk_probe(struct virtio_device *dev)
{
	static unsigned disks;
	struct virtio_blk *blk = kzalloc(sizeof(*blk));
	int err;

	if (!blk)
		return -ENOMEM;
	if (disks == MAX_DISKS) {
		err = -ENOSPC;
		goto fail;
	}
	blk->dev = dev;
	blk->bdev.ops = &blk_ops;
	blk->bdev.private = blk;
	snprintf(blk->bdev.name, sizeof(blk->bdev.name), "vd%c", 'a' + disks);
	wait_queue_init(&blk->wait);
	err = virtqueue_init(&blk->vq, dev, 0);
	if (err)
		goto fail;
	err = read_limits(blk);
	if (err)
		goto fail_queue;
	disks++;
	dev->private = blk;
	dev->interrupt = blk_interrupt;
	virtio_ready(dev);
	blkdev_register(&blk->bdev);
	return 0;
fail_queue:
	virtqueue_free(&blk->vq);
fail:
	kfree(blk);
	return err;
}

static void blk_shutdown(struct virtio_device *dev)
{
	struct virtio_blk *blk = dev->private;

	while (blk->spare) {
		struct blk_request *req = blk->spare;

		blk->spare = req->next;
		kfree(req);
	}
}

const struct virtio_driver virtio_blk_driver = {
    .id = VIRTIO_ID_BLOCK,
    .name = "virtio-blk",
    .features = 1ULL << BLK_F_SIZE_MAX | 1ULL << BLK_F_SEG_MAX | 1ULL << BLK_F_RO |
		1ULL << BLK_F_FLUSH | 1ULL << BLK_F_DISCARD,
    .probe = blk_probe,
    .shutdown = blk_shutdown,
};
