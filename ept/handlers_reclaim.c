/*
 * What reclaim took, or made to fault again, is asked for.
 *
 * A sampled page is in memory: it comes back without a copy, and is older by one
 * hit, so that the hand leaves it alone for longer each time. A swapped page comes
 * from the pool (minor) or the swap file (major); its place there is free again
 * when the page is installed.
 */
#include "ept/handlers.h"

#include <errno.h>
#include <string.h>

/* The page is in use: note the hit in the entry that is there now. */
static void note_hit(const struct fault *f, unsigned hits)
{
	enum ept_pte pte = ept_pte_get(f->leaf, f->index);

	if (pte != EPT_PTE_PRIVATE && pte != EPT_PTE_FILE && pte != EPT_PTE_CLEAN &&
	    pte != EPT_PTE_DIRTY)
		return;
	ept_pte_put(f->leaf, f->index, pte, ept_reclaim_aged(hits + 1), 0);
	ept_reclaim_count(&f->area->space->reclaim, hits, 1);
}

static unsigned hits_of(const struct fault *f)
{
	return ept_pte_age(f->leaf, f->index) / EPT_AGE_HIT;
}

static enum ept_result take_back(struct fault *f)
{
	int err = ept_reclaim_return(f->area, f->leaf, f->index, f->req->gpa);

	if (!err) {
		fault_set(f, f->index, EPT_PTE_PRIVATE);
		f->res->installed++;
	}
	return ept_fault_finish(f, err);
}

/* Cached still, if nobody else who shares the cache took it: then it is a page like any other. */
static enum ept_result map_again(struct fault *f)
{
	bool shared = f->area->kind == EPT_KIND_SHARED, writes = f->req->access == EPT_WRITE;
	uint64_t page = (f->req->gpa.v - f->area->start) >> EPT_PAGE_SHIFT;

	fault_set(f, f->index, EPT_PTE_NONE);
	if (!ept_object_cached(f->area->obj, page))
		return EPT_RETRY;
	if (writes)
		return shared ? ept_shared_write(f) : ept_file_cow(f);
	return shared ? ept_shared_read(f) : ept_file_read(f);
}

enum ept_result ept_hint(struct fault *f)
{
	unsigned hits = hits_of(f);
	enum ept_result result = EPT_BUS_ERROR;

	switch (ept_pte_get(f->leaf, f->index)) {
	case EPT_PTE_HELD:
		result = take_back(f);
		break;
	case EPT_PTE_AGED:
		result = ept_grant_write(f, EPT_PTE_PRIVATE);
		break;
	case EPT_PTE_SAMPLED:
		result = map_again(f);
		break;
	case EPT_PTE_NONE:
	case EPT_PTE_ZERO:
	case EPT_PTE_FILE:
	case EPT_PTE_PRIVATE:
	case EPT_PTE_CLEAN:
	case EPT_PTE_DIRTY:
	case EPT_PTE_TRANSIT:
	case EPT_PTE_POISON:
	case EPT_PTE_POOLED:
	case EPT_PTE_SWAPPED:
	case EPT_NR_PTES: /* not dispatched here */
		break;
	}
	if (result == EPT_RESOLVED)
		note_hit(f, hits);
	return result;
}

/* --- swapped pages -------------------------------------------------------------------- */

static int install_page(struct fault *f, const char *page)
{
	struct ept_reclaim *r = &f->area->space->reclaim;
	int err = ept_install_copy(fault_installer(f), fault_hva(f, f->index), page);

	if (!err || err == -EEXIST) {
		unsigned age = ept_reclaim_returns(r, ept_pte_age(f->leaf, f->index));

		ept_area_put_pte(f->area, f->leaf, f->index, EPT_PTE_PRIVATE, age, 0);
		f->res->installed += !err;
		ept_reclaim_count(r, refaults, 1);
	}
	return err;
}

/* Also of a pool's image, if it was spoilt: a bug of ours, and no page is better than a wrong one.
 */
static int unreadable(struct fault *f, const char *where, int err)
{
	struct ept_space *space = f->area->space;

	f->unreadable = true;
	if (ept_space_can_poison(space))
		return err;
	ept_space_fail(space, EPT_CASE_IO_ERROR, f->req->gpa, err,
		       "%s: cannot read the page of %s at %#lx from %s: %s; "
		       "check the storage and start the VM again",
		       space->name, f->area->name, (unsigned long)f->req->gpa.v, where,
		       strerrordesc_np(-err));
	return err;
}

static int from_pool(struct fault *f, uint64_t handle)
{
	struct ept_pool *pool = &f->area->space->reclaim.pool;
	char page[EPT_PAGE_SIZE] __attribute__((aligned(EPT_PAGE_SIZE)));
	size_t max;
	const struct ept_image *image = ept_pool_get(pool, handle, &max);
	int err = ept_image_page(image, max, f->req->gpa, page);

	if (err)
		return unreadable(f, "the pool", err);
	err = install_page(f, page);
	if (!err || err == -EEXIST)
		ept_pool_drop(pool, handle);
	return err;
}

/* In transit meanwhile: who else wants the page waits for this read. */
static int from_file(struct fault *f, uint64_t place)
{
	struct ept_reclaim *r = &f->area->space->reclaim;
	char page[EPT_PAGE_SIZE] __attribute__((aligned(EPT_PAGE_SIZE)));
	unsigned age = ept_pte_age(f->leaf, f->index);
	uint64_t bytes = 0;
	int err;

	fault_set(f, f->index, EPT_PTE_TRANSIT);
	pthread_mutex_unlock(&f->leaf->lock);
	err = ept_swap_read(&r->swap, place, f->req->gpa, page, &bytes);
	pthread_mutex_lock(&f->leaf->lock);
	pthread_cond_broadcast(&f->leaf->arrived);
	ept_area_put_pte(f->area, f->leaf, f->index, EPT_PTE_SWAPPED, age, place);
	f->res->bytes_read += bytes;
	f->res->major = true;
	ept_reclaim_count(r, read, 1);
	ept_reclaim_count(r, read_bytes, bytes);
	if (err)
		return unreadable(f, r->swap.name, err);
	if (ept_dying(f->area->space))
		return -ESHUTDOWN;
	err = install_page(f, page);
	if (!err || err == -EEXIST)
		ept_swap_release(&r->swap, place);
	return err;
}

enum ept_result ept_swap_in(struct fault *f)
{
	uint64_t value = ept_pte_value(f->leaf, f->index);
	bool pooled = ept_pte_get(f->leaf, f->index) == EPT_PTE_POOLED;
	struct ept_reclaim *r = &f->area->space->reclaim;
	enum ept_result result;

	result = ept_fault_finish(f, pooled ? from_pool(f, value) : from_file(f, value));
	if (ept_pte_get(f->leaf, f->index) == EPT_PTE_POISON) {
		if (pooled)
			ept_pool_drop(&r->pool, value);
		else
			ept_swap_release(&r->swap, value);
	}
	return result;
}
