/*
 * From the pool to the swap file, a run of blocks at a time. What is written stays
 * in the pool until it is in the file, so a fault meanwhile finds it there, and an
 * error loses nothing.
 */
#include "ept/space.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RUN_BYTES    ((size_t)EPT_SWAP_RUN * EPT_SWAP_BLOCK)
/* A chunk's images, each rounded up, never take more than the chunk. */
#define LEAST_BLOCKS (EPT_POOL_CHUNK / EPT_SWAP_BLOCK)

struct ept_writer {
	char run[RUN_BYTES] __attribute__((aligned(EPT_SWAP_BLOCK)));
	size_t filled, room;
	uint64_t first; /* block */
	unsigned nr;
	struct {
		uint64_t gpa, handle, place;
	} item[RUN_BYTES / EPT_IMAGE_ALIGN];
};

struct ept_writer *ept_writer_new(void)
{
	return aligned_alloc(EPT_SWAP_BLOCK, (sizeof(struct ept_writer) + EPT_SWAP_BLOCK - 1) &
						 ~(size_t)(EPT_SWAP_BLOCK - 1));
}

/* The leaf of @gpa, locked, if its page is in the pool as @handle; else NULL. */
static struct ept_leaf *lock_pooled(struct ept_space *space, uint64_t gpa, uint64_t handle)
{
	struct ept_leaf *leaf = ept_mirror_find(&space->mirror, GPA(gpa));
	unsigned index = ept_leaf_index(GPA(gpa));

	if (!leaf)
		return NULL;
	pthread_mutex_lock(&leaf->lock);
	if (ept_pte_get(leaf, index) == EPT_PTE_POOLED && ept_pte_value(leaf, index) == handle)
		return leaf;
	pthread_mutex_unlock(&leaf->lock);
	return NULL;
}

/* The image may be gone by now, and its bytes with it; then its page's entry says so. */
static void add_image(struct ept_space *space, struct ept_writer *w, uint64_t handle)
{
	size_t max, size, step;
	const struct ept_image *image = ept_pool_get(&space->reclaim.pool, handle, &max);
	uint64_t gpa = __atomic_load_n(&image->gpa, __ATOMIC_RELAXED);
	struct ept_leaf *leaf = lock_pooled(space, gpa, handle);

	if (!leaf)
		return;
	size = sizeof(*image) + image->size;
	step = (size + EPT_IMAGE_ALIGN - 1) & ~(size_t)(EPT_IMAGE_ALIGN - 1);
	memcpy(w->run + w->filled, image, size);
	pthread_mutex_unlock(&leaf->lock);
	memset(w->run + w->filled + size, 0, step - size);
	w->item[w->nr].gpa = gpa;
	w->item[w->nr].handle = handle;
	w->item[w->nr].place = ept_swap_place(w->first, w->filled, size);
	w->nr++;
	w->filled += step;
}

static void fill(struct ept_space *space, struct ept_writer *w)
{
	uint64_t handles[EPT_POOL_SLOTS];

	w->nr = 0;
	w->filled = 0;
	while (w->room - w->filled >= EPT_POOL_CHUNK) {
		size_t before = w->filled;
		unsigned n = ept_pool_next(&space->reclaim.pool, handles);

		for (unsigned i = 0; i < n; i++)
			add_image(space, w, handles[i]);
		if (w->filled == before)
			break;
	}
}

/* What is still in the pool is in the file from now on. */
static void commit(struct ept_space *space, struct ept_writer *w)
{
	struct ept_reclaim *r = &space->reclaim;

	for (unsigned i = 0; i < w->nr; i++) {
		gpa_t gpa = GPA(w->item[i].gpa);
		struct ept_leaf *leaf = lock_pooled(space, gpa.v, w->item[i].handle);

		if (!leaf) {
			ept_swap_release(&r->swap, w->item[i].place);
			continue;
		}
		ept_area_put_pte(ept_area_find(space, gpa.v), leaf, ept_leaf_index(gpa),
				 EPT_PTE_SWAPPED, ept_pte_age(leaf, ept_leaf_index(gpa)),
				 w->item[i].place);
		ept_pool_drop(&r->pool, w->item[i].handle);
		pthread_mutex_unlock(&leaf->lock);
	}
}

static int write_run(struct ept_space *space, struct ept_writer *w)
{
	struct ept_swap *swap = &space->reclaim.swap;
	size_t len = (w->filled + EPT_SWAP_BLOCK - 1) & ~(size_t)(EPT_SWAP_BLOCK - 1);
	int err;

	memset(w->run + w->filled, 0, len - w->filled);
	for (unsigned i = 0; i < w->nr; i++)
		ept_swap_hold(swap, w->item[i].place);
	err = ept_swap_write(swap, w->first, w->run, len);
	if (err) {
		for (unsigned i = 0; i < w->nr; i++)
			ept_swap_release(swap, w->item[i].place);
		return err;
	}
	ept_reclaim_count(&space->reclaim, written, w->nr);
	ept_reclaim_count(&space->reclaim, written_bytes, len);
	commit(space, w);
	return 0;
}

void ept_reclaim_write(struct ept_space *space, uint64_t bytes)
{
	struct ept_reclaim *r = &space->reclaim;
	struct ept_writer *w = r->writer;
	bool goes_on = w != NULL;

	while (goes_on && __atomic_load_n(&r->pool.bytes, __ATOMIC_RELAXED) > bytes &&
	       !__atomic_load_n(&r->swap.error, __ATOMIC_RELAXED)) {
		unsigned got;

		w->first = ept_swap_alloc(&r->swap, EPT_SWAP_RUN, &got);
		w->room = (size_t)got * EPT_SWAP_BLOCK;
		w->nr = 0;
		if (got >= LEAST_BLOCKS)
			fill(space, w);
		goes_on = w->nr && !write_run(space, w);
		ept_swap_seal(&r->swap, w->first, got);
	}
}

void ept_reclaim_forget(struct ept_space *space, struct ept_leaf *leaf, unsigned index)
{
	struct ept_reclaim *r = &space->reclaim;
	uint64_t value = ept_pte_value(leaf, index);
	enum ept_pte pte = ept_pte_get(leaf, index);

	if (pte == EPT_PTE_POOLED)
		ept_pool_drop(&r->pool, value);
	else if (pte == EPT_PTE_SWAPPED)
		ept_swap_release(&r->swap, value);
	else if (pte == EPT_PTE_HELD)
		ept_install_drop(&space->installer, r->ring.base + ((value - 1) << EPT_PAGE_SHIFT),
				 EPT_PAGE_SIZE);
}
