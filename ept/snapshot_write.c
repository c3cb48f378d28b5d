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
#include "ept/snapshot.h"
#include "ept/space.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#define STEP_EXTENTS 512

enum what { BELOW = EPT_LAYERS_BELOW, ZEROS = EPT_LAYERS_ZERO, DATA = EPT_LAYERS_DATA };

struct writer {
	struct ept_space *space;
	const struct ept_snapshot_options *options;
	struct ept_snapshot_info *info;
	struct ept_index_area *areas;
	uint64_t nr_areas;
	struct ept_index_extent *extents;
	uint64_t nr_extents, max_extents;
	uint64_t end; /* of the memory file: where packed extents go on */
	ZSTD_CCtx *zstd;
	char *packed; /* room for a compressed extent */
	size_t packed_size;
	char *why;
	size_t why_size;
	/* The extent at hand: */
	char bytes[EPT_EXTENT] __attribute__((aligned(EPT_PAGE_SIZE)));
};

__attribute__((format(printf, 3, 4))) static int say(const struct writer *w, int err,
						     const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(w->why, w->why_size, fmt, args);
	va_end(args);
	return err;
}

static int write_at(const struct writer *w, int fd, const void *buf, size_t len, uint64_t at)
{
	const char *p = buf;

	while (len) {
		ssize_t n = pwrite(fd, p, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			int err = n ? -errno : -ENOSPC;

			return say(w, err,
				   "%s: cannot write the snapshot's memory: %s; nothing of "
				   "it is kept",
				   w->space->name, strerrordesc_np(-err));
		}
		p += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* --- what a page is ------------------------------------------------------------------------ */

static bool all_zero(const char *page)
{
	return !page[0] && !memcmp(page, page + 1, EPT_PAGE_SIZE - 1);
}

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
static int absent_page(const struct ept_area *area, const struct ept_leaf *leaf, uint64_t gpa,
		       char *to)
{
	if (area->kind != EPT_KIND_LAYERS)
		return BELOW;
	if (leaf && ept_pte_value(leaf, ept_leaf_index(GPA(gpa))) == EPT_VALUE_DISCARDED)
		return ZEROS;
	return ept_layers_page(area->obj, (gpa - area->start) >> EPT_PAGE_SHIFT, to);
}

static int handled_page(const struct ept_area *area, uint64_t gpa, char *to)
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
		return absent_page(area, leaf, gpa, to);
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

/* Is it what the file says? Asked only where the host does not tell whose a page is. */
static bool same_as_file(const struct ept_area *area, uint64_t gpa, const char *page)
{
	char file[EPT_PAGE_SIZE];
	uint64_t byte = gpa - area->start, left = area->obj->length - byte;
	size_t want = left < EPT_PAGE_SIZE ? left : EPT_PAGE_SIZE;
	int err;

	if (ept_object_pread(area->obj, file, want, byte, &err) != want)
		return false;
	memset(file + want, 0, EPT_PAGE_SIZE - want);
	return !memcmp(page, file, EPT_PAGE_SIZE);
}

static int kernel_page(const struct ept_area *area, uint64_t gpa, char *to)
{
	const char *hva = ept_hva(area, gpa);
	enum ept_host_page host = ept_host_page(area->space, hva);

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

/* What of [e->gpa, ...) is to be kept, into w->bytes; zeros elsewhere. */
static int gather(struct writer *w, const struct ept_area *area, struct ept_index_extent *e)
{
	for (unsigned i = 0; i < e->pages; i++) {
		uint64_t gpa = e->gpa + ((uint64_t)i << EPT_PAGE_SHIFT);
		char *to = w->bytes + ((size_t)i << EPT_PAGE_SHIFT);
		int what = ept_handler_engine(area) ? handled_page(area, gpa, to)
						    : kernel_page(area, gpa, to);

		if (what < 0)
			return say(
			    w, what,
			    "%s: the page of %s at %#lx cannot be read, and so no snapshot be "
			    "written: %s",
			    w->space->name, area->name, (unsigned long)gpa, strerrordesc_np(-what));
		if (what == DATA && all_zero(to))
			what = ZEROS;
		if (what != DATA)
			memset(to, 0, EPT_PAGE_SIZE);
		if (what == DATA)
			e->present |= (uint16_t)(1U << i);
		else if (what == ZEROS && !zero_below(area))
			e->zero |= (uint16_t)(1U << i);
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

	if (area->kind != EPT_KIND_LAYERS || !w->options->count ||
	    ept_layers_newest(area->obj) != w->options->layers[0])
		return false;
	for (unsigned i = index; leaf && i < index + e->pages; i++)
		if (ept_pte_get(leaf, i) != EPT_PTE_NONE || ept_pte_value(leaf, i))
			return false;
	return true;
}

static const struct ept_index_extent *in_parent(const struct writer *w, uint64_t gpa)
{
	const struct ept_index_extent *e = NULL;

	for (size_t i = 0; i < w->options->count && !e; i++)
		e = ept_snapshot_find(w->options->layers[i], gpa);
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
	    (zeros || was->zero == e->zero) && ept_sums_equal(&was->sum, &e->sum))
		return true;
	if (zeros)
		e->zero = (uint16_t)(((1U << e->pages) - 1) & ~(unsigned)e->present);
	return !(e->present | e->zero);
}

/* The runs of present pages, each where it belongs. */
static int write_plain(struct writer *w, struct ept_index_extent *e)
{
	int err = 0;

	e->stored = e->pages * (uint32_t)EPT_PAGE_SIZE;
	for (unsigned i = 0, run = 0; i <= e->pages && !err; i++) {
		if (i < e->pages && e->present >> i & 1)
			continue;
		if (run < i)
			err = write_at(w, w->options->memory_fd, w->bytes + run * EPT_PAGE_SIZE,
				       (i - run) * EPT_PAGE_SIZE, e->offset + run * EPT_PAGE_SIZE);
		w->info->stored_bytes += (i - run) * EPT_PAGE_SIZE;
		run = i + 1;
	}
	return err;
}

static int write_packed(struct writer *w, struct ept_index_extent *e)
{
	size_t len = 0, small;
	const char *bytes = w->packed;
	int err;

	for (unsigned i = 0; i < e->pages; i++)
		if (e->present >> i & 1) {
			memmove(w->bytes + len, w->bytes + i * EPT_PAGE_SIZE, EPT_PAGE_SIZE);
			len += EPT_PAGE_SIZE;
		}
	e->flags = EPT_EXTENT_PACKED | EPT_EXTENT_ZSTD;
	small = ZSTD_compressCCtx(w->zstd, w->packed, w->packed_size, w->bytes, len,
				  w->options->zstd_level);
	if (ZSTD_isError(small) || small >= len) {
		e->flags = EPT_EXTENT_PACKED;
		bytes = w->bytes;
		small = len;
	}
	e->offset = w->end;
	e->stored = (uint32_t)small;
	err = write_at(w, w->options->memory_fd, bytes, small, w->end);
	w->end += small;
	w->info->stored_bytes += small;
	return err;
}

static int add_extent(struct writer *w, const struct ept_index_extent *e)
{
	if (w->nr_extents == w->max_extents) {
		uint64_t max = w->max_extents * 2 + STEP_EXTENTS;
		struct ept_index_extent *more = realloc(w->extents, max * sizeof(*more));

		if (!more)
			return say(w, -ENOMEM, "%s: no memory for the snapshot's index",
				   w->space->name);
		w->extents = more;
		w->max_extents = max;
	}
	w->extents[w->nr_extents++] = *e;
	w->info->pages += (uint64_t)__builtin_popcount(e->present);
	w->info->zero_pages += (uint64_t)__builtin_popcount(e->zero);
	return 0;
}

static int write_extent(struct writer *w, const struct ept_area *area,
			const struct ept_index_area *ia, uint64_t gpa, uint64_t end)
{
	struct ept_index_extent e = {.gpa = gpa,
				     .offset = ia->offset + (gpa - ia->gpa),
				     .pages = (uint16_t)((end - gpa) >> EPT_PAGE_SHIFT)};
	int err;

	if (still_below(w, area, &e))
		return 0;
	err = gather(w, area, &e);
	if (err || unchanged(w, area, &e))
		return err;
	err = w->zstd ? write_packed(w, &e) : write_plain(w, &e);
	return err ? err : add_extent(w, &e);
}

/* Nothing was touched near: no need to look at each page. */
static bool nothing_there(const struct writer *w, const struct ept_area *area, uint64_t gpa)
{
	return !w->options->count && ept_handler_engine(area) && area->kind != EPT_KIND_LAYERS &&
	       !ept_mirror_find(&area->space->mirror, GPA(gpa));
}

static int write_area(struct writer *w, const struct ept_area *area)
{
	struct ept_index_area *ia = &w->areas[w->nr_areas++];
	int err = 0;

	/* Mapped as it is, a huge page's worth of the file is one of the guest's. */
	if (!w->zstd)
		w->end += (area->start - w->end) % EPT_LEAF_BYTES;
	*ia = (struct ept_index_area){.gpa = area->start,
				      .size = area->end - area->start,
				      .offset = w->zstd ? 0 : w->end,
				      .flags = zero_below(area) ? 0 : EPT_INDEX_AREA_FILE};
	if (!w->zstd)
		w->end += ia->size;
	for (uint64_t gpa = area->start; gpa < area->end && ept_area_saved(area) && !err;) {
		uint64_t end = (gpa & ~(EPT_EXTENT - 1)) + EPT_EXTENT;

		end = end < area->end ? end : area->end;
		if (nothing_there(w, area, gpa))
			end = ept_leaf_end(gpa, area->end);
		else
			err = write_extent(w, area, ia, gpa, end);
		gpa = end;
	}
	return err;
}

/* --- the index ---------------------------------------------------------------------------- */

static int write_index(struct writer *w)
{
	size_t areas = w->nr_areas * sizeof(*w->areas),
	       extents = w->nr_extents * sizeof(*w->extents);
	struct ept_index_header h = {.magic = EPT_INDEX_MAGIC,
				     .version = EPT_INDEX_VERSION,
				     .extent = EPT_EXTENT,
				     .areas = w->nr_areas,
				     .extents = w->nr_extents,
				     .memory_bytes = w->end};
	char *all = malloc(sizeof(h) + areas + extents);
	int err;

	if (!all)
		return say(w, -ENOMEM, "%s: no memory for the snapshot's index", w->space->name);
	memcpy(h.id, w->options->id, sizeof(h.id));
	if (w->options->count)
		memcpy(h.parent, w->options->layers[0]->header.id, sizeof(h.parent));
	memcpy(all + sizeof(h), w->areas, areas);
	if (extents)
		memcpy(all + sizeof(h) + areas, w->extents, extents);
	h.table = ept_checksum(all + sizeof(h), areas + extents);
	h.sum = ept_checksum(&h, offsetof(struct ept_index_header, sum));
	memcpy(all, &h, sizeof(h));
	err = write_at(w, w->options->index_fd, all, sizeof(h) + areas + extents, 0);
	free(all);
	w->info->index_bytes = sizeof(h) + areas + extents;
	w->info->memory_bytes = w->end;
	w->info->extents = w->nr_extents;
	return err;
}

static int make_durable(const struct writer *w)
{
	int err = 0;

	if (ftruncate(w->options->memory_fd, (off_t)w->end) || fdatasync(w->options->memory_fd) ||
	    fdatasync(w->options->index_fd))
		err = say(w, -errno, "%s: the snapshot's memory does not get to the disk: %s",
			  w->space->name, strerrordesc_np(errno));
	return err;
}

/* What was taken away while it was read is zeros now (ept_space_bus_error()). */
static int nothing_lost(const struct writer *w)
{
	const struct ept_failure *failure = ept_space_failure(w->space);

	return failure ? say(w, failure->error, "%s", failure->message) : 0;
}

static int prepare(struct writer *w)
{
	w->areas = calloc(w->space->nr_areas, sizeof(*w->areas));
	if (!w->areas)
		return -ENOMEM;
	if (!w->options->zstd_level)
		return 0;
	w->packed_size = ZSTD_compressBound(EPT_EXTENT);
	w->packed = malloc(w->packed_size);
	w->zstd = ZSTD_createCCtx();
	return w->packed && w->zstd ? 0 : -ENOMEM;
}

int ept_snapshot_write(struct ept_space *space, const struct ept_snapshot_options *options,
		       struct ept_snapshot_info *out, char *why, size_t size)
{
	struct writer *w =
	    aligned_alloc(EPT_PAGE_SIZE, (sizeof(*w) + EPT_PAGE_SIZE - 1) & EPT_PAGE_MASK);
	int err;

	*out = (struct ept_snapshot_info){0};
	if (!w)
		return -ENOMEM;
	*w = (struct writer){
	    .space = space, .options = options, .info = out, .why = why, .why_size = size};
	err = prepare(w);
	if (err)
		say(w, err, "%s: no memory to write a snapshot with", space->name);
	for (size_t i = 0; i < space->nr_areas && !err; i++)
		err = write_area(w, space->areas[i]);
	if (!err)
		err = nothing_lost(w);
	if (!err)
		err = write_index(w);
	if (!err)
		err = make_durable(w);
	ZSTD_freeCCtx(w->zstd);
	free(w->packed);
	free(w->areas);
	free(w->extents);
	free(w);
	return err;
}
