/* The list of block devices. */
#include "guest/include/block.h"
#include "guest/drivers/virtio.h"
#include "guest/include/printk.h"
#include "guest/include/string.h"

static struct block_device *first;

void drivers_init(void)
{
	virtio_mmio_init();
}

void drivers_shutdown(void)
{
	virtio_mmio_shutdown();
}

void blkdev_register(struct block_device *bdev)
{
	struct block_device **end = &first;

	while (*end)
		end = &(*end)->next;
	bdev->next = NULL;
	*end = bdev;
	pr_info("%s: %lu MiB%s\n", bdev->name, bdev->sectors >> (20 - SECTOR_SHIFT),
		bdev->read_only ? ", read-only" : "");
}

struct block_device *blkdev_lookup(const char *name)
{
	for (struct block_device *bdev = first; bdev; bdev = bdev->next) {
		if (!strcmp(bdev->name, name))
			return bdev;
	}
	return NULL;
}

int blkdev_check_bio(const struct block_device *bdev, const struct bio *bio)
{
	u64 bytes = 0;

	if (!bio->nr_vecs || bio->nr_vecs > BIO_MAX_VECS)
		return -EINVAL;
	for (u32 i = 0; i < bio->nr_vecs; i++) {
		u32 len = bio->vecs[i].len;

		if (!len || !IS_ALIGNED(len, 1U << SECTOR_SHIFT))
			return -EINVAL;
		bytes += len;
	}
	if (!blkdev_range_ok(bdev, bio->sector, bytes >> SECTOR_SHIFT))
		return -ERANGE;
	return bio->write && bdev->read_only ? -EROFS : 0;
}
