/*
 * virtio-blk (virtio 1.2, 5.2). A request is a 16-byte header, data, and a
 * status byte at the very end; how they are spread over descriptors is the
 * driver's choice. Data moves between file and guest memory without a copy in
 * between, a piece at a time so that a reset or a stop need not wait for a
 * request of any length.
 */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "devices/disk.h"
#include "devices/disk_backend.h"
#include "devices/state.h"
#include "devices/virtio.h"

/* How much is moved before looking whether to go on. */
#define PIECE_BYTES	  (1U << 20)
#define PIECE_IOVECS	  256

/* Limits announced to the driver, in sectors of 512 bytes. */
#define SEG_MAX		  (VQ_CHAIN_MAX - 2)
#define MAX_DISCARD	  (1U << 21)
#define MAX_DISCARD_SEGS  16
#define MAX_ZEROES	  (1U << 13)
#define MAX_ZEROES_SEGS	  1
#define SECTORS_PER_BLOCK (DISK_BLOCK / DISK_SECTOR)

struct virtio_blk {
	struct virtio_device vdev;
	struct disk *disk;
	char id[VIRTIO_BLK_ID_BYTES];
	struct {
#define X(field, name) _Atomic uint64_t field;
		DISK_COUNTERS(X)
#undef X
	} stats;
	struct iovec iov[PIECE_IOVECS]; /* the worker's */
};

/* One request on its way. */
struct request {
	struct virtio_blk *blk;
	struct virtqueue *vq;
	uint32_t type;
	uint64_t sector;
	struct vq_cursor in, out; /* data to the guest; from it, after the header */
	uint64_t in_len, out_len; /* bytes left of them */
	uint64_t written;	  /* bytes put into the guest's memory */
};

static void count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static bool range_ok(const struct virtio_blk *blk, uint64_t sector, uint64_t len)
{
	uint64_t size = disk_size(blk->disk);

	return len % DISK_SECTOR == 0 && sector <= size / DISK_SECTOR &&
	       len <= size - sector * DISK_SECTOR;
}

/* --- requests; each returns 0 or a negative errno ----------------------------------- */

static int do_read(struct request *rq)
{
	struct virtio_blk *blk = rq->blk;
	uint64_t offset = rq->sector * DISK_SECTOR;

	count(&blk->stats.reads, 1);
	if (!range_ok(blk, rq->sector, rq->in_len))
		return -EINVAL;
	while (rq->written < rq->in_len) {
		uint64_t left = rq->in_len - rq->written, len;
		ssize_t nr = vq_map(rq->vq, &rq->in, left < PIECE_BYTES ? left : PIECE_BYTES,
				    blk->iov, PIECE_IOVECS, &len);
		int rc = nr < 0 ? (int)nr : disk_read(blk->disk, offset, blk->iov, (size_t)nr, len);

		if (rc)
			return rc;
		if (virtio_cancelled(&blk->vdev))
			return -ECANCELED;
		offset += len;
		rq->written += len;
		count(&blk->stats.bytes_read, len);
	}
	return 0;
}

static int do_write(struct request *rq)
{
	struct virtio_blk *blk = rq->blk;
	uint64_t offset = rq->sector * DISK_SECTOR, left = rq->out_len;

	count(&blk->stats.writes, 1);
	if (disk_mode(blk->disk) == DISK_RO)
		return -EROFS;
	if (!range_ok(blk, rq->sector, left))
		return -EINVAL;
	while (left > 0) {
		uint64_t len;
		ssize_t nr = vq_map(rq->vq, &rq->out, left < PIECE_BYTES ? left : PIECE_BYTES,
				    blk->iov, PIECE_IOVECS, &len);
		int rc =
		    nr < 0 ? (int)nr : disk_write(blk->disk, offset, blk->iov, (size_t)nr, len);

		if (rc)
			return rc;
		if (virtio_cancelled(&blk->vdev))
			return -ECANCELED;
		offset += len;
		left -= len;
		count(&blk->stats.bytes_written, len);
	}
	return 0;
}

