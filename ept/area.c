/* Areas: a sorted array without overlaps, complete before the space starts. */
#include "ept/lead.h"
#include "ept/object_snapshot.h"
#include "ept/space.h"
#include "ept/stats.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GPA_END (1UL << EPT_GPA_BITS)

const struct ept_area_kind ept_area_kinds[EPT_NR_KINDS] = {
    [EPT_KIND_ANON] = {PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, EPT_BACKING_ANON},
    [EPT_KIND_RO] = {PROT_READ, MAP_PRIVATE, EPT_BACKING_MEMFD_RO, .read_only = true},
    [EPT_KIND_COW] = {PROT_READ | PROT_WRITE, MAP_PRIVATE, EPT_BACKING_MEMFD},
    [EPT_KIND_SHARED] = {PROT_READ | PROT_WRITE, MAP_SHARED, EPT_BACKING_MEMFD},
    [EPT_KIND_OWN] = {PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, EPT_BACKING_ANON},
    /* Pages are moved only into what may be written; the slot says that the guest may not. */
    [EPT_KIND_OWN_RO] = {PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, EPT_BACKING_ANON,
			 .read_only = true},
    [EPT_KIND_LAYERS] = {PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, EPT_BACKING_ANON},
};

/* The first area that ends above @gpa; nr_areas if there is none. */
static size_t first_above(const struct ept_space *space, uint64_t gpa)
{
	size_t low = 0, high = space->nr_areas;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (space->areas[mid]->end > gpa)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

struct ept_area *ept_area_find(const struct ept_space *space, uint64_t gpa)
{
	size_t i = first_above(space, gpa);

	return i < space->nr_areas && space->areas[i]->start <= gpa ? space->areas[i] : NULL;
}

static enum ept_kind kind_of(const struct ept_object *obj)
{
	static const enum ept_kind kinds[] = {
	    [EPT_FILE_RO] = EPT_KIND_RO,
	    [EPT_FILE_COW] = EPT_KIND_COW,
	    [EPT_FILE_SHARED] = EPT_KIND_SHARED,
	};

	if (ept_object_layered(obj))
		return EPT_KIND_LAYERS;
	return obj ? kinds[obj->mode] : EPT_KIND_ANON;
}

/* Does a whole 2 MiB of guest-physical memory lie in it? */
static bool holds_leaf(const struct ept_area *area)
{
	uint64_t first = (area->start + EPT_LEAF_BYTES - 1) & ~(EPT_LEAF_BYTES - 1);

	return first + EPT_LEAF_BYTES <= area->end;
}

/*
 * Only anonymous memory can be huge for the handlers. A private file is that under
 * EPT_HUGE_ALWAYS, where a whole 2 MiB of it lies in the area; it then shares no page cache.
 */
static bool wants_own(const struct ept_area *area, const struct ept_object *obj)
{
	return obj && !ept_object_layered(obj) && obj->mode != EPT_FILE_SHARED &&
	       holds_leaf(area) && area->space->config.huge == EPT_HUGE_ALWAYS;
}

static enum ept_kind handled_kind_of(const struct ept_area *area, const struct ept_object *obj)
{
	if (!wants_own(area, obj))
		return kind_of(obj);
	return obj->mode == EPT_FILE_RO ? EPT_KIND_OWN_RO : EPT_KIND_OWN;
}

/*
 * Who resolves the faults of @area over @obj: the one place that chooses. Measured per
 * 4 KiB page (docs/fault-paths.md): the host kernel's own path costs 4 us, an event of
 * ours 38 to 86; it uses 2 MiB pages, and its page cache is every monitor's. What it
 * cannot do stays with the handlers: a limit (what it installs could not be reclaimed), a
 * page that is poisoned, a file written back, one it cannot map as it is.
 */
static enum ept_engine engine_of(const struct ept_area *area, const struct ept_object *obj)
{
	const struct ept_space *space = area->space;

	if (space->config.engine != EPT_ENGINE_AUTO)
		return space->config.engine;
	if (space->config.memory_limit)
		return EPT_ENGINE_HANDLER;
	if (obj && (ept_space_can_poison(space) || wants_own(area, obj) || !ept_kernel_maps(obj)))
		return EPT_ENGINE_HANDLER;
	return EPT_ENGINE_KERNEL;
}

static struct ept_area *new_area(struct ept_space *space, const char *name, uint64_t start,
				 uint64_t end, struct ept_object *obj)
{
	struct ept_area *area = calloc(1, sizeof(*area));

	if (!area)
		return NULL;
	area->name = strdup(name);
	if (!area->name) {
		free(area);
		return NULL;
	}
	area->space = space;
	area->start = start;
	area->end = end;
	area->engine = engine_of(area, obj);
	area->kind = ept_handler_engine(area) ? handled_kind_of(area, obj) : kind_of(obj);
	area->obj = obj ? ept_object_ref(obj) : NULL;
	ept_streams_init(&area->reads);
	ept_streams_init(&area->writes);
	if (obj)
		ept_object_attach(obj, area);
	return area;
}

void ept_area_free(struct ept_area *area)
{
	if (!area)
		return;
	ept_streams_free(&area->reads);
	ept_streams_free(&area->writes);
	if (area->obj)
		ept_object_detach(area->obj, area);
	ept_lead_free(area->lead);
	ept_object_put(area->obj);
	if (area->template)
		close(area->template_fd);
	free(area->name);
	free(area);
}

/* Where our handlers do not serve, nobody would check what is read. */
static bool takes_layers(const struct ept_space *space)
{
	return space->config.engine != EPT_ENGINE_KERNEL;
}

int ept_area_replace(struct ept_area *area, struct ept_object *obj)
{
	if (area->space->life != EPT_LIFE_NEW || !ept_object_layered(obj) ||
	    !takes_layers(area->space))
		return -EINVAL;
	if (area->obj)
		ept_object_detach(area->obj, area);
	ept_object_put(area->obj);
	area->obj = ept_object_ref(obj);
	area->kind = EPT_KIND_LAYERS;
	area->engine = EPT_ENGINE_HANDLER;
	ept_object_attach(obj, area);
	return 0;
}

static int check(const struct ept_space *space, uint64_t start, uint64_t size,
		 const struct ept_object *obj)
{
	if (space->life != EPT_LIFE_NEW || !size || (start | size) & ~EPT_PAGE_MASK)
		return -EINVAL;
	if (start >= GPA_END || size > GPA_END - start)
		return -ERANGE;
	if (obj && size > ept_object_pages(obj) << EPT_PAGE_SHIFT)
		return -EINVAL;
	if (ept_object_layered(obj) && !takes_layers(space))
		return -EINVAL;
	for (size_t i = first_above(space, start);
	     i < space->nr_areas && space->areas[i]->start < start + size; i++)
		if (space->areas[i]->kind != EPT_KIND_ANON)
			return -EEXIST;
	return 0;
}

static void insert_at(struct ept_space *space, size_t at, struct ept_area *area)
{
	memmove(&space->areas[at + 1], &space->areas[at],
		(space->nr_areas - at) * sizeof(*space->areas));
	space->areas[at] = area;
	space->nr_areas++;
}

/* Take [start, end) away from the anonymous areas in it. @tail is what a split one leaves above. */
static void make_room(struct ept_space *space, uint64_t start, uint64_t end, struct ept_area *tail)
{
	size_t i = first_above(space, start), kept = i;

	for (; i < space->nr_areas; i++) {
		struct ept_area *area = space->areas[i];

		if (area->start >= end) {
			space->areas[kept++] = area;
		} else if (area->start < start) {
			area->end = start;
			space->areas[kept++] = area;
		} else if (area->end > end) {
			area->start = end;
			space->areas[kept++] = area;
		} else {
			ept_area_free(area);
		}
	}
	space->nr_areas = kept;
	if (tail)
		insert_at(space, first_above(space, tail->start), tail);
}

int ept_area_add(struct ept_space *space, const char *name, gpa_t gpa, uint64_t size,
		 struct ept_object *obj, struct ept_area **out)
{
	struct ept_area *area, *around, *tail = NULL, **areas;
	uint64_t end = gpa.v + size;
	int err = check(space, gpa.v, size, obj);

	if (err)
		return err;
	areas = realloc(space->areas, (space->nr_areas + 2) * sizeof(*areas));
	if (!areas)
		return -ENOMEM;
	space->areas = areas;
	area = new_area(space, name, gpa.v, end, obj);
	if (!area)
		return -ENOMEM;
	around = ept_area_find(space, gpa.v);
	if (around && around->start < gpa.v && around->end > end) {
		tail = new_area(space, around->name, end, around->end, NULL);
		if (!tail) {
			ept_area_free(area);
			return -ENOMEM;
		}
	}
	make_room(space, gpa.v, end, tail);
	insert_at(space, first_above(space, gpa.v), area);
	if (out)
		*out = area;
	return 0;
}

void ept_area_split(struct ept_area *area, struct ept_leaf *leaf)
{
	if (leaf->huge)
		__atomic_fetch_sub(&area->huge, 1, __ATOMIC_RELAXED);
	leaf->huge = false;
}

static void count(struct ept_area *area, int resident, int dirty, int own)
{
	if (resident)
		__atomic_fetch_add(&area->resident, resident, __ATOMIC_RELAXED);
	if (dirty)
		__atomic_fetch_add(&area->dirty, dirty, __ATOMIC_RELAXED);
	if (own)
		__atomic_fetch_add(&area->space->reclaim.own, own, __ATOMIC_RELAXED);
}

void ept_area_put_pte(struct ept_area *area, struct ept_leaf *leaf, unsigned index,
		      enum ept_pte pte, unsigned age, uint64_t value)
{
	enum ept_pte old = ept_pte_get(leaf, index);
	int own = ept_pte_own(pte) - ept_pte_own(old);
	int resident = ept_pte_resident(pte) - ept_pte_resident(old);
	int dirty = (pte == EPT_PTE_DIRTY) - (old == EPT_PTE_DIRTY);

	count(area, resident, dirty, own);
	ept_pte_put(leaf, index, pte, age, value);
}

void ept_area_set_pte(struct ept_area *area, struct ept_leaf *leaf, unsigned index,
		      enum ept_pte pte)
{
	ept_area_put_pte(area, leaf, index, pte, 0, 0);
}

void ept_area_set_ptes(struct ept_area *area, struct ept_leaf *leaf, unsigned first, unsigned end,
		       enum ept_pte pte)
{
	int resident = 0, dirty = 0, own = 0;

	for (unsigned i = first; i < end; i++) {
		enum ept_pte old = ept_pte_get(leaf, i);

		resident += ept_pte_resident(pte) - ept_pte_resident(old);
		dirty += (pte == EPT_PTE_DIRTY) - (old == EPT_PTE_DIRTY);
		own += ept_pte_own(pte) - ept_pte_own(old);
		ept_pte_set(leaf, i, pte);
	}
	count(area, resident, dirty, own);
}

size_t ept_area_count(const struct ept_space *space)
{
	return space->nr_areas;
}

struct ept_area *ept_area_at(const struct ept_space *space, size_t index)
{
	return index < space->nr_areas ? space->areas[index] : NULL;
}

void ept_area_range(const struct ept_area *area, gpa_t *gpa, uint64_t *size)
{
	*gpa = GPA(area->start);
	*size = area->end - area->start;
}

const char *ept_area_name(const struct ept_area *area)
{
	return area->name;
}

void ept_area_info(struct ept_area *area, struct ept_area_info *out)
{
	*out = (struct ept_area_info){
	    .name = area->name,
	    .gpa = GPA(area->start),
	    .size = area->end - area->start,
	    .engine = area->engine,
	    .resident = __atomic_load_n(&area->resident, __ATOMIC_RELAXED) << EPT_PAGE_SHIFT,
	    .dirty = __atomic_load_n(&area->dirty, __ATOMIC_RELAXED) << EPT_PAGE_SHIFT,
	    .huge = __atomic_load_n(&area->huge, __ATOMIC_RELAXED) << EPT_LEAF_SHIFT,
	};
	if (!ept_handler_engine(area))
		out->resident = ept_kernel_resident(area);
	if (area->obj) {
		out->file = area->obj->name;
		out->mode = area->obj->mode;
		out->layers = area->kind == EPT_KIND_LAYERS;
		out->file_bytes = ept_area_file_bytes(area);
		out->file_read = ept_object_bytes_read(area->obj, out->file_bytes);
		out->host_ahead = area->obj->host_ahead;
	}
	if (out->layers && ept_layers_origin(area->obj))
		out->origin = ept_layers_origin(area->obj)->name;
	/* The host kernel reads a mapped file itself: what is resident is what it read for us. */
	if (area->obj && !area->obj->cache)
		out->file_read = out->resident < out->file_bytes ? out->resident : out->file_bytes;
	if (area->obj && !ept_handler_engine(area)) {
		int64_t cached = ept_object_host_cached_at_once(area->obj, 0, out->file_bytes);

		out->copied = ept_kernel_copied(area);
		out->host_cached = cached > 0 ? (uint64_t)cached << EPT_PAGE_SHIFT : 0;
	}
}

void ept_area_ahead_stats(const struct ept_area *area, struct ept_ahead_stats *out)
{
	*out = (struct ept_ahead_stats){0};
	if (!area->obj)
		return;
#define X(field, name, unit) \
	out->field = __atomic_load_n(&area->obj->ahead_stats.field, __ATOMIC_RELAXED);
	EPT_AHEAD_COUNTERS(X)
#undef X
	out->wasted = out->pages > out->used ? out->pages - out->used : 0;
}

uint64_t ept_area_coming(const struct ept_area *area)
{
	return area->obj ? __atomic_load_n(&area->obj->nr_coming, __ATOMIC_ACQUIRE) : 0;
}
