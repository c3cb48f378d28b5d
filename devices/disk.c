/* Disks over a backend: read-only, copy-on-write, shared. */
#include "devices/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/block_map.h"
#include "devices/disk_backend.h"
#include "devices/disk_layer.h"

struct disk {
	enum disk_mode mode;
	struct disk_backend *backend;
	int overlay;			   /* -1 until the first write */
	struct disk_layer *layers;	   /* between overlay and backend; NULL: none */
	_Atomic(struct disk_layer *) base; /* what a reader folds layers into; NULL: nothing */
	atomic_bool folded;		   /* it has */
	struct disk_layer *mark;	   /* of these, the newest at the reset point */
	int flush_error;		   /* negative; see disk_flush() */
	uint64_t size;
	/* A bit a block; allocated when first needed. */
	uint64_t *in_overlay, *was_read;
	_Atomic uint64_t file_read;
};

uint64_t disk_size(const struct disk *disk)
{
	return disk->size;
}

enum disk_mode disk_mode(const struct disk *disk)
{
	return disk->mode;
}

uint64_t disk_file_read(const struct disk *disk)
{
	return atomic_load_explicit(&disk->file_read, memory_order_relaxed);
}

static uint64_t min64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t nr_blocks(const struct disk *disk)
{
	return (disk->size + DISK_BLOCK - 1) / DISK_BLOCK;
}

/* --- reading the backend -------------------------------------------------------------- */

static void note_read(struct disk *disk, uint64_t offset, uint64_t len)
{
	uint64_t end = (offset + len + DISK_BLOCK - 1) / DISK_BLOCK, new = 0;

	/* Without memory for the map the count stays behind; the read is good. */
	if (block_map_need(&disk->was_read, nr_blocks(disk)))
		return;
	for (uint64_t block = offset / DISK_BLOCK; block < end; block++) {
		if (block_map_test(disk->was_read, block))
			continue;
		block_map_set(disk->was_read, block, block + 1);
		new += min64(DISK_BLOCK, disk->size - block * DISK_BLOCK);
	}
	atomic_fetch_add_explicit(&disk->file_read, new, memory_order_relaxed);
}

static int read_backend(struct disk *disk, struct iov_cursor *cursor, uint64_t len, uint64_t offset)
{
	int rc = disk->backend->ops->read(disk->backend, cursor, len, offset);

	if (rc == 0)
		note_read(disk, offset, len);
	return rc;
}

/* --- copy-on-write ----------------------------------------------------------------------- */

static int overlay_need(struct disk *disk)
{
	int rc = block_map_need(&disk->in_overlay, nr_blocks(disk));

	if (rc || disk->overlay >= 0)
		return rc;
	disk->overlay = memfd_create("foal-overlay", MFD_CLOEXEC);
	if (disk->overlay < 0)
		return -errno;
	if (ftruncate(disk->overlay, (off_t)disk->size)) {
		rc = -errno;
		close(disk->overlay);
		disk->overlay = -1;
	}
	return rc;
}

/* What lies under the overlay; @layer is that which has all of the blocks, or NULL. */
static int read_below(struct disk *disk, const struct disk_layer *layer, struct iov_cursor *cursor,
		      uint64_t len, uint64_t offset)
{
	return layer ? disk_layer_read(layer, cursor, len, offset)
		     : read_backend(disk, cursor, len, offset);
}

/* A block that is written in part takes the rest from below first. */
static int overlay_fill(struct disk *disk, uint64_t block)
{
	uint64_t offset = block * DISK_BLOCK, len = min64(DISK_BLOCK, disk->size - offset);
	uint8_t data[DISK_BLOCK];
	struct iovec iov = {data, len};
	struct iov_cursor cursor = {&iov, 1};
	int rc;

	if (block_map_test(disk->in_overlay, block))
		return 0;
	rc = read_below(disk, disk_layer_find(disk->layers, block), &cursor, len, offset);
	if (rc)
		return rc;
	iov = (struct iovec){data, len};
	cursor = (struct iov_cursor){&iov, 1};
	rc = file_transfer(disk->overlay, TO_FILE, &cursor, len, offset);
	if (rc == 0)
		block_map_set(disk->in_overlay, block, block + 1);
	return rc;
}

/* Ready the overlay for new contents of the range; its whole blocks need nothing of the backend. */
static int overlay_prepare(struct disk *disk, uint64_t offset, uint64_t len)
{
	uint64_t end = offset + len;
	int rc = overlay_need(disk);

	if (rc == 0 && offset % DISK_BLOCK)
		rc = overlay_fill(disk, offset / DISK_BLOCK);
	if (rc == 0 && end % DISK_BLOCK && end != disk->size)
		rc = overlay_fill(disk, end / DISK_BLOCK);
	return rc;
}

