/* A layer of a disk and its file (docs/formats.md), as those see it who read, write and fold it. */
#ifndef FOAL_DEVICES_DISK_LAYER_FILE_H
#define FOAL_DEVICES_DISK_LAYER_FILE_H

#include <xxhash.h>

#include "devices/disk.h"
#include "devices/disk_layer.h"

#define LAYER_VERSION 1
#define LAYER_MAGIC   "foalDISK"

struct layer_header {
	char magic[8];
	uint32_t version, reserved;
	uint64_t size, nr;
	XXH128_canonical_t sum; /* of the above and the index */
};

struct layer_entry {
	uint64_t block, sum;
};

struct disk_layer {
	struct disk_layer *below;
	int fd;
	uint64_t *map; /* of a frozen overlay; NULL: a layer file */
	bool passing;  /* of an overlay: who else has it will end; see disk_layer_fold() */
	struct layer_entry *index; /* of a layer file */
	uint64_t nr;
};

static inline uint64_t layer_blocks(uint64_t size)
{
	return (size + DISK_BLOCK - 1) / DISK_BLOCK;
}

/* Where the blocks of a layer file begin. */
static inline uint64_t layer_data(uint64_t nr)
{
	uint64_t index = nr * sizeof(struct layer_entry);

	return DISK_BLOCK + (index + DISK_BLOCK - 1) / DISK_BLOCK * DISK_BLOCK;
}

void layer_sum_head(const struct layer_header *header, const struct layer_entry *index,
		    XXH128_canonical_t *out);
int layer_transfer(int fd, enum direction dir, void *data, uint64_t len, uint64_t offset);

/* Of a layer file; NULL: it does not have the block. */
const struct layer_entry *layer_entry_of(const struct disk_layer *layer, uint64_t block);
/* One block of any that has it, zeros behind the end of the disk. */
int layer_block(const struct disk_layer *layer, uint64_t block, uint64_t size,
		uint8_t data[DISK_BLOCK]);

#endif