static int do_flush(struct request *rq)
{
	count(&rq->blk->stats.flushes, 1);
	return disk_flush(rq->blk->disk);
}

static int do_get_id(struct request *rq)
{
	size_t len = sizeof(rq->blk->id);
	int rc;

	if (rq->in_len < len)
		len = rq->in_len;
	rc = vq_copy_in(rq->vq, &rq->in, rq->blk->id, len);
	if (rc == 0)
		rq->written = len;
	return rc;
}

static int discard_segment(struct virtio_blk *blk,
			   const struct virtio_blk_discard_write_zeroes *seg)
{
	uint64_t len = (uint64_t)seg->num_sectors * DISK_SECTOR;

	if (seg->flags) /* reserved for this request (5.2.6.2) */
		return -EOPNOTSUPP;
	if (seg->num_sectors > MAX_DISCARD || !range_ok(blk, seg->sector, len))
		return -EINVAL;
	return len ? disk_discard(blk->disk, seg->sector * DISK_SECTOR, len) : 0;
}

static int zeroes_segment(struct virtio_blk *blk, const struct virtio_blk_discard_write_zeroes *seg)
{
	uint64_t len = (uint64_t)seg->num_sectors * DISK_SECTOR;

	if (seg->flags & ~VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP)
		return -EOPNOTSUPP;
	if (seg->num_sectors > MAX_ZEROES || !range_ok(blk, seg->sector, len))
		return -EINVAL;
	return len ? disk_write_zeroes(blk->disk, seg->sector * DISK_SECTOR, len, seg->flags) : 0;
}

/* Both carry an array of segments as their data. */
static int do_segments(struct request *rq, unsigned max,
		       int (*segment)(struct virtio_blk *,
				      const struct virtio_blk_discard_write_zeroes *))
{
	struct virtio_blk_discard_write_zeroes seg;
	uint64_t nr = rq->out_len / sizeof(seg);

	if (disk_mode(rq->blk->disk) == DISK_RO)
		return -EROFS;
	if (nr == 0 || nr > max || rq->out_len % sizeof(seg))
		return -EINVAL;
	for (uint64_t i = 0; i < nr; i++) {
		int rc = vq_copy_out(rq->vq, &rq->out, &seg, sizeof(seg));

		if (rc == 0)
			rc = segment(rq->blk, &seg);
		if (rc)
			return rc;
		if (virtio_cancelled(&rq->blk->vdev))
			return -ECANCELED;
	}
	return 0;
}

/*
 * A driver that did not take the flush command may count on a write when it is
 * answered (5.2.6.2). The features are settled while the worker serves.
 */
static int write_through(struct request *rq)
{
	if (virtio_negotiated(&rq->blk->vdev, VIRTIO_BLK_F_FLUSH))
		return 0;
	return disk_flush(rq->blk->disk);
}

static int dispatch(struct request *rq)
{
	int rc;

	switch (rq->type) {
	case VIRTIO_BLK_T_IN:
		return do_read(rq);
	case VIRTIO_BLK_T_OUT:
		rc = do_write(rq);
		return rc ? rc : write_through(rq);
	case VIRTIO_BLK_T_FLUSH:
		return do_flush(rq);
	case VIRTIO_BLK_T_GET_ID:
		return do_get_id(rq);
	case VIRTIO_BLK_T_DISCARD:
		count(&rq->blk->stats.discards, 1);
		return do_segments(rq, MAX_DISCARD_SEGS, discard_segment);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		count(&rq->blk->stats.writes, 1);
		rc = do_segments(rq, MAX_ZEROES_SEGS, zeroes_segment);
		return rc ? rc : write_through(rq);
	}
	return -EOPNOTSUPP;
}

/* --- framing ---------------------------------------------------------------------------- */

