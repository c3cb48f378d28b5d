/*
 * What is kept for going back: at the point, the pages that are the space's own; later, a
 * page that was written and comes from a file or a snapshot, as that has it.
 */
#include "ept/host_pages.h"
#include "ept/object_snapshot.h"
#include "ept/reset_space.h"
#include "ept/zero.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int say(const struct ept_area *area, uint64_t gpa, int err, char *why, size_t size)
{
	snprintf(why, size, "%s: the page of %s at %#lx cannot be read: %s", area->space->name,
		 area->name, (unsigned long)gpa, strerrordesc_np(-err));
	return err;
}

/* --- the store -------------------------------------------------------------------------- */

static void keep_bytes(struct ept_reset *r, struct ept_reset_slot *s, uint64_t page,
		       const char *bytes)
{
	uint32_t place = s->kept[page] & EPT_KEPT_PLACE;

	if (ept_is_zero(bytes)) {
		s->kept[page] = place | EPT_KEPT_ZERO;
		return;
	}
	if (!place)
		place = ++r->used;
	s->kept[page] = place;
	memcpy(ept_reset_stored(r, place), bytes, EPT_PAGE_SIZE);
}

int ept_reset_keep_now(struct ept_reset *r, struct ept_reset_slot *s, uint64_t page)
{
	struct iovec iov;
	ssize_t n = ept_map(r->space, GPA(ept_reset_gpa(s, page)), EPT_PAGE_SIZE, EPT_READ,
			    EPT_ORIGIN_LOADER, &iov, 1);

	if (n < 0)
		return (int)n;
	keep_bytes(r, s, page, iov.iov_base);
	return ept_lost(r->space) ? -EIO : 0;
}

/* --- where a page comes from ---------------------------------------------------------------- */

static int keep_file_page(struct ept_reset *r, struct ept_reset_slot *s,
			  const struct ept_area *area, uint64_t page)
{
	char bytes[EPT_PAGE_SIZE] __attribute__((aligned(16)));
	uint64_t byte = ept_reset_gpa(s, page) - area->start, left = area->obj->length - byte;
	size_t want = left < EPT_PAGE_SIZE ? left : EPT_PAGE_SIZE;
	int err;

	if (ept_object_pread(area->obj, bytes, want, byte, &err) != want)
		return err ? err : -EIO;
	memset(bytes + want, 0, EPT_PAGE_SIZE - want);
	keep_bytes(r, s, page, bytes);
	return 0;
}

/* As it began, or as it is @now. */
static int keep_template_page(struct ept_reset *r, struct ept_reset_slot *s,
			      const struct ept_area *area, uint64_t page, bool now)
{
	char bytes[EPT_PAGE_SIZE] __attribute__((aligned(16)));
	uint64_t gpa = ept_reset_gpa(s, page);
	int err = now ? ept_template_now(area, gpa, bytes) : ept_template_page(area, gpa, bytes);

	if (err)
		return err;
	keep_bytes(r, s, page, bytes);
	return 0;
}

/* An extent is checked as a whole: what of it was not looked at yet is kept with it. */
static int keep_extent(struct ept_reset *r, struct ept_reset_slot *s, const struct ept_area *area,
		       uint64_t page, char *why, size_t size)
{
	static const char zeros[EPT_PAGE_SIZE];
	char bytes[EPT_EXTENT] __attribute__((aligned(EPT_PAGE_SIZE)));
	uint64_t gpa = ept_reset_gpa(s, page), start = gpa & ~(EPT_EXTENT - 1), read = 0;
	uint64_t first, end = start + EPT_EXTENT;
	uint16_t have;
	int err;

	start = start > area->start ? start : area->start;
	end = end < area->end ? end : area->end;
	first = (start - area->start) >> EPT_PAGE_SHIFT;
	err = ept_layers_read(area->obj, first, first + ((end - start) >> EPT_PAGE_SHIFT), bytes,
			      &have, &read, why, size);
	page -= (gpa - start) >> EPT_PAGE_SHIFT;
	for (uint64_t i = 0; i < (end - start) >> EPT_PAGE_SHIFT && !err; i++)
		if (s->kept[page + i] == EPT_KEPT_ORIGIN)
			keep_bytes(r, s, page + i,
				   have >> i & 1 ? bytes + (i << EPT_PAGE_SHIFT) : zeros);
	return err;
}

