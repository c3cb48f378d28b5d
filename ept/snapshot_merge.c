/*
 * A chain of snapshots becomes one that stands alone: of each page what the newest layer says
 * that says anything. Every byte that is taken over is checked against its checksum before.
 */
#include "ept/snapshot_out.h"
#include "ept/snapshot_read.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct merge {
	struct ept_snapshot *const *layers;
	size_t count;
	struct ept_out out;
	char *why;
	size_t why_size;
	char bytes[EPT_EXTENT] __attribute__((aligned(EPT_PAGE_SIZE)));
	char layer[EPT_EXTENT] __attribute__((aligned(EPT_PAGE_SIZE)));
};

/* Where, from @gpa on, the first extent of any layer begins or goes on; @end: nowhere. */
static uint64_t next_said(const struct merge *m, uint64_t gpa, uint64_t end)
{
	uint64_t first = end;

	for (size_t i = 0; i < m->count; i++) {
		const struct ept_index_extent *e = ept_snapshot_next(m->layers[i], gpa);

		if (e && e->gpa < first)
			first = e->gpa > gpa ? e->gpa : gpa;
	}
	return first;
}

/* What one layer says of those pages of @e of which no newer one said anything. */
static int take_layer(struct merge *m, const struct ept_snapshot *s, struct ept_index_extent *e)
{
	const struct ept_index_extent *from = NULL, *read = NULL;

	for (unsigned i = 0; i < e->pages; i++) {
		uint64_t gpa = e->gpa + i * EPT_PAGE_SIZE;
		unsigned in, bit = 1U << i;
		int err = 0;

		if ((e->present | e->zero) & bit)
			continue;
		if (!from || gpa >= from->gpa + from->pages * EPT_PAGE_SIZE)
			from = ept_snapshot_find(s, gpa);
		if (!from)
			continue;
		in = (unsigned)((gpa - from->gpa) >> EPT_PAGE_SHIFT);
		if (from->present >> in & 1 && read != from)
			err = ept_snapshot_extent(s, from, m->layer);
		if (err) {
			ept_snapshot_say(s, from, err, m->why, m->why_size);
			return err;
		}
		if (from->present >> in & 1) {
			read = from;
			memcpy(m->bytes + i * EPT_PAGE_SIZE, m->layer + in * EPT_PAGE_SIZE,
			       EPT_PAGE_SIZE);
			e->present |= (uint16_t)bit;
		}
		e->zero |= (uint16_t)(from->zero >> in & 1 ? bit : 0);
	}
	return 0;
}

static int merge_extent(struct merge *m, const struct ept_index_area *area, uint64_t gpa,
			uint64_t end)
{
	struct ept_index_extent e = {.gpa = gpa,
				     .pages = (uint16_t)((end - gpa) >> EPT_PAGE_SHIFT)};
	int err = 0;

	memset(m->bytes, 0, sizeof(m->bytes));
	for (size_t i = 0; i < m->count && !err; i++)
		err = take_layer(m, m->layers[i], &e);
	if (err)
		return err;
	if (!(area->flags & EPT_INDEX_AREA_FILE)) /* zero is what is not there */
		e.zero = 0;
	if (!(e.present | e.zero))
		return 0;
	e.sum = ept_checksum(m->bytes, e.pages * EPT_PAGE_SIZE);
	return ept_out_extent(&m->out, &e, m->bytes);
}

static int merge_area(struct merge *m, const struct ept_index_area *area)
{
	uint64_t end = area->gpa + area->size, gpa = next_said(m, area->gpa, end);
	int err = 0;

	ept_out_area(&m->out, area->gpa, area->size, area->flags);
	while (gpa < end && !err) {
		uint64_t from = gpa & ~(EPT_EXTENT - 1), to = from + EPT_EXTENT;

		from = from > area->gpa ? from : area->gpa;
		to = to < end ? to : end;
		err = merge_extent(m, area, from, to);
		gpa = next_said(m, to, end);
	}
	return err;
}

int ept_snapshot_merge(struct ept_snapshot *const *layers, size_t count,
		       const struct ept_snapshot_options *options, struct ept_snapshot_info *info,
		       char *why, size_t size)
{
	static const uint8_t none[16];
	struct merge *m;
	int err;

	if (!ept_snapshot_chain(layers, count)) {
		snprintf(why, size, "%s: it is not the difference to what lies below it",
			 count ? layers[0]->name : "nothing");
		return -EINVAL;
	}
	m = aligned_alloc(EPT_PAGE_SIZE, (sizeof(*m) + EPT_PAGE_SIZE - 1) & EPT_PAGE_MASK);
	if (!m) {
		snprintf(why, size, "%s: no memory to merge snapshots with", layers[0]->name);
		return -ENOMEM;
	}
	*m = (struct merge){.layers = layers, .count = count, .why = why, .why_size = size};
	err = ept_out_init(&m->out, options, layers[0]->name, layers[0]->header.areas, info, why,
			   size);
	for (uint64_t i = 0; i < layers[0]->header.areas && !err; i++)
		err = merge_area(m, &layers[0]->areas[i]);
	if (!err)
		err = ept_out_finish(&m->out, none);
	ept_out_free(&m->out);
	free(m);
	return err;
}
