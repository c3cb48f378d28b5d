/*
 * Where guest memory lies in the monitor: one reservation a slot, and in it one
 * mapping an area. A slot is a run of adjacent areas of equal rights, so KVM
 * sees few slots however many areas there are.
 */
#include "ept/space.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool adjoins(const struct ept_slot *slot, const struct ept_area *area)
{
	return slot->gpa.v + slot->size == area->start &&
	       slot->read_only == !ept_area_writable(area);
}

static int plan_slots(struct ept_space *space)
{
	struct ept_reservation *r = calloc(space->nr_areas, sizeof(*r));
	size_t n = 0;

	if (!r)
		return -ENOMEM;
	for (size_t i = 0; i < space->nr_areas; i++) {
		const struct ept_area *area = space->areas[i];

		if (!n || !adjoins(&r[n - 1].slot, area))
			r[n++].slot = (struct ept_slot){.gpa = GPA(area->start),
							.read_only = !ept_area_writable(area)};
		r[n - 1].slot.size += area->end - area->start;
	}
	space->reservations = r;
	space->nr_reservations = n;
	return 0;
}

/* A gpa and its hva agree modulo 2 MiB, or KVM could never map a huge page. */
static int reserve(struct ept_reservation *r)
{
	uint64_t phase = r->slot.gpa.v % EPT_LEAF_BYTES;
	size_t size = r->slot.size + 2 * EPT_LEAF_BYTES;
	void *base =
	    mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uintptr_t aligned;

	if (base == MAP_FAILED)
		return -ENOMEM;
	aligned = ((uintptr_t)base + EPT_LEAF_BYTES - 1) & ~(EPT_LEAF_BYTES - 1);
	r->base = base;
	r->size = size;
	r->slot.hva = (void *)(aligned + phase);
	return 0;
}

static int map_area(struct ept_area *area)
{
	const struct ept_area_kind *kind = &ept_area_kinds[area->kind];
	size_t size = area->end - area->start;
	int fd = -1, err;

	if (ept_area_cached(area)) {
		err = ept_object_cache(area->obj);
		if (err)
			return err;
		fd = area->obj->memfd;
		area->reads.host_ahead = area->obj->host_ahead;
	}
	if (mmap(area->hva, size, kind->prot, kind->map_flags | MAP_FIXED | MAP_NORESERVE, fd, 0) ==
	    MAP_FAILED)
		return -errno;
	ept_install_advise(area->hva, size, true);
	return ept_install_register(&area->space->installer, area->hva, size, kind->backing);
}

int ept_map_areas(struct ept_space *space)
{
	struct ept_reservation *r;
	int err = plan_slots(space);

	if (err)
		return err;
	r = space->reservations;
	for (size_t i = 0; i < space->nr_reservations; i++) {
		err = reserve(&r[i]);
		if (err)
			return err;
	}
	for (size_t i = 0; i < space->nr_areas; i++) {
		struct ept_area *area = space->areas[i];

		while (area->start >= r->slot.gpa.v + r->slot.size)
			r++;
		area->hva = (char *)r->slot.hva + (area->start - r->slot.gpa.v);
		err = ept_handler_engine(area) ? map_area(area) : ept_kernel_map_area(area);
		if (err)
			return err;
	}
	return 0;
}

void ept_unregister_areas(struct ept_space *space)
{
	for (size_t i = 0; i < space->nr_areas; i++)
		if (space->areas[i]->hva && ept_handler_engine(space->areas[i]))
			ept_install_unregister(&space->installer, space->areas[i]->hva,
					       space->areas[i]->end - space->areas[i]->start);
}

void ept_unmap_areas(struct ept_space *space)
{
	for (size_t i = 0; i < space->nr_reservations; i++)
		if (space->reservations[i].base)
			munmap(space->reservations[i].base, space->reservations[i].size);
	free(space->reservations);
	space->reservations = NULL;
	space->nr_reservations = 0;
}

bool ept_gpa_of(const struct ept_space *space, const void *hva, gpa_t *out)
{
	for (size_t i = 0; i < space->nr_reservations; i++) {
		const struct ept_slot *slot = &space->reservations[i].slot;
		uint64_t offset = (uint64_t)((uintptr_t)hva - (uintptr_t)slot->hva);

		if (offset < slot->size) {
			*out = GPA(slot->gpa.v + offset);
			return true;
		}
	}
	return false;
}

size_t ept_space_slots(const struct ept_space *space, struct ept_slot *slots, size_t max)
{
	for (size_t i = 0; i < space->nr_reservations && i < max; i++)
		slots[i] = space->reservations[i].slot;
	return space->nr_reservations;
}
