/*
 * Layers of copy-on-write disks. A layer file is
 *
 *   header   4 KiB: magic, version, size of the disk, number of blocks, checksum of all
 *            this and of the index
 *   index    for each block its number and checksum, ascending; zeros up to a page
 *   blocks   4 KiB each, in that order
 */
#include "devices/disk_layer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "devices/block_map.h"
#include "devices/devices.h"
#include "devices/disk.h"

#define VERSION 1

static const char magic[8] = "foalDISK";

struct header {
	char magic[8];
	uint32_t version, reserved;
	uint64_t size, nr;
	XXH128_canonical_t sum; /* of the above and the index */
};

struct entry {
	uint64_t block, sum;
};

struct disk_layer {
	struct disk_layer *below;
	int fd;
	uint64_t *map;	     /* of a frozen overlay; NULL: a layer file */
	struct entry *index; /* of a layer file */
	uint64_t nr;
};

static uint64_t blocks_of(uint64_t size)
{
	return (size + DISK_BLOCK - 1) / DISK_BLOCK;
}

/* Where the blocks of a layer file begin. */
static uint64_t data_of(uint64_t nr)
{
	uint64_t index = nr * sizeof(struct entry);

	return DISK_BLOCK + (index + DISK_BLOCK - 1) / DISK_BLOCK * DISK_BLOCK;
}

static void sum_head(const struct header *header, const struct entry *index,
		     XXH128_canonical_t *out)
{
	XXH64_hash_t head = XXH3_64bits(header, offsetof(struct header, sum));

	XXH128_canonicalFromHash(out,
				 XXH3_128bits_withSeed(index, header->nr * sizeof(*index), head));
}

static int transfer(int fd, enum direction dir, void *data, uint64_t len, uint64_t offset)
{
	struct iovec iov = {data, len};
	struct iov_cursor cursor = {&iov, 1};

	return len ? file_transfer(fd, dir, &cursor, len, offset) : 0;
}

/* --- made of an overlay ------------------------------------------------------------------ */

struct disk_layer *disk_layer_freeze(int overlay, uint64_t *map, struct disk_layer *below)
{
	struct disk_layer *layer = calloc(1, sizeof(*layer));

	if (layer)
		*layer = (struct disk_layer){.below = below, .fd = overlay, .map = map};
	return layer;
}

/* --- opened ---------------------------------------------------------------------------------- */

static int read_header(int fd, uint64_t size, struct header *header)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < DISK_BLOCK)
		return -EINVAL;
	int rc = transfer(fd, FROM_FILE, header, sizeof(*header), 0);
	if (rc)
		return rc;
	if (memcmp(header->magic, magic, sizeof(magic)) != 0 || header->version != VERSION ||
	    header->reserved || header->size != size || header->nr > blocks_of(size))
		return -EINVAL;
	/* Nothing is allocated that the file does not hold. */
	if ((uint64_t)st.st_size != data_of(header->nr) + header->nr * DISK_BLOCK)
		return -EBADMSG;
	return 0;
}

static bool index_sound(const struct header *header, const struct entry *index)
{
	XXH128_canonical_t sum;

	sum_head(header, index, &sum);
	if (memcmp(&sum, &header->sum, sizeof(sum)) != 0)
		return false;
	for (uint64_t i = 0; i < header->nr; i++)
		if (index[i].block >= blocks_of(header->size) ||
		    (i && index[i].block <= index[i - 1].block))
			return false;
	return true;
}

int disk_layer_open(int fd, uint64_t size, struct disk_layer **out)
{
	struct disk_layer *layer;
	struct header header = {0};
	int rc = read_header(fd, size, &header);

	if (rc)
		return rc;
	layer = calloc(1, sizeof(*layer));
	if (!layer)
		return -ENOMEM;
	layer->nr = header.nr;
	layer->index = calloc(header.nr + 1, sizeof(*layer->index));
	layer->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (!layer->index || layer->fd < 0)
		rc = layer->index ? -errno : -ENOMEM;
	if (rc == 0)
		rc = transfer(layer->fd, FROM_FILE, layer->index, header.nr * sizeof(struct entry),
			      DISK_BLOCK);
	if (rc == 0 && !index_sound(&header, layer->index))
		rc = -EBADMSG;
	if (rc)
		disk_layer_free(layer);
	else
		*out = layer;
	return rc;
}

void disk_layer_free(struct disk_layer *top)
{
	while (top) {
		struct disk_layer *below = top->below;

		if (top->fd >= 0)
			close(top->fd);
		free(top->map);
		free(top->index);
		free(top);
		top = below;
	}
}

/* --- read --------------------------------------------------------------------------------------
 */

static int compare_blocks(const void *key, const void *entry)
{
	uint64_t a = *(const uint64_t *)key, b = ((const struct entry *)entry)->block;

	return a < b ? -1 : a > b;
}

