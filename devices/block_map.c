#include "devices/block_map.h"

#include <errno.h>
#include <stdlib.h>

#define WORD_BITS 64

/* A big map comes as untouched zero pages: it costs what is used of it. */
int block_map_need(uint64_t **map, uint64_t nr_blocks)
{
	if (!*map)
		*map = calloc((nr_blocks + WORD_BITS - 1) / WORD_BITS, sizeof(**map));
	return *map ? 0 : -ENOMEM;
}

bool block_map_test(const uint64_t *map, uint64_t block)
{
	return map && (map[block / WORD_BITS] >> block % WORD_BITS & 1);
}

void block_map_set(uint64_t *map, uint64_t first, uint64_t end)
{
	for (uint64_t block = first; block < end; block++)
		map[block / WORD_BITS] |= 1ULL << block % WORD_BITS;
}
