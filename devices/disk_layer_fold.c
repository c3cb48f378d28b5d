/*
 * Overlays that were frozen for a reader that has ended become one, so that they do not pile up
 * with each snapshot.
 *
 * That reader, a child of the VM's process, copies before it ends what the upper ones have into
 * the lowest: nobody looks there for a block that an upper one has, and the memory of all of them
 * is shared with the child. Once it has ended well the VM forgets the upper ones. A copy that is
 * not finished changes nothing.
 *
 * Nor does it for a VM that was forked from this one meanwhile, which has the upper ones, too; but
 * for one that was forked before they were there. So what a fork froze stays.
 */
#include <stdlib.h>
#include <string.h>

#include "devices/block_map.h"
#include "devices/disk_layer_file.h"

void disk_layer_pass(struct disk_layer *top)
{
	top->passing = true;
}

void disk_layer_keep(struct disk_layer *top)
{
	for (; top; top = top->below)
		top->passing = false;
}

static bool foldable(const struct disk_layer *layer)
{
	return layer && layer->map && layer->passing;
}

struct disk_layer *disk_layer_base(struct disk_layer *top)
{
	struct disk_layer *base = foldable(top) ? top : NULL;

	while (base && foldable(base->below))
		base = base->below;
	return base == top ? NULL : base;
}

/* That of the layers above @base which has @block, or NULL. */
static const struct disk_layer *above(const struct disk_layer *top, const struct disk_layer *base,
				      uint64_t block)
{
	for (; top != base; top = top->below)
		if (block_map_test(top->map, block))
			return top;
	return NULL;
}

int disk_layer_fold(const struct disk_layer *top, const struct disk_layer *base, uint64_t size)
{
	uint8_t data[DISK_BLOCK];
	int rc = 0;

	for (uint64_t block = 0; rc == 0 && block < layer_blocks(size); block++) {
		uint64_t offset = block * DISK_BLOCK, left = size - offset;
		const struct disk_layer *from = above(top, base, block);

		if (!from)
			continue;
		rc = layer_block(from, block, size, data);
		if (rc == 0)
			rc = layer_transfer(base->fd, TO_FILE, data,
					    left < DISK_BLOCK ? left : DISK_BLOCK, offset);
	}
	return rc;
}

struct disk_layer *disk_layer_folded(struct disk_layer *top, struct disk_layer *base, uint64_t size)
{
	uint64_t words = (layer_blocks(size) + 63) / 64;
	struct disk_layer *layer = top, *next;

	if (!base || disk_layer_base(top) != base)
		return top;
	for (; layer != base; layer = next) {
		next = layer->below;
		for (uint64_t i = 0; i < words; i++)
			base->map[i] |= layer->map[i];
		layer->below = NULL;
		disk_layer_free(layer);
	}
	return base;
}
