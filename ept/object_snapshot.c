#include "ept/object_snapshot.h"
#include "ept/space.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ept_layers {
	uint64_t gpa; /* of the area's page 0 */
	struct ept_object *origin;
	size_t count;
	struct ept_snapshot *layer[]; /* newest first */
};

/* What the newest layer that says something of a page says. */
struct place {
	const struct ept_snapshot *snapshot; /* NULL: none does */
	const struct ept_index_extent *extent;
	unsigned index; /* of the page in it */
	bool zero;
};

static struct place find(const struct ept_layers *l, uint64_t page)
{
	uint64_t gpa = l->gpa + (page << EPT_PAGE_SHIFT);

	for (size_t i = 0; i < l->count; i++) {
		const struct ept_index_extent *e = ept_snapshot_find(l->layer[i], gpa);
		unsigned index = e ? (unsigned)((gpa - e->gpa) >> EPT_PAGE_SHIFT) : 0;

		if (e && (e->present | e->zero) >> index & 1)
			return (struct place){l->layer[i], e, index, e->zero >> index & 1};
	}
	return (struct place){.zero = !l->origin};
}

bool ept_layers_zero(const struct ept_object *obj, uint64_t page)
{
	return find(obj->layers, page).zero;
}

const struct ept_object *ept_layers_origin(const struct ept_object *obj)
{
	return obj->layers->origin;
}

/* A header's checksum is of its index' checksum, too, which has one of each extent. */
bool ept_layers_are(const struct ept_object *obj, struct ept_snapshot *const *layers, size_t count)
{
	const struct ept_layers *l = obj->layers;
	bool same = l->count == count;

	for (size_t i = 0; same && i < count; i++)
		same = ept_sums_equal(&l->layer[i]->header.sum, &layers[i]->header.sum);
	return same;
}

static int read_origin(const struct ept_object *origin, uint64_t page, char *to)
{
	uint64_t byte = page << EPT_PAGE_SHIFT;
	size_t want = byte < origin->length ? origin->length - byte : 0, done;
	int err = 0;

	want = want < EPT_PAGE_SIZE ? want : EPT_PAGE_SIZE;
	done = want ? ept_object_pread(origin, to, want, byte, &err) : 0;
	memset(to + done, 0, EPT_PAGE_SIZE - done);
	return done == want ? 0 : err ? err : -EIO;
}

/* All of [first, end) is one extent of the only layer, and nothing is below it. */
static const struct ept_index_extent *alone(const struct ept_layers *l, uint64_t first,
					    uint64_t end)
{
	uint64_t gpa = l->gpa + (first << EPT_PAGE_SHIFT);
	const struct ept_index_extent *e = NULL;

	if (l->count == 1 && !l->origin)
		e = ept_snapshot_find(l->layer[0], gpa);
	return e && e->gpa == gpa && e->pages == end - first ? e : NULL;
}

/* The same for such an extent, which is what most are: without a copy. */
static int read_alone(const struct ept_layers *l, const struct ept_index_extent *e, char *to,
		      uint16_t *have, uint64_t *bytes, char *why, size_t size)
{
	int err = ept_snapshot_extent(l->layer[0], e, to);

	*bytes += e->stored;
	*have = e->present;
	if (err)
		ept_snapshot_say(l->layer[0], e, err, why, size);
	return err;
}

int ept_layers_read(const struct ept_object *obj, uint64_t first, uint64_t end, char *to,
		    uint16_t *have, uint64_t *bytes, char *why, size_t size)
{
	char extent[EPT_EXTENT] __attribute__((aligned(EPT_PAGE_SIZE)));
	const struct ept_index_extent *read = alone(obj->layers, first, end);
	int err = 0;

	*have = 0;
	*why = 0;
	if (read)
		return read_alone(obj->layers, read, to, have, bytes, why, size);
	for (uint64_t page = first; page < end && !err; page++) {
		struct place p = find(obj->layers, page);
		char *dst = to + ((page - first) << EPT_PAGE_SHIFT);

		if (p.zero)
			continue;
		if (!p.snapshot) {
			err = read_origin(obj->layers->origin, page, dst);
			*bytes += EPT_PAGE_SIZE;
		} else if (p.extent != read) {
			err = ept_snapshot_extent(p.snapshot, p.extent, extent);
			*bytes += p.extent->stored;
			read = p.extent;
			if (err)
				ept_snapshot_say(p.snapshot, p.extent, err, why, size);
		}
		if (!err && p.snapshot)
			memcpy(dst, extent + p.index * EPT_PAGE_SIZE, EPT_PAGE_SIZE);
		*have |= (uint16_t)(1U << (page - first));
	}
	return err;
}