/* Take the header off; 0 or why there is no request that could be answered. */
static int request_begin(struct request *rq, struct virtqueue *vq, const struct vq_chain *chain)
{
	struct virtio_blk_outhdr header;
	int rc;

	if (chain->readable < sizeof(header) || chain->writable < 1)
		return vq_break(vq, "a block request lacks its header or its status byte");
	rq->in = vq_writable(chain);
	rq->out = vq_readable(chain);
	rq->in_len = chain->writable - 1;
	rq->out_len = chain->readable - sizeof(header);
	rc = vq_copy_out(vq, &rq->out, &header, sizeof(header));
	if (rc == -ESHUTDOWN)
		return rc;
	if (rc)
		return vq_break(vq, "a block request's header lies outside of guest memory");
	rq->type = header.type;
	rq->sector = header.sector;
	return 0;
}

static int request_end(struct request *rq, const struct vq_chain *chain, uint8_t status,
		       uint32_t *written)
{
	struct vq_cursor last = vq_writable(chain);
	int rc;

	vq_skip(&last, chain->writable - 1);
	rc = vq_copy_in(rq->vq, &last, &status, sizeof(status));
	if (rc == -ESHUTDOWN)
		return rc;
	if (rc)
		return vq_break(rq->vq, "a block request's status lies outside of guest memory");
	/* What is promised to be written is without gaps (2.7.8.2). */
	if (rq->written == rq->in_len)
		rq->written += sizeof(status);
	*written = rq->written < UINT32_MAX ? (uint32_t)rq->written : UINT32_MAX;
	return 0;
}

static int blk_serve(struct virtio_device *vdev, struct virtqueue *vq, struct vq_chain *chain,
		     uint32_t *written)
{
	struct virtio_blk *blk = device_of(vdev, struct virtio_blk, vdev);
	struct request rq = {.blk = blk, .vq = vq};
	int rc = request_begin(&rq, vq, chain);
	uint8_t status;

	if (rc)
		return rc;
	rc = dispatch(&rq);
	if (rc == -ECANCELED || rc == -ESHUTDOWN)
		return rc;
	if (rc)
		count(&blk->stats.errors, 1);
	status = rc == 0	     ? VIRTIO_BLK_S_OK
		 : rc == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP
				     : VIRTIO_BLK_S_IOERR;
	return request_end(&rq, chain, status, written);
}

/* --- the device ---------------------------------------------------------------------------- */

/* What a copy-on-write disk holds in memory is no part of it: virtio_blk_save_layers(). */
static void blk_state(struct virtio_device *vdev, struct state *s)
{
	const struct virtio_blk *blk = device_of(vdev, struct virtio_blk, vdev);

	state_fixed(s, disk_size(blk->disk), "the disk's size");
	state_fixed(s, disk_mode(blk->disk), "the disk's mode");
}

static const struct virtio_type blk_type = {
    .id = VIRTIO_ID_BLOCK,
    .label = "blk",
    .nr_queues = 1,
    .serve = blk_serve,
    .state = blk_state,
};

void virtio_blk_stats(struct device *dev, struct disk_stats *out)
{
	struct virtio_blk *blk = device_of(virtio_of(dev), struct virtio_blk, vdev);

#define X(field, name) out->field = atomic_load_explicit(&blk->stats.field, memory_order_relaxed);
	DISK_COUNTERS(X)
#undef X
	out->file_bytes = disk_size(blk->disk);
	out->file_read = disk_file_read(blk->disk);
}

static struct disk *disk_of(struct device *dev)
{
	return device_of(virtio_of(dev), struct virtio_blk, vdev)->disk;
}

int virtio_blk_freeze(struct device *dev)
{
	return disk_freeze(disk_of(dev));
}

int virtio_blk_freeze_passing(struct device *dev)
{
	return disk_freeze_passing(disk_of(dev));
}

int virtio_blk_fold(struct device *dev)
{
	return disk_fold(disk_of(dev));
}

void virtio_blk_folded(struct device *dev)
{
	disk_folded(disk_of(dev));
}

int virtio_blk_mark(struct device *dev)
{
	return disk_mark(disk_of(dev));
}

void virtio_blk_go_back(struct device *dev)
{
	disk_go_back(disk_of(dev));
}

int virtio_blk_save_layers(struct device *dev, int fd)
{
	return disk_save_layers(disk_of(dev), fd, NULL, 0);
}

