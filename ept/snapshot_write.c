/*
 * The memory of a snapshot is written by a child that was forked in the pause: what it
 * sees stays as it was, whatever the guest does meanwhile.
 *
 * What a page is, the mirror says where our handlers resolve faults, and the host's page
 * table where its kernel does. Without a page map every page is looked at: it is the
 * same then, only slower.
 */
#include "ept/host_pages.h"
#include "ept/object_snapshot.h"
#include "ept/snapshot_out.h"
#include "ept/space.h"
#include "ept/zero.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum what { BELOW = EPT_LAYERS_BELOW, ZEROS = EPT_LAYERS_ZERO, DATA = EPT_LAYERS_DATA };

struct writer {
	struct ept_space *space;
	struct ept_snapshot *const *layers; /* options' */
	size_t count;
	struct ept_out out;
	struct ept_layers_extent last; /* that a page was taken from */
	/* The extent at hand: */
	char bytes[EPT_EXTENT] __attribute__((aligned(EPT_PAGE_SIZE)));
};

/* --- what a page is ------------------------------------------------------------------------ */

static int swapped_page(struct ept_space *space, const struct ept_leaf *leaf, unsigned index,
			uint64_t gpa, char *to)
{
	struct ept_reclaim *r = &space->reclaim;
	uint64_t value = ept_pte_value(leaf, index), bytes = 0;
	_Alignas(EPT_PAGE_SIZE) char buf[EPT_SWAP_READ];
	struct ept_swap_piece piece;
	const struct ept_image *image;
	size_t max;

	if (ept_pte_get(leaf, index) == EPT_PTE_SWAPPED) {
		ept_swap_piece_begin(&piece, buf, value);
		int err = ept_swap_piece_read(&r->swap, &piece, &bytes);
		return err ? err : ept_swap_piece_page(&piece, value, GPA(gpa), to);
	}
	image = ept_pool_get(&r->pool, value, &max);
	return ept_image_page(image, max, GPA(gpa), to);
}

/* What is not there: a file's page, zeros, or a page of the snapshot that this VM came from. */
static int absent_page(struct writer *w, const struct ept_area *area, const struct ept_leaf *leaf,
		       uint64_t gpa, char *to)
{
	if (area->kind != EPT_KIND_LAYERS)
		return BELOW;
	if (leaf && ept_pte_value(leaf, ept_leaf_index(GPA(gpa))) == EPT_VALUE_DISCARDED)
		return ZEROS;
	return ept_layers_page(area->obj, (gpa - area->start) >> EPT_PAGE_SHIFT, to, &w->last);
}

static int handled_page(struct writer *w, const struct ept_area *area, uint64_t gpa, char *to)
{
	struct ept_space *space = area->space;
	const struct ept_leaf *leaf = ept_mirror_find(&space->mirror, GPA(gpa));
	unsigned index = ept_leaf_index(GPA(gpa));
	enum ept_pte pte = leaf ? ept_pte_get(leaf, index) : EPT_PTE_NONE;
	int err;

	switch (pte) {
	case EPT_PTE_PRIVATE:
	case EPT_PTE_AGED:
		memcpy(to, ept_hva(area, gpa), EPT_PAGE_SIZE);
		return DATA;
	case EPT_PTE_HELD:
		memcpy(to,
		       space->reclaim.ring.base +
			   ((ept_pte_value(leaf, index) - 1) << EPT_PAGE_SHIFT),
		       EPT_PAGE_SIZE);
		return DATA;
	case EPT_PTE_POOLED:
	case EPT_PTE_SWAPPED:
		err = swapped_page(space, leaf, index, gpa, to);
		return err ? err : DATA;
	case EPT_PTE_ZERO:
		return ZEROS;
	case EPT_PTE_POISON: /* of a file: who restores it may find it readable */
		return area->obj && area->kind != EPT_KIND_LAYERS ? BELOW : -EIO;
	case EPT_PTE_NONE:
		return absent_page(w, area, leaf, gpa, to);
	case EPT_PTE_FILE:
	case EPT_PTE_SAMPLED:
	case EPT_PTE_CLEAN:
	case EPT_PTE_DIRTY:
	case EPT_PTE_TRANSIT:
	case EPT_NR_PTES:
		return BELOW;
	}
	return BELOW;
}

/* The page of the file that @area is of. */
static int file_page(const struct ept_area *area, uint64_t gpa, char *to)
{
	const struct ept_object *file =
	    area->kind == EPT_KIND_LAYERS ? ept_layers_origin(area->obj) : area->obj;
	uint64_t byte = gpa - area->start, left = byte < file->length ? file->length - byte : 0;
	size_t want = left < EPT_PAGE_SIZE ? left : EPT_PAGE_SIZE;
	int err = 0;

	if (ept_object_pread(file, to, want, byte, &err) != want)
		return err ? err : -EIO;
	memset(to + want, 0, EPT_PAGE_SIZE - want);
	return 0;
}

