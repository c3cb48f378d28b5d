/*
 * Pages of a snapshot that are put in before they are asked for: their bytes are there, and
 * were checked.
 */
#include "ept/handlers.h"
#include "ept/object_snapshot.h"

/* Pages of a list, a bit each. */
struct pages {
	uint64_t bit[EPT_SET_CHUNK / 64];
};

static bool is_in(const struct pages *p, unsigned i)
{
	return p->bit[i / 64] >> i % 64 & 1;
}

/* The leaf of a page of the list; NULL: it is none of an area of layers, or there is no memory. */
static struct ept_leaf *leaf_of(struct ept_space *space, uint64_t gpa, struct ept_area **area)
{
	*area = ept_area_find(space, gpa);
	if (!*area || (*area)->kind != EPT_KIND_LAYERS || gpa & ~EPT_PAGE_MASK)
		return NULL;
	return ept_mirror_get(&space->mirror, GPA(gpa));
}

/* Who asks for one of them from now on waits until it is in. */
static void begin_transit(struct ept_space *space, const uint64_t *gpa, unsigned count,
			  struct pages *mine)
{
	for (unsigned i = 0; i < count; i++) {
		struct ept_area *area;
		struct ept_leaf *leaf = leaf_of(space, gpa[i], &area);
		unsigned index = ept_leaf_index(GPA(gpa[i]));

		if (!leaf || !ept_snap_empty(leaf, index)) /* a hint */
			continue;
		pthread_mutex_lock(&leaf->lock);
		if (ept_snap_empty(leaf, index)) {
			ept_pte_set(leaf, index, EPT_PTE_TRANSIT);
			mine->bit[i / 64] |= 1UL << i % 64;
		}
		pthread_mutex_unlock(&leaf->lock);
	}
}

/* Pages [i, end) of the list that go in by one call: neighbours in one leaf of one area. */
static unsigned run_from(const uint64_t *gpa, unsigned i, unsigned count, const struct pages *mine,
			 const struct ept_area *area)
{
	uint64_t limit = ept_leaf_end(gpa[i], area->end);
	unsigned end = i + 1;

	while (end < count && is_in(mine, end) && gpa[end] == gpa[end - 1] + EPT_PAGE_SIZE &&
	       gpa[end] < limit)
		end++;
	return end;
}

/* What does not get in is as it was, and who asked for it asks again. */
static unsigned put_run(struct ept_area *area, struct ept_leaf *leaf, uint64_t gpa,
			const char *bytes, unsigned pages)
{
	struct ept_installer *in = &area->space->installer;
	unsigned first = ept_leaf_index(GPA(gpa)), put;
	char *hva = ept_hva(area, gpa);
	size_t len = (size_t)pages << EPT_PAGE_SHIFT, done = 0;

	pthread_mutex_lock(&leaf->lock);
	if (!ept_dying(area->space))
		(void)ept_install_copies(in, hva, bytes, len, &done);
	put = (unsigned)(done >> EPT_PAGE_SHIFT);
	ept_area_set_ptes(area, leaf, first, first + put, EPT_PTE_PRIVATE);
	ept_area_set_ptes(area, leaf, first + put, first + pages, EPT_PTE_NONE);
	pthread_cond_broadcast(&leaf->arrived);
	pthread_mutex_unlock(&leaf->lock);
	if (done < len)
		ept_install_wake(in, hva + done, len - done);
	return put;
}

unsigned ept_snap_put(struct ept_space *space, const uint64_t *gpa, const char *bytes,
		      unsigned count)
{
	struct pages mine = {0};
	unsigned put = 0;

	begin_transit(space, gpa, count, &mine);
	for (unsigned i = 0, end; i < count; i = end) {
		struct ept_area *area;
		struct ept_leaf *leaf;

		end = i + 1;
		if (!is_in(&mine, i))
			continue;
		leaf = leaf_of(space, gpa[i], &area);
		end = run_from(gpa, i, count, &mine, area);
		put += put_run(area, leaf, gpa[i], bytes + ((size_t)i << EPT_PAGE_SHIFT), end - i);
	}
	if (put)
		ept_debt_note(&space->debt, ept_now(), put, 0);
	if (space->reclaim.limit && put)
		ept_reclaim_note(space);
	return put;
}