int virtio_blk_save_difference(struct device *dev, int fd, const int *parents, unsigned count)
{
	return disk_save_layers(disk_of(dev), fd, parents, count);
}

int virtio_blk_load_layer(struct device *dev, int fd)
{
	return disk_load_layer(disk_of(dev), fd);
}

struct disk_layer *virtio_blk_give_layers(struct device *dev)
{
	return disk_give_layers(disk_of(dev));
}

int virtio_blk_share(struct device *dev, int socket)
{
	return disk_share(disk_of(dev), socket);
}

void virtio_blk_take_layers(struct device *dev, struct disk_layer *layers)
{
	disk_take_layers(disk_of(dev), layers);
}

static void blk_destroy(struct device *dev)
{
	struct virtio_blk *blk = device_of(virtio_of(dev), struct virtio_blk, vdev);

	virtio_fini(&blk->vdev);
	disk_close(blk->disk);
	free(blk);
}

const struct device_ops virtio_blk_device = {
    .kind = "virtio-blk",
    VIRTIO_DEVICE_OPS,
    .destroy = blk_destroy,
};

static uint64_t blk_features(enum disk_mode mode)
{
	uint64_t features = 1ULL << VIRTIO_BLK_F_SEG_MAX | 1ULL << VIRTIO_BLK_F_BLK_SIZE |
			    1ULL << VIRTIO_BLK_F_FLUSH;

	if (mode == DISK_RO)
		return features | 1ULL << VIRTIO_BLK_F_RO;
	return features | 1ULL << VIRTIO_BLK_F_DISCARD | 1ULL << VIRTIO_BLK_F_WRITE_ZEROES;
}

/* Takes @disk, also on failure. */
static int create(const struct device_host *host, unsigned pin, struct disk *disk, const char *name,
		  struct device **out)
{
	struct virtio_blk_config config = {
	    .seg_max = SEG_MAX,
	    .blk_size = DISK_SECTOR,
	    .max_discard_sectors = MAX_DISCARD,
	    .max_discard_seg = MAX_DISCARD_SEGS,
	    .discard_sector_alignment = SECTORS_PER_BLOCK,
	    .max_write_zeroes_sectors = MAX_ZEROES,
	    .max_write_zeroes_seg = MAX_ZEROES_SEGS,
	    .write_zeroes_may_unmap = 1,
	    .capacity = disk_size(disk) / DISK_SECTOR,
	};
	struct virtio_blk *blk = calloc(1, sizeof(*blk));
	const char *base = strrchr(name, '/');
	int rc = -ENOMEM;

	if (!blk)
		goto err_disk;
	blk->disk = disk;
	/* Up to 20 characters, terminated only if shorter (5.2.6.1). */
	base = base ? base + 1 : name;
	memcpy(blk->id, base, strnlen(base, sizeof(blk->id)));
	rc = virtio_init(&blk->vdev, &virtio_blk_device, host, &blk_type, pin,
			 blk_features(disk_mode(disk)), &config, sizeof(config));
	if (rc)
		goto err_free;
	disk_cancel_on(disk, &blk->vdev.cancel);
	*out = &blk->vdev.dev;
	return 0;

err_free:
	free(blk);
err_disk:
	disk_close(disk);
	return rc;
}

int virtio_blk_create(const struct device_host *host, unsigned pin, int fd, const char *name,
		      enum disk_mode mode, struct device **out)
{
	struct disk *disk;
	int rc = disk_open(fd, mode, &disk);

	return rc ? rc : create(host, pin, disk, name, out);
}

int virtio_blk_create_on(const struct device_host *host, unsigned pin, struct disk_backend *backend,
			 const char *name, enum disk_mode mode, struct device **out)
{
	struct disk *disk;
	int rc =
	    mode == DISK_SHARED && !backend->writable ? -EROFS : disk_open_on(backend, mode, &disk);

	if (rc) {
		disk_backend_close(backend);
		return rc;
	}
	return create(host, pin, disk, name, out);
}
