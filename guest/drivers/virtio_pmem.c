/*
 * Persistent memory (virtio 1.2, section 5.19): pmem0, pmem1, ... The storage lies in
 * guest-physical memory, so files on it are mapped without a copy; a request to the device is
 * only needed to make stores durable.
 */
#include "guest/abi.h"
#include "guest/drivers/virtio.h"
#include "guest/include/block.h"
#include "guest/include/boot.h"
#include "guest/include/page.h"
#include "guest/include/printk.h"
#include "guest/include/sched.h"
#include "guest/include/string.h"

/* Offsets in the configuration. */
enum { CONFIG_START = 0, CONFIG_SIZE = 8 };

enum { PMEM_T_FLUSH = 0 };

struct virtio_pmem {
	struct block_device bdev;
	struct virtio_device *dev;
	u64 start;	      /* physical */
	struct spinlock lock; /* vq; interrupts off */
	struct virtqueue vq;
	struct mutex flushing; /* one flush at a time; guards type, ret */
	struct wait_queue wait;
	volatile bool ended;
	bool failed;
	u32 type; /* what the device reads */
	u32 ret;  /* what it writes */
};

static void pmem_interrupt(struct virtio_device *dev)
{
	struct virtio_pmem *pmem = dev->private;

	spin_lock(&pmem->lock);
	while (virtqueue_get(&pmem->vq))
		pmem->ended = true;
	spin_unlock(&pmem->lock);
	if (dev->broken) {
		pmem->failed = true;
		pmem->ended = true;
	}
	wake_up(&pmem->wait);
}

/* Asks the device once, and waits; under the mutex. */
static int flush_once(struct virtio_pmem *pmem)
{
	const struct vq_buf bufs[] = {
	    {virt_to_phys(&pmem->type), sizeof(pmem->type)},
	    {virt_to_phys(&pmem->ret), sizeof(pmem->ret)},
	};

	pmem->ended = false;
	pmem->type = PMEM_T_FLUSH;
	pmem->ret = ~0U;
	u64 flags = spin_lock_irqsave(&pmem->lock);
	int err = pmem->dev->broken ? -EIO : virtqueue_add(&pmem->vq, bufs, 1, 1, pmem, NULL);
	if (!err)
		virtqueue_kick(&pmem->vq);
	spin_unlock_irqrestore(&pmem->lock, flags);
	if (err)
		return -EIO;
	wait_event(pmem->wait, pmem->ended);
	return pmem->failed || pmem->ret ? -EIO : 0;
}

static int pmem_flush(struct block_device *bdev)
{
	struct virtio_pmem *pmem = bdev->private;

	mutex_lock(&pmem->flushing);
	int err = flush_once(pmem);
	mutex_unlock(&pmem->flushing);
	return err;
}

static int pmem_direct(struct block_device *bdev, u64 sector, u64 *phys)
{
	struct virtio_pmem *pmem = bdev->private;

	if (sector >= bdev->sectors)
		return -ERANGE;
	*phys = pmem->start + (sector << SECTOR_SHIFT);
	return 0;
}

/* Copies at once. Files do not come this way: their pages are mapped where they lie. */
static void pmem_submit(struct block_device *bdev, struct bio *bio)
{
	struct virtio_pmem *pmem = bdev->private;
	char *at = (char *)phys_to_virt(pmem->start) + (bio->sector << SECTOR_SHIFT);

	bio->status = blkdev_check_bio(bdev, bio);
	for (u32 i = 0; !bio->status && i < bio->nr_vecs; i++) {
		void *mem = phys_to_virt(bio->vecs[i].phys);

		if (bio->write)
			memcpy(at, mem, bio->vecs[i].len);
		else
			memcpy(mem, at, bio->vecs[i].len);
		at += bio->vecs[i].len;
	}
	bio->done(bio);
}

static const struct block_ops pmem_ops = {
    .submit = pmem_submit,
    .flush = pmem_flush,
    .direct = pmem_direct,
};

static bool overlaps(u64 start, u64 end, u64 other, u64 other_end)
{
	return start < other_end && other < end;
}

/* The device's word for where its memory is counts only where nothing else is. */
static bool is_free(u64 start, u64 size)
{
	u64 end = start + size;

	if (end < start || overlaps(start, end, FOAL_MMIO_GAP_START, FOAL_MMIO_GAP_END))
		return false;
	for (u32 i = 0; i < boot_info.nr_ranges; i++) {
		const struct boot_range *r = &boot_info.ranges[i];

		if (overlaps(start, end, r->start, r->start + r->len))
			return false;
	}
	return true;
}

static int read_range(struct virtio_pmem *pmem)
{
	u64 size = virtio_config64(pmem->dev, CONFIG_SIZE);

	pmem->start = virtio_config64(pmem->dev, CONFIG_START);
	if (!size || !IS_ALIGNED(pmem->start | size, PAGE_SIZE) || !is_free(pmem->start, size) ||
	    !direct_map_add(pmem->start, size)) {
		printk("%s: refused: 0x%lx bytes at 0x%lx cannot be persistent memory\n",
		       pmem->bdev.name, size, pmem->start);
		return -EINVAL;
	}
	pmem->bdev.sectors = size >> SECTOR_SHIFT;
	return 0;
}

static int pmem_probe(struct virtio_device *dev)
{
	static unsigned devices;
	struct virtio_pmem *pmem = kzalloc(sizeof(*pmem));
	int err;

	if (!pmem)
		return -ENOMEM;
	pmem->dev = dev;
	pmem->bdev.ops = &pmem_ops;
	pmem->bdev.private = pmem;
	snprintf(pmem->bdev.name, sizeof(pmem->bdev.name), "pmem%u", devices);
	wait_queue_init(&pmem->wait);
	mutex_init(&pmem->flushing);
	err = read_range(pmem);
	if (err)
		goto fail;
	err = virtqueue_init(&pmem->vq, dev, 0);
	if (err)
		goto fail;
	devices++;
	dev->private = pmem;
	dev->interrupt = pmem_interrupt;
	virtio_ready(dev);
	blkdev_register(&pmem->bdev);
	return 0;
fail:
	kfree(pmem);
	return err;
}

const struct virtio_driver virtio_pmem_driver = {
    .id = VIRTIO_ID_PMEM,
    .name = "virtio-pmem",
    .probe = pmem_probe,
};
