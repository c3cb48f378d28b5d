/* A bit for each block of a disk: what was read of it, what its overlay holds. */
#ifndef FOAL_DEVICES_BLOCK_MAP_H
#define FOAL_DEVICES_BLOCK_MAP_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Allocate the map of @nr_blocks clear bits that *@map is to be, if it is NULL;
 * the caller frees it with free(). -ENOMEM.
 */
int block_map_need(uint64_t **map, uint64_t nr_blocks);

/* Whether @block is set; in a map that is NULL nothing is. */
bool block_map_test(const uint64_t *map, uint64_t block);

/* Set [@first, @end); they lie inside the map. */
void block_map_set(uint64_t *map, uint64_t first, uint64_t end);

#endif
