/*
 * Pages of a snapshot: the whole extent is read aside and checked, then the guest gets own
 * copies of what of it is not there yet; the rest of its window comes behind the fault (rest.h).
 * What no layer has and no file is behind is anonymous memory.
 */
#include "ept/handlers.h"
#include "ept/object_snapshot.h"

#include <errno.h>
#include <string.h>

/* Entries of a leaf, a bit each. */
struct entries {
	uint64_t bit[EPT_TABLE_SIZE / 64];
};

static bool has(const struct entries *e, unsigned index)
{
	return e->bit[index / 64] >> index % 64 & 1;
}

static void put_in(struct entries *e, unsigned index)
{
	e->bit[index / 64] |= 1UL << index % 64;
}

/* The part of an extent that comes in together. */
struct window {
	unsigned first, end;
	struct entries mine; /* this fault put in transit */
	struct entries have; /* came */
	char why[256];	     /* what was asked for did not */
};

static bool discarded(const struct fault *f, unsigned index)
{
	return ept_pte_get(f->leaf, index) == EPT_PTE_NONE &&
	       ept_pte_value(f->leaf, index) == EPT_VALUE_DISCARDED;
}

/*
 * An extent, the first time that something of the leaf is asked for; SOME of them the second
 * time, and all of it the third: by then the events cost as much as what they leave out. What
 * it left out is damaged, or a file's: from then on an extent again. Who asks for all by itself
 * needs no more than is missing.
 */
#define SOME	   4U /* extents */
#define SOME_PAGES (SOME * EPT_EXTENT_PAGES)

static unsigned grown(const struct fault *f)
{
	static const unsigned pages[] = {EPT_EXTENT_PAGES, SOME_PAGES, EPT_TABLE_SIZE};

	/* Where all of it is to come the rest does so by itself. */
	if (f->req->origin == EPT_ORIGIN_LOADER || !f->area->space->staging ||
	    f->area->space->prefetch.all || f->leaf->asked >= sizeof(pages) / sizeof(pages[0]))
		return EPT_EXTENT_PAGES;
	return pages[f->leaf->asked];
}

/*
 * Windows do not cross leaves. Under a memory limit no more than a fault may bring; who
 * records wants to see each page asked for.
 */
static struct window window_of(const struct fault *f)
{
	const struct ept_area *area = f->area;
	const struct ept_space *space = area->space;
	uint64_t leaf = fault_leaf_start(f), end = ept_leaf_end(leaf, area->end);
	unsigned pages = space->prefetch.noted	? 1
			 : space->reclaim.limit ? space->reclaim.window
						: grown(f);
	struct window w;

	if (space->reclaim.limit && pages > EPT_EXTENT_PAGES)
		pages = EPT_EXTENT_PAGES;
	w = (struct window){.first = f->index & ~(pages - 1)};
	w.end = w.first + pages;
	if (leaf + ((uint64_t)w.first << EPT_PAGE_SHIFT) < area->start)
		w.first = ept_leaf_index(GPA(area->start));
	if (leaf + ((uint64_t)w.end << EPT_PAGE_SHIFT) > end)
		w.end = (unsigned)((end - leaf) >> EPT_PAGE_SHIFT);
	return w;
}

static uint64_t area_page(const struct fault *f, unsigned index)
{
	return ((fault_leaf_start(f) - f->area->start) >> EPT_PAGE_SHIFT) + index;
}

/* A file's page that nobody wrote comes with its own extent: a difference would take it for new. */
static bool comes(const struct fault *f, const struct window *w, unsigned index)
{
	bool asked = !((index ^ f->index) & ~(EPT_EXTENT_PAGES - 1));

	if (!has(&w->mine, index))
		return false;
	return asked || !ept_layers_origin(f->area->obj) ||
	       ept_layers_what(f->area->obj, area_page(f, index)) == EPT_LAYERS_DATA;
}

/* What is not asked for has time to be read again. */
static int read_extent(struct fault *f, struct window *w, char *to, uint64_t *bytes)
{
	bool asked = f->index >= w->first && f->index < w->end, wanted = false;
	uint16_t have = 0;
	char why[sizeof(w->why)] = "";
	int err;

	for (unsigned i = w->first; i < w->end; i++)
		wanted |= comes(f, w, i);
	if (!wanted)
		return 0;
	err = ept_layers_read(f->area->obj, area_page(f, w->first), area_page(f, w->end), to, &have,
			      bytes, why, sizeof(why));
	for (unsigned i = w->first; i < w->end && !err; i++)
		if (have >> (i - w->first) & 1 && comes(f, w, i))
			put_in(&w->have, i);
	if (asked && err)
		memcpy(w->why, why, sizeof(why));
	return asked ? err : 0;
}

