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
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/block_map.h"
#include "devices/disk_layer_file.h"

void layer_sum_head(const struct layer_header *header, const struct layer_entry *index,
		    XXH128_canonical_t *out)
{
	XXH64_hash_t head = XXH3_64bits(header, offsetof(struct layer_header, sum));

	XXH128_canonicalFromHash(out,
				 XXH3_128bits_withSeed(index, header->nr * sizeof(*index), head));
}

int layer_transfer(int fd, enum direction dir, void *data, uint64_t len, uint64_t offset)
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

unsigned disk_layer_count(const struct disk_layer *top)
{
	unsigned n = 0;

	for (; top; top = top->below)
		n++;
	return n;
}

bool disk_layer_is_file(const struct disk_layer *layer)
{
	return !layer->map;
}

/* --- opened ---------------------------------------------------------------------------------- */

static int read_header(int fd, uint64_t size, struct layer_header *header)
{
	struct stat st;

	/* Also in the sandbox, where libc's way is not allowed (vmm/filters/rules.c). */
	if (syscall(SYS_fstat, fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < DISK_BLOCK)
		return -EINVAL;
	int rc = layer_transfer(fd, FROM_FILE, header, sizeof(*header), 0);
	if (rc)
		return rc;
	if (memcmp(header->magic, LAYER_MAGIC, sizeof(header->magic)) != 0 ||
	    header->version != LAYER_VERSION || header->reserved || header->size != size ||
	    header->nr > layer_blocks(size))
		return -EINVAL;
	if ((uint64_t)st.st_size != layer_data(header->nr) + header->nr * DISK_BLOCK)
		return -EBADMSG;
	/* Nothing is allocated that the file does not hold: no holes, where there are any. */
	off_t hole = lseek(fd, 0, SEEK_HOLE);
	return hole >= 0 && (uint64_t)hole < DISK_BLOCK + header->nr * sizeof(struct layer_entry)
		   ? -EBADMSG
		   : 0;
}

static bool index_sound(const struct layer_header *header, const struct layer_entry *index)
{
	XXH128_canonical_t sum;

	layer_sum_head(header, index, &sum);
	if (memcmp(&sum, &header->sum, sizeof(sum)) != 0)
		return false;
	for (uint64_t i = 0; i < header->nr; i++)
		if (index[i].block >= layer_blocks(header->size) ||
		    (i && index[i].block <= index[i - 1].block))
			return false;
	return true;
}

/* @fd is the layer's from then on; the caller's on error. */
static int open_own(int fd, uint64_t size, struct disk_layer *below, struct disk_layer **out)
{
	struct disk_layer *layer;
	struct layer_header header = {0};
	int rc = read_header(fd, size, &header);

	if (rc)
		return rc;
	layer = calloc(1, sizeof(*layer));
	if (!layer)
		return -ENOMEM;
	layer->fd = -1;
	layer->nr = header.nr;
	layer->index = calloc(header.nr + 1, sizeof(*layer->index));
	if (!layer->index)
		rc = -ENOMEM;
	if (rc == 0)
		rc = layer_transfer(fd, FROM_FILE, layer->index,
				    header.nr * sizeof(struct layer_entry), DISK_BLOCK);
	if (rc == 0 && !index_sound(&header, layer->index))
		rc = -EBADMSG;
	if (rc) {
		disk_layer_free(layer);
		return rc;
	}
	layer->fd = fd;
	layer->below = below;
	*out = layer;
	return 0;
}

int disk_layer_open(int fd, uint64_t size, struct disk_layer *below, struct disk_layer **out)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0), rc = own < 0 ? -errno : 0;

	if (rc == 0)
		rc = open_own(own, size, below, out);
	if (rc && own >= 0)
		close(own);
	return rc;
}

int disk_layer_open_all(const int *fds, unsigned count, uint64_t size, struct disk_layer **out)
{
	struct disk_layer *top = NULL;
	int rc = 0;

	for (unsigned i = count; i-- > 0;) {
		if (rc == 0)
			rc = open_own(fds[i], size, top, &top);
		if (rc)
			close(fds[i]);
	}
	if (rc)
		disk_layer_free(top);
	else
		*out = top;
	return rc;
}

void disk_layer_free(struct disk_layer *top)
{
	disk_layer_free_above(top, NULL);
}

void disk_layer_free_above(struct disk_layer *top, const struct disk_layer *end)
{
	while (top != end) {
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
	uint64_t a = *(const uint64_t *)key, b = ((const struct layer_entry *)entry)->block;

	return a < b ? -1 : a > b;
}

const struct layer_entry *layer_entry_of(const struct disk_layer *layer, uint64_t block)
{
	return bsearch(&block, layer->index, layer->nr, sizeof(*layer->index), compare_blocks);
}

const struct disk_layer *disk_layer_find(const struct disk_layer *top, uint64_t block)
{
	for (; top; top = top->below)
		if (top->map ? block_map_test(top->map, block) : layer_entry_of(top, block) != NULL)
			return top;
	return NULL;
}

/* One block of a layer file, whole, as its checksum is of all of it. */
static int read_block(const struct disk_layer *layer, uint64_t block, uint8_t data[DISK_BLOCK])
{
	const struct layer_entry *entry = layer_entry_of(layer, block);
	uint64_t at = layer_data(layer->nr) + (uint64_t)(entry - layer->index) * DISK_BLOCK;
	int rc = layer_transfer(layer->fd, FROM_FILE, data, DISK_BLOCK, at);

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

/* The last block may end with the disk; zeros behind it. */
int layer_block(const struct disk_layer *layer, uint64_t block, uint64_t size,
		uint8_t data[DISK_BLOCK])
{
	uint64_t offset = block * DISK_BLOCK, left = size - offset;

	if (!layer->map)
		return read_block(layer, block, data);
	memset(data, 0, DISK_BLOCK);
	return layer_transfer(layer->fd, FROM_FILE, data, left < DISK_BLOCK ? left : DISK_BLOCK,
			      offset);
}
