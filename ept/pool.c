#include "ept/pool.h"

#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* --- images ----------------------------------------------------------------------- */

/* FNV-1a over 64-bit words, folded: finds what a broken file gives, not what a forger does. */
static uint32_t sum_of(const char *bytes, size_t size)
{
	uint64_t hash = 0xcbf29ce484222325UL, word;

	for (; size >= sizeof(word); bytes += sizeof(word), size -= sizeof(word)) {
		memcpy(&word, bytes, sizeof(word));
		hash = (hash ^ word) * 0x100000001b3UL;
		hash ^= hash >> 29;
	}
	for (; size; bytes++, size--)
		hash = (hash ^ (uint8_t)*bytes) * 0x100000001b3UL;
	return (uint32_t)(hash ^ hash >> 32);
}

size_t ept_image_make(struct ept_image *out, gpa_t gpa, const char *page)
{
	int room = (int)(EPT_PAGE_SIZE - EPT_IMAGE_ALIGN);
	int size = LZ4_compress_default(page, out->bytes, (int)EPT_PAGE_SIZE, room);

	if (size <= 0) {
		size = (int)EPT_PAGE_SIZE;
		memcpy(out->bytes, page, EPT_PAGE_SIZE);
	}
	out->gpa = gpa.v;
	out->size = (uint16_t)size;
	out->zero = 0;
	out->sum = sum_of(out->bytes, (size_t)size);
	return sizeof(*out) + (size_t)size;
}

int ept_image_page(const struct ept_image *image, size_t max, gpa_t gpa, char *page)
{
	size_t size = image->size;

	if (image->gpa != gpa.v || size > EPT_PAGE_SIZE || size > max - sizeof(*image) ||
	    image->sum != sum_of(image->bytes, size))
		return -EIO;
	if (size == EPT_PAGE_SIZE) {
		memcpy(page, image->bytes, EPT_PAGE_SIZE);
		return 0;
	}
	return LZ4_decompress_safe(image->bytes, page, (int)size, (int)EPT_PAGE_SIZE) ==
		       (int)EPT_PAGE_SIZE
		   ? 0
		   : -EIO;
}

/* --- the pool ------------------------------------------------------------------------ */

/* A handle: the chunk's number, which is never 0, and the slot. */
#define SLOT_BITS 8