/*
 * Read it with the lock dropped, its entries in transit; a page that is asked
 * for is one of them. They are back at none when it returns.
 */
static int read_aside(struct fault *f, struct window *w, char *to)
{
	uint64_t bytes = 0;
	int err;

	for (unsigned i = w->first; i < w->end; i++)
		if (ept_pte_get(f->leaf, i) == EPT_PTE_NONE && !discarded(f, i)) {
			ept_pte_set(f->leaf, i, EPT_PTE_TRANSIT);
			put_in(&w->mine, i);
		}
	pthread_mutex_unlock(&f->leaf->lock);
	fault_waits(f, EPT_WAIT_READ);

	err = read_extent(f, w, to, &bytes);
	fault_read_ended(f);

	fault_lock_leaf(f);
	for (unsigned i = w->first; i < w->end; i++)
		if (has(&w->mine, i))
			ept_pte_set(f->leaf, i, EPT_PTE_NONE);
	pthread_cond_broadcast(&f->leaf->arrived);
	f->res->bytes_read += bytes;
	f->res->major |= bytes > 0;
	f->unreadable = err && err != -ENOMEM;
	return !err && ept_dying(f->area->space) ? -ESHUTDOWN : err;
}

static bool goes_in(const struct fault *f, const struct window *w, unsigned index)
{
	return has(&w->mine, index) && has(&w->have, index) &&
	       ept_pte_get(f->leaf, index) == EPT_PTE_NONE;
}

static int copy_run(struct fault *f, const struct window *w, unsigned first, unsigned end,
		    const char *from)
{
	size_t done;
	int err = ept_install_copies(fault_installer(f), fault_hva(f, first),
				     from + ((size_t)(first - w->first) << EPT_PAGE_SHIFT),
				     (size_t)(end - first) << EPT_PAGE_SHIFT, &done);
	unsigned stop = first + (unsigned)(done >> EPT_PAGE_SHIFT);

	ept_area_set_ptes(f->area, f->leaf, first, stop, EPT_PTE_PRIVATE);
	if (err == -EEXIST && stop == f->index)
		fault_set(f, stop, EPT_PTE_PRIVATE);
	f->res->installed += stop - first;
	return f->index >= stop && f->index < end ? err : 0;
}

static int copy_in(struct fault *f, const struct window *w, const char *from)
{
	int err = 0;

	for (unsigned i = w->first, run = i; i <= w->end; i++) {
		if (i < w->end && goes_in(f, w, i))
			continue;
		if (run < i) {
			int run_err = copy_run(f, w, run, i, from);

			err = err ? err : run_err;
		}
		run = i + 1;
	}
	return err;
}

/* Events of pages that did not get in were left to us; not of the one that failed. */
static void wake_left_out(struct fault *f, const struct window *w, int err)
{
	bool keep_asleep = f->unreadable || (err && err != -EAGAIN && err != -EEXIST);

	for (unsigned i = w->first, run = i; i <= w->end; i++) {
		if (i < w->end && has(&w->mine, i) && ept_pte_get(f->leaf, i) == EPT_PTE_NONE &&
		    !(i == f->index && keep_asleep))
			continue;
		if (run < i)
			ept_install_wake(fault_installer(f), fault_hva(f, run),
					 (size_t)(i - run) << EPT_PAGE_SHIFT);
		run = i + 1;
	}
}

/* Said here, where file and extent are known. A poisoned page stops nothing. */
static void say_why(struct fault *f, const struct window *w, int err)
{
	struct ept_space *space = f->area->space;

	if (!w->why[0] || ept_space_can_poison(space))
		return;
	ept_space_fail(space, EPT_CASE_IO_ERROR, f->req->gpa, err, "%s: %s: %s", space->name,
		       f->area->name, w->why);
}

static enum ept_result bring_window(struct fault *f, struct window *w)
{
	char aside[EPT_EXTENT] __attribute__((aligned(EPT_PAGE_SIZE)));
	int err = read_aside(f, w, aside);