/* Is it what the file says? Asked only where the host does not tell whose a page is. */
static bool same_as_file(const struct ept_area *area, uint64_t gpa, const char *page)
{
	char file[EPT_PAGE_SIZE];

	return !file_page(area, gpa, file) && !memcmp(page, file, EPT_PAGE_SIZE);
}

static int kernel_page(const struct ept_area *area, uint64_t gpa, char *to)
{
	const char *hva = ept_hva(area, gpa);
	enum ept_host_page host;

	if (area->template) {
		int err = ept_template_now(area, gpa, to);
		return err ? err : DATA;
	}
	host = ept_host_page(area->space, hva);
	if (host == EPT_HOST_CACHED) /* nothing, or the file's */
		return BELOW;
	memcpy(to, hva, EPT_PAGE_SIZE);
	if (host == EPT_HOST_UNKNOWN && area->obj && same_as_file(area, gpa, to))
		return BELOW;
	return DATA;
}

/* --- extents --------------------------------------------------------------------------------- */

/* Is a page that is not in the snapshot zero by that? */
static bool zero_below(const struct ept_area *area)
{
	return !area->obj || (area->kind == EPT_KIND_LAYERS && !ept_layers_origin(area->obj));
}

static int unreadable(const struct writer *w, const struct ept_area *area, uint64_t gpa, int err)
{
	return ept_out_say(&w->out, err,
			   "%s: the page of %s at %#lx cannot be read, and so no snapshot be "
			   "written: %s",
			   w->space->name, area->name, (unsigned long)gpa, strerrordesc_np(-err));
}

/* What is to be said of page @i of @e, whose bytes are at its place in w->bytes. */
static void note_page(struct writer *w, const struct ept_area *area, struct ept_index_extent *e,
		      unsigned i, enum what what)
{
	char *page = w->bytes + ((size_t)i << EPT_PAGE_SHIFT);

	if (what == DATA && ept_is_zero(page))
		what = ZEROS;
	if (what != DATA)
		memset(page, 0, EPT_PAGE_SIZE);
	if (what == DATA)
		e->present |= (uint16_t)(1U << i);
	else if (what == ZEROS && !zero_below(area))
		e->zero |= (uint16_t)(1U << i);
}

/* Bits of those pages of @e of which the parents say something. */
static uint16_t said_below(const struct writer *w, const struct ept_index_extent *e)
{
	uint16_t said = 0;

	for (size_t i = 0; i < w->count; i++) {
		const struct ept_index_extent *was = ept_snapshot_find(w->layers[i], e->gpa);

		said |= was ? was->present | was->zero : 0;
	}
	return said;
}

/* What of [e->gpa, ...) is to be kept, into w->bytes; zeros elsewhere. */
static int gather(struct writer *w, const struct ept_area *area, struct ept_index_extent *e)
{
	uint16_t said = zero_below(area) ? 0 : said_below(w, e);

	for (unsigned i = 0; i < e->pages; i++) {
		uint64_t gpa = e->gpa + ((uint64_t)i << EPT_PAGE_SHIFT);
		char *to = w->bytes + ((size_t)i << EPT_PAGE_SHIFT);
		int what = ept_handler_engine(area) ? handled_page(w, area, gpa, to)
						    : kernel_page(area, gpa, to);

		/* Without it this would be what the parent says. */
		if (what == BELOW && said >> i & 1) {
			int err = file_page(area, gpa, to);
			what = err ? err : DATA;
		}
		if (what < 0)
			return unreadable(w, area, gpa, what);
		note_page(w, area, e, i, (enum what)what);
	}
	e->sum = ept_checksum(w->bytes, e->pages * EPT_PAGE_SIZE);
	return 0;
}

/* --- what has changed since the parent ------------------------------------------------ */

/* The VM came from the parent, and nobody asked for any of these pages since. */
static bool still_below(const struct writer *w, const struct ept_area *area,
			const struct ept_index_extent *e)
{
	const struct ept_leaf *leaf = ept_mirror_find(&w->space->mirror, GPA(e->gpa));
	unsigned index = ept_leaf_index(GPA(e->gpa));

	if (area->kind != EPT_KIND_LAYERS || !w->count ||
	    !ept_layers_are(area->obj, w->layers, w->count))
		return false;
	for (unsigned i = index; leaf && i < index + e->pages; i++)
		if (ept_pte_get(leaf, i) != EPT_PTE_NONE || ept_pte_value(leaf, i))
			return false;
	return true;
}

static const struct ept_index_extent *in_parent(const struct writer *w, uint64_t gpa)
{
	const struct ept_index_extent *e = NULL;

	for (size_t i = 0; i < w->count && !e; i++)
		e = ept_snapshot_find(w->layers[i], gpa);
	return e;
}