static const struct entry *entry_of(const struct disk_layer *layer, uint64_t block)
{
	return bsearch(&block, layer->index, layer->nr, sizeof(*layer->index), compare_blocks);
}

const struct disk_layer *disk_layer_find(const struct disk_layer *top, uint64_t block)
{
	for (; top; top = top->below)
		if (top->map ? block_map_test(top->map, block) : entry_of(top, block) != NULL)
			return top;
	return NULL;
}

/* One block of a layer file, whole, as its checksum is of all of it. */
static int read_block(const struct disk_layer *layer, uint64_t block, uint8_t data[DISK_BLOCK])
{
	const struct entry *entry = entry_of(layer, block);
	uint64_t at = data_of(layer->nr) + (uint64_t)(entry - layer->index) * DISK_BLOCK;
	int rc = transfer(layer->fd, FROM_FILE, data, DISK_BLOCK, at);

	if (rc == 0 && XXH3_64bits(data, DISK_BLOCK) != entry->sum)
		return -EBADMSG;
	return rc;
}

int disk_layer_read(const struct disk_layer *layer, struct iov_cursor *cursor, uint64_t len,
		    uint64_t offset)
{
	uint8_t data[DISK_BLOCK];

	if (layer->map)
		return file_transfer(layer->fd, FROM_FILE, cursor, len, offset);
	while (len > 0) {
		uint64_t in = offset % DISK_BLOCK;
		uint64_t n = len < DISK_BLOCK - in ? len : DISK_BLOCK - in;
		int rc = read_block(layer, offset / DISK_BLOCK, data);

		if (rc)
			return rc;
		iov_put(cursor, data + in, n);
		offset += n;
		len -= n;
	}
	return 0;
}

/* --- saved ---------------------------------------------------------------------------------------
 */

/* The last block may end with the disk; zeros behind it. */
static int load_block(const struct disk_layer *layer, uint64_t block, uint64_t size,
		      uint8_t data[DISK_BLOCK])
{
	uint64_t offset = block * DISK_BLOCK, left = size - offset;

	memset(data, 0, DISK_BLOCK);
	if (!layer->map)
		return read_block(layer, block, data);
	return transfer(layer->fd, FROM_FILE, data, left < DISK_BLOCK ? left : DISK_BLOCK, offset);
}

static uint64_t count_blocks(const struct disk_layer *top, uint64_t size)
{
	uint64_t nr = 0;

	for (uint64_t block = 0; top && block < blocks_of(size); block++)
		nr += disk_layer_find(top, block) != NULL;
	return nr;
}

static int save_blocks(const struct disk_layer *top, const struct header *header,
		       struct entry *index, int fd)
{
	uint64_t at = data_of(header->nr), n = 0;
	uint8_t data[DISK_BLOCK];
	int rc = 0;

	for (uint64_t block = 0; rc == 0 && n < header->nr; block++) {
		const struct disk_layer *layer = disk_layer_find(top, block);

		if (!layer)
			continue;
		rc = load_block(layer, block, header->size, data);
		index[n++] = (struct entry){block, XXH3_64bits(data, DISK_BLOCK)};
		if (rc == 0)
			rc = transfer(fd, TO_FILE, data, DISK_BLOCK, at);
		at += DISK_BLOCK;
	}
	return rc;
}

int disk_layer_save(const struct disk_layer *top, uint64_t size, int fd)
{
	struct header header = {.version = VERSION, .size = size, .nr = count_blocks(top, size)};
	struct entry *index = calloc(header.nr + 1, sizeof(*index));
	int rc;

	if (!index)
		return -ENOMEM;
	memcpy(header.magic, magic, sizeof(magic));
	rc = ftruncate(fd, (off_t)(data_of(header.nr) + header.nr * DISK_BLOCK)) ? -errno : 0;
	if (rc == 0)
		rc = save_blocks(top, &header, index, fd);
	sum_head(&header, index, &header.sum);
	if (rc == 0)
		rc = transfer(fd, TO_FILE, index, header.nr * sizeof(*index), DISK_BLOCK);
	if (rc == 0)
		rc = transfer(fd, TO_FILE, &header, sizeof(header), 0);
	free(index);
	return rc;
}

/* --- checked -------------------------------------------------------------------------- */

int disk_layer_verify(int fd, uint64_t *block)
{
	uint8_t data[DISK_BLOCK];
	struct disk_layer *layer;
	struct header header = {0};
	int rc = transfer(fd, FROM_FILE, &header, sizeof(header), 0);

	*block = 0;
	if (rc == 0)
		rc = disk_layer_open(fd, header.size, &layer);
	if (rc)
		return rc;
	for (uint64_t i = 0; rc == 0 && i < layer->nr; i++) {
		*block = layer->index[i].block;
		rc = read_block(layer, *block, data);
	}
	disk_layer_free(layer);
	return rc;
}
