#include "vmm/report_space.h"

#include <errno.h>
#include <stdlib.h>

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* --- ranges --------------------------------------------------------------------------------- */

static int by_first(const void *a, const void *b)
{
	const struct report_range *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

/* Areas lie over each other (a kernel over RAM): what is one piece becomes one range. */
static void join(struct report_space *space)
{
	struct report_range *to = space->ranges;
	size_t n = space->nr_ranges;

	qsort(to, n, sizeof(*to), by_first);
	for (size_t i = 1; i < n; i++) {
		const struct report_range *from = &space->ranges[i];
		if (from->first <= to->end)
			to->end = most(to->end, from->end);
		else
			*++to = *from;
	}
	space->nr_ranges = n ? (size_t)(to - space->ranges) + 1 : 0;
	for (size_t i = 0; i < space->nr_ranges; i++) {
		space->ranges[i].before = space->pages;
		space->pages += space->ranges[i].end - space->ranges[i].first;
	}
}

int report_space_init(struct report_space *space, const struct trace_meta *meta)
{
	*space = (struct report_space){0};
	space->ranges = calloc(meta->nr_areas + 1, sizeof(*space->ranges));
	if (!space->ranges)
		return -ENOMEM;
	for (size_t i = 0; i < meta->nr_areas; i++) {
		const struct trace_area *area = &meta->areas[i];
		uint64_t end = area->gpa + area->size + EPT_PAGE_SIZE - 1;
		if (area->size)
			space->ranges[space->nr_ranges++] = (struct report_range){
			    .first = area->gpa >> EPT_PAGE_SHIFT, .end = end >> EPT_PAGE_SHIFT};
	}
	join(space);
	if (!space->pages)
		return 0;
	while (space->pages >> space->unit_shift > REPORT_UNITS)
		space->unit_shift++;
	space->row_pages = (space->pages + REPORT_ROWS - 1) / REPORT_ROWS;
	space->rows = (unsigned)((space->pages + space->row_pages - 1) / space->row_pages);
	space->seen = calloc((space->pages >> space->unit_shift) / 64 + 1, sizeof(*space->seen));
	return space->seen ? 0 : -ENOMEM;
}

void report_space_free(struct report_space *space)
{
	free(space->ranges);
	free(space->seen);
}

/* NULL: none has it. */
static const struct report_range *find(const struct report_space *space, uint64_t page)
{
	size_t low = 0, high = space->nr_ranges;

	while (low < high) {
		size_t middle = (low + high) / 2;
		if (space->ranges[middle].end <= page)
			low = middle + 1;
		else
			high = middle;
	}
	return low < space->nr_ranges && space->ranges[low].first <= page ? &space->ranges[low]
									  : NULL;
}

unsigned report_space_row(const struct report_space *space, uint64_t gpa)
{
	uint64_t page = gpa >> EPT_PAGE_SHIFT;
	const struct report_range *range = find(space, page);

	return range ? (unsigned)((page - range->first + range->before) / space->row_pages)
		     : REPORT_NO_ROW;
}

uint64_t report_space_gpa(const struct report_space *space, unsigned row)
{
	const struct report_range *range = space->ranges;
	uint64_t at = row * space->row_pages;

	while (at >= range->before + (range->end - range->first))
		range++;
	return (range->first + at - range->before) << EPT_PAGE_SHIFT;
}

/* --- pages that came -------------------------------------------------------------------------- */

/* Pages [from, end) of @range, as far as @left goes: how many had not come. */
static uint64_t take(struct report_space *space, const struct report_range *range, uint64_t from,
		     uint64_t end, uint64_t *left, uint64_t *rows)
{
	uint64_t fresh = 0;

	for (; from < end && *left; from++) {
		uint64_t at = from - range->first + range->before, unit = at >> space->unit_shift;
		uint64_t bit = 1ULL << unit % 64;
		if (space->seen[unit / 64] & bit)
			continue;
		space->seen[unit / 64] |= bit;
		rows[at / space->row_pages]++;
		(*left)--;
		fresh++;
	}
	return fresh;
}

uint64_t report_space_come(struct report_space *space, uint64_t gpa, uint32_t installed,
			   uint64_t *rows)
{
	uint64_t page = gpa >> EPT_PAGE_SHIFT, left = least(installed, REPORT_BLOCK), block = 1;
	const struct report_range *range = find(space, page);

	if (!range)
		return 0;
	while (block < left)
		block *= 2;
	uint64_t first = page & ~(block - 1), end = first + block;
	uint64_t fresh = take(space, range, page, least(end, range->end), &left, rows);
	return fresh + take(space, range, most(first, range->first), page, &left, rows);
}
