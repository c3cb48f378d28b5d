/*
 * Compressed pages in memory. A page is kept as an image, which is also what the
 * swap file holds: a header and the page in LZ4's block format, or as it is where
 * that is not smaller.
 *
 * Chunks of 16 KiB hold images of one size class each; an empty chunk goes back to
 * the host. Each function takes the pool's lock itself.
 */
#ifndef FOAL_EPT_POOL_H
#define FOAL_EPT_POOL_H

#include "ept/ept.h"

#include <pthread.h>

#define EPT_IMAGE_ALIGN 64U
#define EPT_IMAGE_MAX	(EPT_PAGE_SIZE + EPT_IMAGE_ALIGN) /* header and all, rounded up */

struct ept_image {
	uint64_t gpa;  /* whose page it is */
	uint32_t sum;  /* of the bytes that follow the header */
	uint16_t size; /* of them; EPT_PAGE_SIZE: not compressed */
	uint16_t zero;
	char bytes[];
};

/* Make the image of @page in @out (EPT_IMAGE_MAX bytes); its size in bytes. */
size_t ept_image_make(struct ept_image *out, gpa_t gpa, const char *page);

/* The page of an image of at most @max bytes; -EIO: not the one that was made for @gpa. */
int ept_image_page(const struct ept_image *image, size_t max, gpa_t gpa, char *page);

#define EPT_POOL_CHUNK	 16384U
#define EPT_POOL_STEP	 128U
#define EPT_POOL_CLASSES (EPT_IMAGE_MAX / EPT_POOL_STEP + 1)
#define EPT_POOL_SLOTS	 (EPT_POOL_CHUNK / EPT_POOL_STEP)

struct ept_pool_chunk {
	uint16_t class, live;		    /* live 0: the chunk is not in use */
	uint32_t next, prev;		    /* with room, of the class; 0: none */
	uint64_t used[EPT_POOL_SLOTS / 64]; /* one bit a slot */
};

struct ept_pool {
	pthread_mutex_t lock; /* all that follows but an image's bytes */
	char *base;
	struct ept_pool_chunk *chunks;
	uint32_t nr_chunks, hand, free_hint;
	uint32_t partial[EPT_POOL_CLASSES]; /* the first chunk of the class with room, or 0 */
	uint64_t bytes;			    /* of chunks in use, atomic */
	uint64_t pages;			    /* images, atomic */
	uint64_t images;		    /* bytes of images, rounded to their class, atomic */
};

/* Room for at most @bytes; nothing is in memory yet. -ENOMEM. */
int ept_pool_init(struct ept_pool *pool, uint64_t bytes);
void ept_pool_free(struct ept_pool *pool);

/* Put an image of @size bytes in: its handle (below 2^47), or 0: full. */
uint64_t ept_pool_put(struct ept_pool *pool, const struct ept_image *image, size_t size);
/* Valid until it is dropped, which only the holder of its leaf's lock does. */
const struct ept_image *ept_pool_get(const struct ept_pool *pool, uint64_t handle, size_t *max);
void ept_pool_drop(struct ept_pool *pool, uint64_t handle);

/*
 * The next chunk that is in use, from where the last call ended: the handles of its
 * images (at most EPT_POOL_SLOTS). 0: the pool is empty.
 */
unsigned ept_pool_next(struct ept_pool *pool, uint64_t handles[EPT_POOL_SLOTS]);

#endif
