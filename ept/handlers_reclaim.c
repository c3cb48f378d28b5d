/*
 * What reclaim made to fault again is asked for. The page is in memory: it comes back
 * without a copy, and is older by one hit, so that the hand leaves it alone for longer
 * each time. What reclaim took is handlers_swap.c's.
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
	return ept_age_hits(ept_pte_age(f->leaf, f->index));
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
