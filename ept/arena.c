#include "ept/arena.h"

#include <sys/mman.h>

#define CHUNK_SIZE (1UL << 20)
#define LINE	   64UL

struct ept_arena_chunk {
	struct ept_arena_chunk *next;
};

void ept_arena_init(struct ept_arena *arena)
{
	*arena = (struct ept_arena){.used = CHUNK_SIZE};
	pthread_mutex_init(&arena->lock, NULL);
}

void ept_arena_free(struct ept_arena *arena)
{
	while (arena->chunks) {
		struct ept_arena_chunk *next = arena->chunks->next;

		munmap(arena->chunks, CHUNK_SIZE);
		arena->chunks = next;
	}
	pthread_mutex_destroy(&arena->lock);
}

static int add_chunk(struct ept_arena *arena)
{
	struct ept_arena_chunk *chunk = mmap(NULL, CHUNK_SIZE, PROT_READ | PROT_WRITE,
					     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (chunk == MAP_FAILED)
		return -1;
	chunk->next = arena->chunks;
	arena->chunks = chunk;
	arena->used = LINE; /* the link */
	return 0;
}

void *ept_arena_alloc(struct ept_arena *arena, size_t size)
{
	void *p = NULL;

	size = (size + LINE - 1) & ~(LINE - 1);
	if (size > CHUNK_SIZE - LINE)
		return NULL;
	pthread_mutex_lock(&arena->lock);
	if (size <= CHUNK_SIZE - arena->used || !add_chunk(arena)) {
		p = (char *)arena->chunks + arena->used;
		arena->used += size;
	}
	pthread_mutex_unlock(&arena->lock);
	return p;
}
