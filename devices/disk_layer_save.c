/* Layers of a disk are written to a file, as one; or only where they differ from other files. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/block_map.h"
#include "devices/devices.h"
#include "devices/disk_backend.h"
#include "devices/disk_layer_file.h"

/* What is saved, and of it which blocks. */
struct saving {
	const struct disk_layer *top, *below;
	struct disk_backend *backend; /* what is in neither is its */
	uint64_t size;
	uint64_t *chosen; /* a bit a block */
	uint64_t nr;
	uint8_t data[DISK_BLOCK], other[DISK_BLOCK];
};

/*
 * The first block from @block on that @top or one below may have; UINT64_MAX: none. Files say which
 * they have: a loop over all that a damaged one says its disk has would not end.
 */
static uint64_t next_block(const struct disk_layer *top, uint64_t block)
{
	uint64_t next = UINT64_MAX;

	for (; top; top = top->below) {
		uint64_t low = 0, high = top->nr;

		if (top->map)
			return block;
		while (low < high) {
			uint64_t mid = low + (high - low) / 2;

			if (top->index[mid].block < block)
				low = mid + 1;
			else
				high = mid;
		}
		if (low < top->nr && top->index[low].block < next)
			next = top->index[low].block;
	}
	return next;
}

/* Of the disk, or of what it is to be laid over. */
static uint64_t next_of_either(const struct saving *s, uint64_t block)
{
	uint64_t top = next_block(s->top, block), below = next_block(s->below, block);

	return top < below ? top : below;
}

static int backend_block(struct saving *s, uint64_t block)
{
	uint64_t offset = block * DISK_BLOCK, left = s->size - offset;
	uint64_t len = left < DISK_BLOCK ? left : DISK_BLOCK;
	struct iovec iov = {s->data, len};
	struct iov_cursor cursor = {&iov, 1};

	if (!s->backend || !s->backend->ops->copies_read)
		return -ESTALE;
	memset(s->data, 0, DISK_BLOCK);
	return s->backend->ops->read(s->backend, &cursor, len, offset);
}

/* To s->data: what the disk holds there. */
static int block_now(struct saving *s, uint64_t block)
{
	const struct disk_layer *layer = disk_layer_find(s->top, block);

	return layer ? layer_block(layer, block, s->size, s->data) : backend_block(s, block);
}

/* Does @block, which is at s->data, read the same without being saved? Compared byte for byte. */
static int same_below(struct saving *s, uint64_t block, bool *same)
{
	const struct disk_layer *layer = disk_layer_find(s->below, block);
	int rc = 0;

	*same = false;
	if (!layer || layer_entry_of(layer, block)->sum != XXH3_64bits(s->data, DISK_BLOCK))
		return 0;
	rc = layer_block(layer, block, s->size, s->other);
	*same = rc == 0 && memcmp(s->data, s->other, DISK_BLOCK) == 0;
	return rc;
}

/*
 * Without it a block that the disk does not have, but what lies below, would be what that says: one
 * of a VM that went back since, or of another.
 */
static int choose(struct saving *s)
{
	uint64_t blocks = layer_blocks(s->size);
	int rc = block_map_need(&s->chosen, blocks);

	for (uint64_t block = next_of_either(s, 0); rc == 0 && block < blocks;
	     block = next_of_either(s, block + 1)) {
		bool same = false;

		if (!disk_layer_find(s->top, block) && !disk_layer_find(s->below, block))
			continue;
		if (s->below) {
			rc = block_now(s, block);
			if (rc == 0)
				rc = same_below(s, block, &same);
		}
		if (same || rc)
			continue;
		block_map_set(s->chosen, block, block + 1);
		s->nr++;
	}
	return rc;
}

static int save_blocks(struct saving *s, struct layer_entry *index, int fd)
{
	uint64_t at = layer_data(s->nr), n = 0;
	int rc = 0;

	for (uint64_t block = next_of_either(s, 0); rc == 0 && n < s->nr;
	     block = next_of_either(s, block + 1)) {
		if (!block_map_test(s->chosen, block))
			continue;
		rc = block_now(s, block);
		index[n++] = (struct layer_entry){block, XXH3_64bits(s->data, DISK_BLOCK)};
		if (rc == 0)
			rc = layer_transfer(fd, TO_FILE, s->data, DISK_BLOCK, at);
		at += DISK_BLOCK;
	}
	return rc;
}

static int save_chosen(struct saving *s, int fd)
{
	struct layer_header header = {.version = LAYER_VERSION, .size = s->size, .nr = s->nr};
	struct layer_entry *index = calloc(s->nr + 1, sizeof(*index));
	uint64_t bytes = s->nr * sizeof(*index);
	int rc;

	if (!index)
		return -ENOMEM;
	memcpy(header.magic, LAYER_MAGIC, sizeof(header.magic));
	rc = ftruncate(fd, (off_t)(layer_data(s->nr) + s->nr * DISK_BLOCK)) ? -errno : 0;
	if (rc == 0)
		rc = save_blocks(s, index, fd);
	layer_sum_head(&header, index, &header.sum);
	if (rc == 0)
		rc = layer_transfer(fd, TO_FILE, index, bytes, DISK_BLOCK);
	if (rc == 0)
		rc = layer_transfer(fd, TO_FILE, &header, sizeof(header), 0);
	free(index);
	return rc;
}

int disk_layer_save(const struct disk_layer *top, const struct disk_layer *below,
		    struct disk_backend *backend, uint64_t size, int fd)
{
	struct saving *s = calloc(1, sizeof(*s));
	int rc = -ENOMEM;

	if (s) {
		*s = (struct saving){.top = top, .below = below, .backend = backend, .size = size};
		rc = choose(s);
		if (rc == 0)
			rc = save_chosen(s, fd);
		free(s->chosen);
	}
	free(s);
	return rc;
}

/* --- files alone ---------------------------------------------------------------------------- */

static int size_of(int fd, uint64_t *size)
{
	struct layer_header header = {0};
	int rc = layer_transfer(fd, FROM_FILE, &header, sizeof(header), 0);

	*size = header.size;
	return rc;
}

int disk_layer_merge(const int *fds, unsigned count, int out)
{
	struct disk_layer *top = NULL;
	uint64_t size = 0;
	int rc = count ? size_of(fds[0], &size) : -EINVAL;

	for (unsigned i = count; rc == 0 && i-- > 0;)
		rc = disk_layer_open(fds[i], size, top, &top);
	if (rc == 0)
		rc = disk_layer_save(top, NULL, NULL, size, out);
	disk_layer_free(top);
	return rc;
}

int disk_layer_verify(int fd, uint64_t *block)
{
	uint8_t data[DISK_BLOCK];
	struct disk_layer *layer;
	uint64_t size;
	int rc = size_of(fd, &size);

	*block = 0;
	if (rc == 0)
		rc = disk_layer_open(fd, size, NULL, &layer);
	if (rc)
		return rc;
	for (uint64_t i = 0; rc == 0 && i < layer->nr; i++) {
		*block = layer->index[i].block;
		rc = layer_block(layer, *block, size, data);
	}
	disk_layer_free(layer);
	return rc;
}