static void overlay_done(struct disk *disk, uint64_t offset, uint64_t len)
{
	block_map_set(disk->in_overlay, offset / DISK_BLOCK, (offset + len - 1) / DISK_BLOCK + 1);
}

static int overlay_write(struct disk *disk, uint64_t offset, struct iov_cursor *cursor,
			 uint64_t len)
{
	int rc = overlay_prepare(disk, offset, len);

	if (rc == 0)
		rc = file_transfer(disk->overlay, TO_FILE, cursor, len, offset);
	if (rc == 0)
		overlay_done(disk, offset, len);
	return rc;
}

static int overlay_zero(struct disk *disk, uint64_t offset, uint64_t len)
{
	int rc = overlay_prepare(disk, offset, len);

	if (rc)
		return rc;
	if (fallocate(disk->overlay, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
		      (off_t)len))
		return -errno;
	overlay_done(disk, offset, len);
	return 0;
}

/* Runs of blocks lie in the overlay, in a layer or in the backend by turns. */
static int overlay_read(struct disk *disk, uint64_t offset, struct iov_cursor *cursor, uint64_t len)
{
	uint64_t end = offset + len;

	while (offset < end) {
		uint64_t block = offset / DISK_BLOCK, next = block + 1, run;
		bool in = block_map_test(disk->in_overlay, block);
		const struct disk_layer *layer = in ? NULL : disk_layer_find(disk->layers, block);
		int rc;

		while (next * DISK_BLOCK < end && block_map_test(disk->in_overlay, next) == in &&
		       (in || disk_layer_find(disk->layers, next) == layer))
			next++;
		run = min64(end, next * DISK_BLOCK) - offset;
		rc = in ? file_transfer(disk->overlay, FROM_FILE, cursor, run, offset)
			: read_below(disk, layer, cursor, run, offset);
		if (rc)
			return rc;
		offset += run;
	}
	return 0;
}

/* --- requests, by mode ---------------------------------------------------------------------- */

static void forget_folded(struct disk *disk)
{
	struct disk_layer *base = disk->base;

	if (!atomic_load_explicit(&disk->folded, memory_order_acquire))
		return;
	atomic_store_explicit(&disk->folded, false, memory_order_relaxed);
	if (base) /* else the disk went back meanwhile, and nothing is left of it */
		disk->layers = disk_layer_folded(disk->layers, base, disk->size);
	disk->base = NULL;
}

int disk_read(struct disk *disk, uint64_t offset, struct iovec *iov, size_t nr, uint64_t len)
{
	struct iov_cursor cursor = {iov, nr};

	forget_folded(disk);

	if (disk->mode == DISK_COW)
		return overlay_read(disk, offset, &cursor, len);
	return read_backend(disk, &cursor, len, offset);
}

int disk_write(struct disk *disk, uint64_t offset, struct iovec *iov, size_t nr, uint64_t len)
{
	struct iov_cursor cursor = {iov, nr};

	switch (disk->mode) {
	case DISK_RO:
		return -EROFS;
	case DISK_COW:
		return len ? overlay_write(disk, offset, &cursor, len) : 0;
	case DISK_SHARED:
		return disk->backend->ops->write(disk->backend, &cursor, len, offset);
	}
	return -EINVAL;
}

/*
 * After a failed fdatasync the host may have dropped what was to be written and
 * report success from then on (fsync(2)): no later flush can make up for it.
 */
int disk_flush(struct disk *disk)
{
	int rc;

	if (disk->mode != DISK_SHARED || disk->flush_error)
		return disk->flush_error;
	rc = disk->backend->ops->flush(disk->backend);
	if (rc != -ECANCELED)
		disk->flush_error = rc;
	return rc;
}

int disk_discard(struct disk *disk, uint64_t offset, uint64_t len)
{
	uint64_t first = (offset + DISK_BLOCK - 1) / DISK_BLOCK * DISK_BLOCK;
	uint64_t end = (offset + len) / DISK_BLOCK * DISK_BLOCK;

	switch (disk->mode) {
	case DISK_RO:
		return -EROFS;
	case DISK_COW: /* whole blocks only: half a block gives nothing back */
		return first < end ? overlay_zero(disk, first, end - first) : 0;
	case DISK_SHARED:
		return disk->backend->ops->discard(disk->backend, offset, len);
	}
	return -EINVAL;
}

int disk_write_zeroes(struct disk *disk, uint64_t offset, uint64_t len, bool unmap)
{
	switch (disk->mode) {
	case DISK_RO:
		return -EROFS;
	case DISK_COW:
		return overlay_zero(disk, offset, len);
	case DISK_SHARED:
		return disk->backend->ops->zero(disk->backend, offset, len, unmap);
	}
	return -EINVAL;
}

