/*
 * Zeroed memory that lives as long as its space: page tables of the mirror and
 * blocks of counters. The kernel backs it as it is touched, a fault thread that
 * needs a table never enters malloc, and the end of the space frees all at once.
 */
#ifndef FOAL_EPT_ARENA_H
#define FOAL_EPT_ARENA_H

#include <pthread.h>
#include <stddef.h>

struct ept_arena {
	pthread_mutex_t lock;
	struct ept_arena_chunk *chunks; /* newest first */
	size_t used;			/* bytes of the newest chunk */
};

void ept_arena_init(struct ept_arena *arena);
void ept_arena_free(struct ept_arena *arena);

/* @size zeroed bytes on a cache line of their own, or NULL. Any thread. */
void *ept_arena_alloc(struct ept_arena *arena, size_t size);

#endif
