/* Block devices: what drivers offer and filesystems use. Sectors are 512 bytes. */
#ifndef GUEST_BLOCK_H
#define GUEST_BLOCK_H

#include "guest/include/errno.h"
#include "guest/include/types.h"

#define SECTOR_SHIFT 9
#define BIO_MAX_VECS 64

/* A physically contiguous piece of memory; len is a multiple of 512. */
struct bio_vec {
	u64 phys;
	u32 len;
};

/* One transfer between consecutive sectors and pieces of memory, the DMA going straight there. */
struct bio {
	u64 sector;
	bool write;
	int status;		       /* 0 or negative errno, valid in done */
	u32 nr_vecs;		       /* used entries of vecs */
	void (*done)(struct bio *bio); /* called once, in interrupt or submitter's context */
	void *private;		       /* the submitter's, for done */
	struct bio *next;	       /* the driver's while it holds the bio */
	u32 parts;		       /* the driver's: requests of it still at the device */
	struct bio_vec vecs[BIO_MAX_VECS];
};

struct block_device;

struct block_ops {
	/*
	 * Starts the transfer. Process context, may sleep for room in the queue. Every error,
	 * a range past the end of the device included, is reported through bio->done, which
	 * may have run before this returns. The bio is the caller's again in done.
	 */
	void (*submit)(struct block_device *bdev, struct bio *bio);
	/* Makes completed writes durable. Sleeps. 0 or negative errno. */
	int (*flush)(struct block_device *bdev);
	/*
	 * Tells the device that the contents of `sectors` sectors are of no use any more; reading
	 * them gives zeroes or what was there. Sleeps. 0, -EOPNOTSUPP or another negative errno.
	 * NULL if the device cannot.
	 */
	int (*discard)(struct block_device *bdev, u64 sector, u64 sectors);
	/*
	 * Persistent memory only (else NULL): the physical address of a sector, good for all
	 * sectors up to the end of the device, reachable by phys_to_virt. 0 or -ERANGE.
	 */
	int (*direct)(struct block_device *bdev, u64 sector, u64 *phys);
};

struct block_device {
	char name[16]; /* vda, pmem0 */
	u64 sectors;
	bool read_only;
	const struct block_ops *ops;
	void *private; /* the driver's */
	struct block_device *next;
};

/* Called once at boot: finds and starts all devices the command line names. */
void drivers_init(void);

/* Adds a filled-in device; it stays forever. */
void blkdev_register(struct block_device *bdev);

/* By name, without "/dev/"; NULL if there is none. */
struct block_device *blkdev_lookup(const char *name);

/* Stops the devices' DMA before the machine is switched off. */
void drivers_shutdown(void);

static inline void blkdev_submit(struct block_device *bdev, struct bio *bio)
{
	bdev->ops->submit(bdev, bio);
}

static inline int blkdev_flush(struct block_device *bdev)
{
	return bdev->ops->flush ? bdev->ops->flush(bdev) : 0;
}

static inline int blkdev_discard(struct block_device *bdev, u64 sector, u64 sectors)
{
	return bdev->ops->discard ? bdev->ops->discard(bdev, sector, sectors) : -EOPNOTSUPP;
}

/* For submit: 0, -EINVAL (an empty or odd bio), -ERANGE (past the end) or -EROFS. */
int blkdev_check_bio(const struct block_device *bdev, const struct bio *bio);

/* Whether the sectors lie on the device, without overflow for any values. */
static inline bool blkdev_range_ok(const struct block_device *bdev, u64 sector, u64 sectors)
{
	return sector <= bdev->sectors && sectors <= bdev->sectors - sector;
}

#endif