int ept_pool_init(struct ept_pool *pool, uint64_t bytes)
{
	pool->nr_chunks = (uint32_t)(bytes / EPT_POOL_CHUNK) + 1;
	pool->hand = pool->free_hint = 1;
	pthread_mutex_init(&pool->lock, NULL);
	pool->chunks = calloc(pool->nr_chunks, sizeof(*pool->chunks));
	pool->base = mmap(NULL, (size_t)pool->nr_chunks * EPT_POOL_CHUNK, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (pool->base == MAP_FAILED)
		pool->base = NULL;
	else
		madvise(pool->base, (size_t)pool->nr_chunks * EPT_POOL_CHUNK, MADV_DONTDUMP);
	return pool->base && pool->chunks ? 0 : -ENOMEM;
}

void ept_pool_free(struct ept_pool *pool)
{
	if (pool->base)
		munmap(pool->base, (size_t)pool->nr_chunks * EPT_POOL_CHUNK);
	free(pool->chunks);
	if (pool->nr_chunks)
		pthread_mutex_destroy(&pool->lock);
}

/* Bytes that an image of the class takes. */
static size_t class_size(unsigned class)
{
	return ((size_t) class + 1) * EPT_POOL_STEP;
}

static unsigned slots_of(unsigned class)
{
	return (unsigned)(EPT_POOL_CHUNK / class_size(class));
}

/* The chunk at @at has room from now on. */
static void link_chunk(struct ept_pool *pool, uint32_t at)
{
	struct ept_pool_chunk *chunk = &pool->chunks[at];
	uint32_t *first = &pool->partial[chunk->class];

	chunk->prev = 0;
	chunk->next = *first;
	if (*first)
		pool->chunks[*first].prev = at;
	*first = at;
}

/* It is full, or empty. */
static void unlink_chunk(struct ept_pool *pool, uint32_t at)
{
	const struct ept_pool_chunk *chunk = &pool->chunks[at];

	if (chunk->next)
		pool->chunks[chunk->next].prev = chunk->prev;
	if (chunk->prev)
		pool->chunks[chunk->prev].next = chunk->next;
	else
		pool->partial[chunk->class] = chunk->next;
}

/* A chunk that is not in use becomes one of @class; 0: there is none. */
static uint32_t fresh_chunk(struct ept_pool *pool, unsigned class)
{
	for (uint32_t n = 1; n < pool->nr_chunks; n++) {
		uint32_t at = pool->free_hint;

		pool->free_hint = at + 1 < pool->nr_chunks ? at + 1 : 1;
		if (pool->chunks[at].live)
			continue;
		pool->chunks[at] = (struct ept_pool_chunk){.class = (uint16_t) class};
		__atomic_fetch_add(&pool->bytes, EPT_POOL_CHUNK, __ATOMIC_RELAXED);
		link_chunk(pool, at);
		return at;
	}
	return 0;
}

static unsigned take_slot(struct ept_pool_chunk *chunk)
{
	unsigned slot = 0;

	while (chunk->used[slot / 64] >> (slot % 64) & 1)
		slot++;
	chunk->used[slot / 64] |= 1UL << (slot % 64);
	chunk->live++;
	return slot;
}

static char *place(const struct ept_pool *pool, uint64_t handle, size_t *size)
{
	uint32_t at = (uint32_t)(handle >> SLOT_BITS);

	*size = class_size(pool->chunks[at].class);
	return pool->base + (size_t)at * EPT_POOL_CHUNK + (handle & ((1 << SLOT_BITS) - 1)) * *size;
}

uint64_t ept_pool_put(struct ept_pool *pool, const struct ept_image *image, size_t size)
{
	unsigned class = (unsigned)((size + EPT_POOL_STEP - 1) / EPT_POOL_STEP) - 1;
	uint64_t handle = 0;
	uint32_t at;
	size_t room;

	pthread_mutex_lock(&pool->lock);
	at = pool->partial[class];
	if (!at)
		at = fresh_chunk(pool, class);
	if (at) {
		handle = (uint64_t)at << SLOT_BITS | take_slot(&pool->chunks[at]);
		if (pool->chunks[at].live == slots_of(class))
			unlink_chunk(pool, at);
		memcpy(place(pool, handle, &room), image, size);
		__atomic_fetch_add(&pool->pages, 1, __ATOMIC_RELAXED);
		__atomic_fetch_add(&pool->images, room, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&pool->lock);
	return handle;
}

const struct ept_image *ept_pool_get(const struct ept_pool *pool, uint64_t handle, size_t *max)
{
	return (const struct ept_image *)(const void *)place(pool, handle, max);
}

void ept_pool_drop(struct ept_pool *pool, uint64_t handle)
{
	uint32_t at = (uint32_t)(handle >> SLOT_BITS);
	unsigned slot = handle & ((1 << SLOT_BITS) - 1);
	struct ept_pool_chunk *chunk = &pool->chunks[at];
	size_t room = class_size(chunk->class);

	pthread_mutex_lock(&pool->lock);
	if (chunk->live == slots_of(chunk->class))
		link_chunk(pool, at);
	chunk->used[slot / 64] &= ~(1UL << (slot % 64));
	chunk->live--;
	__atomic_fetch_sub(&pool->pages, 1, __ATOMIC_RELAXED);
	__atomic_fetch_sub(&pool->images, room, __ATOMIC_RELAXED);
	if (!chunk->live) {
		unlink_chunk(pool, at);
		madvise(pool->base + (size_t)at * EPT_POOL_CHUNK, EPT_POOL_CHUNK, MADV_DONTNEED);
		__atomic_fetch_sub(&pool->bytes, EPT_POOL_CHUNK, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&pool->lock);
}

unsigned ept_pool_next(struct ept_pool *pool, uint64_t handles[EPT_POOL_SLOTS])
{
	unsigned found = 0;

	pthread_mutex_lock(&pool->lock);
	for (uint32_t n = 1; n < pool->nr_chunks && !found; n++) {
		uint32_t at = pool->hand;
		const struct ept_pool_chunk *chunk = &pool->chunks[at];

		pool->hand = at + 1 < pool->nr_chunks ? at + 1 : 1;
		for (unsigned slot = 0; slot < EPT_POOL_SLOTS && chunk->live; slot++)
			if (chunk->used[slot / 64] >> (slot % 64) & 1)
				handles[found++] = (uint64_t)at << SLOT_BITS | slot;
	}
	pthread_mutex_unlock(&pool->lock);
	return found;
}