int ept_reset_keep(struct ept_reset *r, struct ept_reset_slot *s, const struct ept_area *area,
		   uint64_t page, uint64_t *read, char *why, size_t size)
{
	int err = 0;

	why[0] = 0;
	if (s->kept[page] != EPT_KEPT_ORIGIN)
		return 0;
	if (area->template)
		return keep_template_page(r, s, area, page, false);
	if (!area->obj) {
		s->kept[page] = EPT_KEPT_ZERO;
		return 0;
	}
	++*read;
	err = area->kind == EPT_KIND_LAYERS ? keep_extent(r, s, area, page, why, size)
					    : keep_file_page(r, s, area, page);
	return err && !why[0] ? say(area, ept_reset_gpa(s, page), err, why, size) : err;
}

/* --- the first copy -------------------------------------------------------------------------- */

enum from { FROM_ORIGIN, FROM_ZEROS, FROM_MEMORY };

/* An entry is read once: threads of the space's own change it. */
static enum from handled_page(const struct ept_area *area, uint64_t gpa)
{
	const struct ept_leaf *leaf = ept_mirror_find(&area->space->mirror, GPA(gpa));
	uint64_t entry =
	    leaf ? __atomic_load_n(&leaf->entry[ept_leaf_index(GPA(gpa))], __ATOMIC_ACQUIRE)
		 : EPT_PTE_NONE;

	switch ((enum ept_pte)(entry & 0xff)) {
	case EPT_PTE_NONE:
		return area->kind == EPT_KIND_LAYERS && entry >> 16 == EPT_VALUE_DISCARDED
			   ? FROM_ZEROS
			   : FROM_ORIGIN;
	case EPT_PTE_ZERO:
		return FROM_ZEROS;
	case EPT_PTE_FILE:
	case EPT_PTE_SAMPLED:
	case EPT_PTE_CLEAN:
	case EPT_PTE_DIRTY:
	case EPT_PTE_POISON: /* nobody can write to it */
		return FROM_ORIGIN;
	case EPT_PTE_PRIVATE:
	case EPT_PTE_TRANSIT:
	case EPT_PTE_HELD:
	case EPT_PTE_AGED:
	case EPT_PTE_POOLED:
	case EPT_PTE_SWAPPED:
	case EPT_NR_PTES:
		return FROM_MEMORY;
	}
	return FROM_MEMORY;
}

static int keep_handled(struct ept_reset *r, struct ept_reset_slot *s, const struct ept_area *area,
			uint64_t page, uint64_t end)
{
	int err = 0;

	for (; page < end && !err; page++) {
		switch (handled_page(area, ept_reset_gpa(s, page))) {
		case FROM_ORIGIN:
			break;
		case FROM_ZEROS:
			s->kept[page] = EPT_KEPT_ZERO;
			break;
		case FROM_MEMORY:
			err = ept_reset_keep_now(r, s, page);
			break;
		}
	}
	return err;
}

/* Without a page map every page is looked at. */
static int keep_mapped(struct ept_reset *r, struct ept_reset_slot *s, const struct ept_area *area,
		       uint64_t page, uint64_t end)
{
	/* Of a template's clone: what was given back is not in the file. */
	bool given = __atomic_load_n(&area->gave_back, __ATOMIC_ACQUIRE);
	unsigned char own[EPT_TABLE_SIZE];
	int err = 0;

	while (page < end && !err) {
		uint64_t n = end - page < EPT_TABLE_SIZE ? end - page : EPT_TABLE_SIZE;

		if (ept_host_copies(area->space->pagemap_fd, ept_hva(area, ept_reset_gpa(s, page)),
				    n, own))
			memset(own, 1, n);
		if (given)
			memset(own, 1, n);
		for (uint64_t i = 0; i < n && !err; i++)
			if (own[i])
				err = given ? keep_template_page(r, s, area, page + i, true)
					    : ept_reset_keep_now(r, s, page + i);
		page += n;
	}
	return err;
}

int ept_reset_keep_all(struct ept_reset *r, char *why, size_t size)
{
	int err = 0;

	for (size_t i = 0; i < r->space->nr_areas && !err; i++) {
		const struct ept_area *area = r->space->areas[i];
		struct ept_reset_slot *s = r->slots;

		if (!ept_area_writable(area))
			continue;
		while (area->start >= s->slot->gpa.v + s->slot->size)
			s++;
		uint64_t page = (area->start - s->slot->gpa.v) >> EPT_PAGE_SHIFT;
		uint64_t end = (area->end - s->slot->gpa.v) >> EPT_PAGE_SHIFT;

		err = ept_handler_engine(area) ? keep_handled(r, s, area, page, end)
					       : keep_mapped(r, s, area, page, end);
		if (err)
			say(area, area->start, err, why, size);
	}
	return err;
}