void ept_layers_will_need(const struct ept_object *obj, uint64_t first, uint64_t end)
{
	const struct ept_layers *l = obj->layers;
	uint64_t gpa = l->gpa + (first << EPT_PAGE_SHIFT), stop = l->gpa + (end << EPT_PAGE_SHIFT);

	/* Where it lies in an older layer, or scattered, is not worth finding out. */
	for (const struct ept_index_extent *e; gpa < stop; gpa += EPT_EXTENT) {
		e = ept_snapshot_find(l->layer[0], gpa);
		if (!e)
			continue;
		posix_fadvise(l->layer[0]->memory_fd, (off_t)e->offset,
			      e->flags ? e->stored : (off_t)(stop - gpa), POSIX_FADV_WILLNEED);
		if (!e->flags)
			return;
	}
}

enum ept_layers_what ept_layers_what(const struct ept_object *obj, uint64_t page)
{
	struct place p = find(obj->layers, page);

	return p.zero ? EPT_LAYERS_ZERO : p.snapshot ? EPT_LAYERS_DATA : EPT_LAYERS_BELOW;
}

int ept_layers_page(const struct ept_object *obj, uint64_t page, char *to,
		    struct ept_layers_extent *last)
{
	struct place p = find(obj->layers, page);
	struct ept_layers_extent own;
	int err = 0;

	if (p.zero)
		return EPT_LAYERS_ZERO;
	if (!p.snapshot)
		return EPT_LAYERS_BELOW;
	if (!last) {
		own.of = NULL;
		last = &own;
	}
	if (last->of != p.extent)
		err = ept_snapshot_extent(p.snapshot, p.extent, last->bytes);
	last->of = err ? NULL : p.extent;
	if (!err)
		memcpy(to, last->bytes + p.index * EPT_PAGE_SIZE, EPT_PAGE_SIZE);
	return err ? err : EPT_LAYERS_DATA;
}

static const struct ept_index_area *area_of(const struct ept_snapshot *s, uint64_t gpa,
					    uint64_t size)
{
	for (uint64_t i = 0; i < s->header.areas; i++)
		if (s->areas[i].gpa == gpa && s->areas[i].size == size)
			return &s->areas[i];
	return NULL;
}

void ept_layers_free(struct ept_layers *l)
{
	if (!l)
		return;
	ept_object_put(l->origin);
	free(l);
}

int ept_object_snapshot(struct ept_snapshot *const *layers, size_t count, gpa_t gpa, uint64_t size,
			struct ept_object *origin, struct ept_object **out)
{
	const struct ept_index_area *area;
	struct ept_layers *l;
	int err;

	if (!ept_snapshot_chain(layers, count))
		return -EINVAL;
	area = area_of(layers[0], gpa.v, size);
	if (!area || !origin == !!(area->flags & EPT_INDEX_AREA_FILE))
		return -EINVAL;
	l = malloc(sizeof(*l) + count * sizeof(*layers));
	if (!l)
		return -ENOMEM;
	l->gpa = gpa.v;
	l->origin = origin ? ept_object_ref(origin) : NULL;
	l->count = count;
	memcpy(l->layer, layers, count * sizeof(*layers));
	err = ept_object_of_layers(l, layers[0]->name, size, out);
	if (err)
		ept_layers_free(l);
	return err;
}

/* --- a whole space of them -------------------------------------------------------------- */

bool ept_space_has_areas(const struct ept_space *space, const struct ept_snapshot *s)
{
	if (space->nr_areas != s->header.areas)
		return false;
	for (size_t i = 0; i < space->nr_areas; i++)
		if (!area_of(s, space->areas[i]->start,
			     space->areas[i]->end - space->areas[i]->start))
			return false;
	return true;
}

int ept_space_restore(struct ept_space *space, struct ept_snapshot *const *layers, size_t count,
		      char *why, size_t size)
{
	int err = 0;

	space->prefetch.how = EPT_PREFETCH_OFF;
	if (!ept_space_has_areas(space, layers[0])) {
		snprintf(why, size, "%s: it is of a machine with other memory", layers[0]->name);
		return -EINVAL;
	}
	for (size_t i = 0; i < space->nr_areas && !err; i++) {
		struct ept_area *area = space->areas[i];
		struct ept_object *obj = NULL;

		if (!ept_area_saved(area))
			continue;
		err = ept_object_snapshot(layers, count, GPA(area->start), area->end - area->start,
					  area->obj, &obj);
		if (!err)
			err = ept_area_replace(area, obj);
		ept_object_put(obj);
		if (err)
			snprintf(why, size, "%s: area %s: %s", layers[0]->name, area->name,
				 strerrordesc_np(-err));
	}
	return err;
}