	if (!err) {
		if (f->area->space->prefetch.noted)
			ept_prefetch_note(f->area->space, f->req->gpa.v);
		err = copy_in(f, w, aside);
	}
	wake_left_out(f, w, err);
	f->leaf->asked += !err && f->req->origin != EPT_ORIGIN_LOADER;
	if (f->res->installed)
		f->res->around = f->res->installed - (!err);
	if (f->unreadable)
		say_why(f, w, err);
	return ept_fault_finish(f, err);
}

/* Keep of @w the extent that is asked for. */
static void take_extent(const struct fault *f, struct window *w)
{
	unsigned first = f->index & ~(unsigned)(EPT_EXTENT_PAGES - 1);

	w->first = w->first > first ? w->first : first;
	w->end = w->end < first + EPT_EXTENT_PAGES ? w->end : first + EPT_EXTENT_PAGES;
}

static enum ept_result from_layers(struct fault *f)
{
	struct ept_rest rest;
	enum ept_result result;
	struct window w;

	if (ept_snap_whole(f, &result))
		return result;
	if (!ept_snap_empty(f->leaf, f->index)) /* the lock was free meanwhile */
		return EPT_RETRY;
	w = window_of(f);
	rest = (struct ept_rest){.area = f->area,
				 .gpa = fault_leaf_start(f),
				 .first = (uint16_t)w.first,
				 .end = (uint16_t)w.end,
				 .asked = (uint16_t)f->index};
	take_extent(f, &w);
	result = bring_window(f, &w);
	if (result == EPT_RESOLVED && (rest.first < w.first || rest.end > w.end))
		f->rest = rest;
	return result;
}

static bool any_missing(const struct ept_rest *rest, const struct ept_leaf *leaf, unsigned first,
			unsigned end)
{
	uint64_t page = (rest->gpa - rest->area->start) >> EPT_PAGE_SHIFT;
	bool missing = false;

	for (unsigned i = first; i < end && !missing; i++)
		missing = ept_snap_empty(leaf, i) &&
			  ept_layers_what(rest->area->obj, page + i) == EPT_LAYERS_DATA;
	return missing;
}

/* Nobody asked: no entry is that of the request. */
unsigned ept_snap_bring_rest(const struct ept_rest *rest, unsigned first, unsigned end,
			     uint64_t *bytes)
{
	const struct ept_request req = {.gpa = GPA(rest->gpa), .origin = EPT_ORIGIN_LOADER};
	char aside[EPT_EXTENT] __attribute__((aligned(EPT_PAGE_SIZE)));
	struct window w = {.first = first, .end = end};
	struct ept_resolution res = {0};
	struct fault f = {.area = rest->area,
			  .leaf = ept_mirror_find(&rest->area->space->mirror, req.gpa),
			  .req = &req,
			  .res = &res,
			  .index = EPT_TABLE_SIZE};

	if (!f.leaf || !any_missing(rest, f.leaf, first, end)) /* a hint */
		return 0;
	f.pending =
	    (struct ept_pending){.area = f.area,
				 .gpa = GPA(req.gpa.v + ((uint64_t)first << EPT_PAGE_SHIFT)),
				 .origin = req.origin,
				 .since = ept_now(),
				 .kase = EPT_CASE_SNAP_READ};
	ept_watch_portion(f.area->space, &f.pending);
	fault_lock_leaf(&f);
	ept_install_keep_wakes();
	if (!read_aside(&f, &w, aside))
		copy_in(&f, &w, aside);
	wake_left_out(&f, &w, 0);
	pthread_mutex_unlock(&f.leaf->lock);
	ept_install_wake_kept(fault_installer(&f));
	ept_watch_end(f.area->space, &f.pending);
	*bytes += res.bytes_read;
	return (unsigned)res.installed;
}

/* --- the cases --------------------------------------------------------------------------- */

bool ept_snap_zeros(const struct fault *f, unsigned index)
{
	uint64_t gpa = fault_leaf_start(f) + ((uint64_t)index << EPT_PAGE_SHIFT);

	return discarded(f, index) ||
	       ept_layers_zero(f->area->obj, (gpa - f->area->start) >> EPT_PAGE_SHIFT);
}

enum ept_result ept_snap_read(struct fault *f)
{
	if (!ept_snap_zeros(f, f->index))
		return from_layers(f);
	f->res->kase = EPT_CASE_ANON_READ;
	return ept_anon_read(f);
}

enum ept_result ept_snap_write(struct fault *f)
{
	if (!ept_snap_zeros(f, f->index))
		return from_layers(f);
	f->res->kase = EPT_CASE_ANON_WRITE;
	return ept_anon_write(f);
}