/*
 * Is there nothing to be written of it? In memory that is no file's a difference says of
 * each page of an extent what it is, so that what is not in it now is zero, whatever was.
 */
static bool unchanged(const struct writer *w, const struct ept_area *area,
		      struct ept_index_extent *e)
{
	const struct ept_index_extent *was = in_parent(w, e->gpa);
	bool zeros = zero_below(area);

	if (!was)
		return !(e->present | e->zero);
	if (was->gpa == e->gpa && was->pages == e->pages && was->present == e->present &&
	    (zeros || was->zero == e->zero) && ept_sums_equal(&was->sum, &e->sum) &&
	    !(said_below(w, e) & ~(was->present | was->zero)))
		return true;
	if (zeros)
		e->zero = (uint16_t)(((1U << e->pages) - 1) & ~(unsigned)e->present);
	return !(e->present | e->zero);
}

static int write_extent(struct writer *w, const struct ept_area *area, uint64_t gpa, uint64_t end)
{
	struct ept_index_extent e = {.gpa = gpa,
				     .pages = (uint16_t)((end - gpa) >> EPT_PAGE_SHIFT)};
	int err;

	if (still_below(w, area, &e))
		return 0;
	err = gather(w, area, &e);
	return err || unchanged(w, area, &e) ? err : ept_out_extent(&w->out, &e, w->bytes);
}

/* Nothing of [gpa, end) was touched, nor is it in a parent: no need to look at each page. */
static bool nothing_there(const struct writer *w, const struct ept_area *area, uint64_t gpa,
			  uint64_t end)
{
	for (size_t i = 0; i < w->count; i++) {
		const struct ept_index_extent *e = ept_snapshot_next(w->layers[i], gpa);

		if (e && e->gpa < end)
			return false;
	}
	if (ept_handler_engine(area))
		return area->kind != EPT_KIND_LAYERS &&
		       !ept_mirror_find(&area->space->mirror, GPA(gpa));
	return !area->template && ept_host_nothing(area->space->pagemap_fd, ept_hva(area, gpa),
						   (end - gpa) >> EPT_PAGE_SHIFT);
}

static int write_area(struct writer *w, const struct ept_area *area)
{
	uint64_t gpa = area->start;
	int err = 0;

	ept_out_area(&w->out, area->start, area->end - area->start,
		     zero_below(area) ? 0 : EPT_INDEX_AREA_FILE);
	while (gpa < area->end && ept_area_saved(area) && !err) {
		uint64_t leaf_end = ept_leaf_end(gpa, area->end);

		if (nothing_there(w, area, gpa, leaf_end))
			gpa = leaf_end;
		while (gpa < leaf_end && !err) {
			uint64_t end = (gpa & ~(EPT_EXTENT - 1)) + EPT_EXTENT;

			end = end < area->end ? end : area->end;
			err = write_extent(w, area, gpa, end);
			gpa = end;
		}
	}
	return err;
}

/* --- the whole ------------------------------------------------------------------------------ */

/* What was taken away while it was read is zeros now (ept_space_bus_error()). */
static int nothing_lost(const struct writer *w)
{
	const struct ept_failure *failure = ept_space_failure(w->space);

	return failure ? ept_out_say(&w->out, failure->error, "%s", failure->message) : 0;
}

static int check_parents(const struct writer *w)
{
	if (!w->count || (ept_snapshot_chain(w->layers, w->count) &&
			  ept_space_has_areas(w->space, w->layers[0])))
		return 0;
	return ept_out_say(&w->out, -EINVAL,
			   "%s: no difference to %s: it is of a machine with other memory, or "
			   "not the difference to what lies below it",
			   w->space->name, w->layers[0]->name);
}

int ept_snapshot_write(struct ept_space *space, const struct ept_snapshot_options *options,
		       struct ept_snapshot_info *out, char *why, size_t size)
{
	static const uint8_t none[16];
	struct writer *w =
	    aligned_alloc(EPT_PAGE_SIZE, (sizeof(*w) + EPT_PAGE_SIZE - 1) & EPT_PAGE_MASK);
	int err;

	*out = (struct ept_snapshot_info){0};
	if (!w)
		return -ENOMEM;
	*w = (struct writer){.space = space, .layers = options->layers, .count = options->count};
	err = ept_out_init(&w->out, options, space->name, space->nr_areas, out, why, size);
	if (!err)
		err = check_parents(w);
	for (size_t i = 0; i < space->nr_areas && !err; i++)
		err = write_area(w, space->areas[i]);
	if (!err)
		err = nothing_lost(w);
	if (!err)
		err = ept_out_finish(&w->out, w->count ? w->layers[0]->header.id : none);
	ept_out_free(&w->out);
	free(w);
	return err;
}
