/*
 * Bringing in what is not asked for yet by asking for it, as a guest would: so it comes by 2 MiB
 * where a guest's own fault would bring as much.
 */
#include "ept/fault.h"
#include "ept/object_snapshot.h"
#include "ept/prefetch.h"
#include "ept/space.h"

#include <errno.h>

#define AHEAD 4 /* pages of the set: the host is told of their 2 MiB */

/* Is the page in a layer, and nothing there of it yet? A hint. */
static bool is_missing(struct ept_space *space, uint64_t gpa)
{
	const struct ept_leaf *leaf = ept_mirror_find(&space->mirror, GPA(gpa));
	const struct ept_area *area = ept_area_find(space, gpa);
	unsigned index = ept_leaf_index(GPA(gpa));

	if (!area || area->kind != EPT_KIND_LAYERS)
		return false;
	if (leaf && (ept_pte_get(leaf, index) != EPT_PTE_NONE || ept_pte_value(leaf, index)))
		return false;
	return ept_layers_what(area->obj, (gpa - area->start) >> EPT_PAGE_SHIFT) == EPT_LAYERS_DATA;
}

/* Waits while the space is held, as every fault. */
static void ask(struct ept_space *space, uint64_t gpa)
{
	struct ept_request req = {.gpa = GPA(gpa & EPT_PAGE_MASK),
				  .access = EPT_READ,
				  .origin = EPT_ORIGIN_LOADER,
				  .picked_up = ept_now()};
	struct ept_prefetch *p = &space->prefetch;
	struct ept_resolution res;
	enum ept_result result = handle_ept_fault(space, &req, &res);

	if (result != EPT_RESOLVED || res.kase == EPT_CASE_IO_POISON)
		__atomic_store_n(&p->error, res.error ? res.error : -EIO, __ATOMIC_RELAXED);
	else
		__atomic_fetch_add(&p->stats.brought, res.installed, __ATOMIC_RELAXED);
}

static void will_need(struct ept_space *space, uint64_t gpa)
{
	const struct ept_area *area = ept_area_find(space, gpa);
	uint64_t start = ept_leaf_start(gpa);

	if (!area || area->kind != EPT_KIND_LAYERS)
		return;
	start = start > area->start ? start : area->start;
	ept_layers_will_need(area->obj, (start - area->start) >> EPT_PAGE_SHIFT,
			     (ept_leaf_end(start, area->end) - area->start) >> EPT_PAGE_SHIFT);
}

/* --- a working set ----------------------------------------------------------------------- */

static bool is_dense(const struct ept_space *space, uint64_t gpa)
{
	const struct ept_leaf *leaf = ept_mirror_find(&space->mirror, GPA(gpa));

	return leaf && leaf->in_set >= EPT_SET_DENSE;
}

uint64_t ept_prefetch_ask_dense(struct ept_space *space, const uint64_t *gpa, uint64_t count)
{
	uint64_t dense = 0;

	for (uint64_t i = 0; i < count && !ept_prefetch_cancelled(space); i++) {
		uint64_t ahead = gpa[i + AHEAD < count ? i + AHEAD : i];

		if (is_dense(space, ahead) && is_missing(space, ahead))
			will_need(space, ahead);
		if (!is_dense(space, gpa[i]))
			continue;
		if (is_missing(space, gpa[i]))
			ask(space, gpa[i]);
		dense++;
	}
	return dense;
}

/* A page that is damaged, or cannot be read, is left to who asks for it. */
static bool read_page(struct ept_space *space, uint64_t gpa, char *to)
{
	const struct ept_area *area = ept_area_find(space, gpa);
	uint64_t page = (gpa - area->start) >> EPT_PAGE_SHIFT, bytes = 0;
	uint16_t have;
	char why[256];

	return !ept_layers_read(area->obj, page, page + 1, to, &have, &bytes, why, sizeof(why));
}

unsigned ept_prefetch_read_sparse(struct ept_space *space, const uint64_t *gpa, uint64_t count,
				  uint64_t *sparse, char *to)
{
	unsigned n = 0;

	for (uint64_t i = 0; i < count; i++)
		if (!is_dense(space, gpa[i]) && is_missing(space, gpa[i]) &&
		    read_page(space, gpa[i], to + ((size_t)n << EPT_PAGE_SHIFT)))
			sparse[n++] = gpa[i];
	return n;
}

/* --- all of memory ----------------------------------------------------------------------- */

/* The @n-th leaf's worth of memory that areas lie in; false: there are not so many. */
static bool nth_leaf(const struct ept_space *space, uint64_t n, uint64_t *start, uint64_t *end)
{
	for (size_t i = 0; i < space->nr_areas; i++) {
		const struct ept_area *area = space->areas[i];
		uint64_t first = ept_leaf_start(area->start);
		uint64_t leaves = (area->end - first + EPT_LEAF_BYTES - 1) >> EPT_LEAF_SHIFT;

		if (n < leaves) {
			*start = first + (n << EPT_LEAF_SHIFT);
			*end = ept_leaf_end(*start, area->end);
			*start = *start > area->start ? *start : area->start;
			return true;
		}
		n -= leaves;
	}
	return false;
}

void ept_prefetch_ask_all(struct ept_space *space)
{
	struct ept_prefetch *p = &space->prefetch;
	uint64_t gpa, end, next;

	while (!ept_prefetch_cancelled(space) && !__atomic_load_n(&p->error, __ATOMIC_RELAXED) &&
	       nth_leaf(space, __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED), &gpa, &end)) {
		next = end;
		if (ept_area_find(space, next))
			will_need(space, next);
		for (; gpa < end && !ept_prefetch_cancelled(space); gpa += EPT_PAGE_SIZE)
			if (is_missing(space, gpa))
				ask(space, gpa);
	}
}
