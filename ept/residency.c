/* How much of a part of guest memory is there (stats.h): from the mirror, or the host's tables. */
#include "ept/host_pages.h"
#include "ept/space.h"
#include "ept/stats.h"

static uint64_t in_leaf(const struct ept_leaf *leaf, unsigned first, uint64_t pages)
{
	uint64_t there = 0;

	for (unsigned i = first; i < first + pages; i++)
		there += ept_pte_resident(ept_pte_get(leaf, i));
	return there;
}

static uint64_t in_mirror(const struct ept_area *area, uint64_t from, uint64_t to)
{
	uint64_t there = 0, next;

	for (uint64_t gpa = from; gpa < to; gpa = next) {
		const struct ept_leaf *leaf = ept_mirror_find(&area->space->mirror, GPA(gpa));

		next = ept_leaf_end(gpa, to);
		if (leaf)
			there +=
			    in_leaf(leaf, ept_leaf_index(GPA(gpa)), (next - gpa) >> EPT_PAGE_SHIFT);
	}
	return there;
}

uint64_t ept_area_resident_pages(const struct ept_area *area, gpa_t from, uint64_t pages)
{
	if (ept_handler_engine(area))
		return in_mirror(area, from.v, from.v + (pages << EPT_PAGE_SHIFT));
	if (!area->hva)
		return 0;
	return ept_host_own_pages(area->space->pagemap_fd, area->hva + (from.v - area->start),
				  pages);
}