/* --- layers --------------------------------------------------------------------------- */

static int freeze(struct disk *disk)
{
	struct disk_layer *layer;

	if (disk->mode != DISK_COW || disk->overlay < 0)
		return 0;
	layer = disk_layer_freeze(disk->overlay, disk->in_overlay, disk->layers);
	if (!layer)
		return -ENOMEM;
	disk->layers = layer;
	disk->overlay = -1;
	disk->in_overlay = NULL;
	return 0;
}

/* What a fork or a reset point froze stays. */
int disk_freeze(struct disk *disk)
{
	forget_folded(disk);
	if (disk->overlay >= 0 && disk_layer_count(disk->layers) >= DISK_LAYERS_MAX)
		return -EMLINK;
	int rc = freeze(disk);
	disk_layer_keep(disk->layers);
	return rc;
}

int disk_freeze_passing(struct disk *disk)
{
	const struct disk_layer *was;
	int rc;

	forget_folded(disk);
	was = disk->layers;
	rc = freeze(disk);
	if (rc == 0 && disk->layers != was)
		disk_layer_pass(disk->layers);
	disk->base = rc ? NULL : disk_layer_base(disk->layers);
	return rc;
}

int disk_mark(struct disk *disk)
{
	int rc = disk_freeze(disk);

	if (rc == 0)
		disk->mark = disk->layers;
	return rc;
}

/* The layer at the mark is kept: nothing was folded into it, or from it. */
void disk_go_back(struct disk *disk)
{
	if (disk->overlay >= 0)
		close(disk->overlay);
	disk->overlay = -1;
	free(disk->in_overlay);
	disk->in_overlay = NULL;
	forget_folded(disk);
	disk->base = NULL;
	disk_layer_free_above(disk->layers, disk->mark);
	disk->layers = disk->mark;
}

int disk_fold(const struct disk *disk)
{
	return disk->base ? disk_layer_fold(disk->layers, disk->base, disk->size) : 0;
}

void disk_folded(struct disk *disk)
{
	if (disk->base)
		atomic_store_explicit(&disk->folded, true, memory_order_release);
}

int disk_save_layers(const struct disk *disk, int fd, const int *parents, unsigned count)
{
	struct disk_layer *below = NULL;
	int rc = disk_layer_open_all(parents, count, disk->size, &below);

	if (rc == 0)
		rc = disk_layer_save(disk->layers, below, disk->backend, disk->size, fd);
	disk_layer_free(below);
	return rc;
}

int disk_load_layer(struct disk *disk, int fd)
{
	if (disk->mode != DISK_COW || disk->overlay >= 0 ||
	    (disk->layers && !disk_layer_is_file(disk->layers)))
		return -EBUSY;
	return disk_layer_open(fd, disk->size, disk->layers, &disk->layers);
}

struct disk_layer *disk_give_layers(struct disk *disk)
{
	struct disk_layer *layers = disk->layers;

	disk->layers = NULL;
	return layers;
}

int disk_share(struct disk *disk, int socket)
{
	return disk->backend->ops->share ? disk->backend->ops->share(disk->backend, socket)
					 : -EPIPE;
}

void disk_take_layers(struct disk *disk, struct disk_layer *layers)
{
	disk->layers = layers;
}

/* --- opening -------------------------------------------------------------------------- */

int disk_open_on(struct disk_backend *backend, enum disk_mode mode, struct disk **out)
{
	struct disk *disk;

	if (backend->size == 0 || backend->size % DISK_SECTOR || backend->size > INT64_MAX)
		return -EINVAL;
	disk = calloc(1, sizeof(*disk));
	if (!disk)
		return -ENOMEM;
	disk->mode = mode;
	disk->backend = backend;
	disk->overlay = -1;
	disk->size = backend->size;
	*out = disk;
	return 0;
}

int disk_open(int fd, enum disk_mode mode, struct disk **out)
{
	struct disk_backend *backend;
	int rc = disk_file_open(fd, mode == DISK_SHARED, &backend);

	if (rc)
		return rc;
	rc = disk_open_on(backend, mode, out);
	if (rc)
		disk_backend_close(backend);
	return rc;
}

void disk_cancel_on(struct disk *disk, const atomic_bool *cancel)
{
	disk->backend->cancel = cancel;
}

void disk_backend_close(struct disk_backend *backend)
{
	if (backend)
		backend->ops->close(backend);
}

void disk_close(struct disk *disk)
{
	if (!disk)
		return;
	disk_backend_close(disk->backend);
	if (disk->overlay >= 0)
		close(disk->overlay);
	disk_layer_free(disk->layers);
	free(disk->in_overlay);
	free(disk->was_read);
	free(disk);
}
