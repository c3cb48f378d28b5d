/*
 * Pages of a snapshot: the whole extent is read aside and checked, then the guest gets own
 * copies of what of it is not there yet. What no layer has and no file is behind is
 * anonymous memory.
 */
#include "ept/handlers.h"
#include "ept/object_snapshot.h"
#include "ept/staging.h"

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

/* The part of the leaf that comes in together. */
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

static bool empty(const struct ept_leaf *leaf, unsigned index)
{
	return ept_pte_get(leaf, index) == EPT_PTE_NONE &&
	       ept_pte_value(leaf, index) != EPT_VALUE_DISCARDED;
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

	if (f->req->origin == EPT_ORIGIN_LOADER || !f->area->space->staging ||
	    f->leaf->asked >= sizeof(pages) / sizeof(pages[0]))
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

/* Entries [first, end) are of one extent. What is not asked for has time to be read again. */
static int read_extent(struct fault *f, struct window *w, unsigned first, unsigned end, char *to,
		       uint64_t *bytes)
{
	bool asked = f->index >= first && f->index < end;
	uint16_t have = 0;
	char why[sizeof(w->why)] = "";
	int err = ept_layers_read(f->area->obj, area_page(f, first), area_page(f, end),
				  to + ((size_t)(first - w->first) << EPT_PAGE_SHIFT), &have, bytes,
				  why, sizeof(why));

	for (unsigned i = first; i < end && !err; i++)
		if (have >> (i - first) & 1 && comes(f, w, i))
			put_in(&w->have, i);
	if (asked && err)
		memcpy(w->why, why, sizeof(why));
	return asked ? err : 0;
}

static int read_window(struct fault *f, struct window *w, char *to, uint64_t *bytes)
{
	int err = 0;

	if (w->end - w->first > EPT_EXTENT_PAGES)
		ept_layers_will_need(f->area->obj, area_page(f, w->first), area_page(f, w->end));
	for (unsigned i = w->first, end; i < w->end && !err; i = end) {
		bool wanted = false;

		end = (i | (EPT_EXTENT_PAGES - 1)) + 1;
		end = end < w->end ? end : w->end;
		for (unsigned k = i; k < end; k++)
			wanted |= comes(f, w, k);
		if (wanted)
			err = read_extent(f, w, i, end, to, bytes);
	}
	return err;
}

/*
 * Read it with the lock dropped, its entries in transit; the page that is asked
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

	err = read_window(f, w, to, &bytes);

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
	bool keep_asleep = err && err != -EAGAIN && err != -EEXIST;

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

/* @aside has room for @w. */
static enum ept_result bring_window(struct fault *f, struct window *w, char *aside)
{
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

static enum ept_result bring_small(struct fault *f, struct window *w)
{
	char aside[EPT_EXTENT] __attribute__((aligned(EPT_PAGE_SIZE)));

	return bring_window(f, w, aside);
}

static enum ept_result from_layers(struct fault *f)
{
	struct ept_staging *staging = f->area->space->staging;
	enum ept_result result;
	struct window w;
	char *aside;

	if (ept_snap_whole(f, &result))
		return result;
	if (!empty(f->leaf, f->index)) /* the lock was free meanwhile */
		return EPT_RETRY;
	w = window_of(f);
	if (w.end - w.first <= EPT_EXTENT_PAGES)
		return bring_small(f, &w);
	aside = ept_staging_get(staging, false);
	if (!aside) { /* as many others wait for files: an extent, and it does not count */
		f->leaf->asked--;
		w.first = w.first > (f->index & ~(EPT_EXTENT_PAGES - 1))
			      ? w.first
			      : f->index & ~(EPT_EXTENT_PAGES - 1);
		w.end = w.end < w.first + EPT_EXTENT_PAGES ? w.end : w.first + EPT_EXTENT_PAGES;
		return bring_small(f, &w);
	}
	if (w.end - w.first <= SOME_PAGES) /* no huge page for that */
		aside = ept_staging_small(aside);
	result = bring_window(f, &w, aside);
	ept_staging_put(staging, aside);
	return result;
}

/* --- before it is asked for -------------------------------------------------------------- */

/* Pages of a list, a bit each. */
struct pages {
	uint64_t bit[EPT_SET_CHUNK / 64];
};

static bool is_in(const struct pages *p, unsigned i)
{
	return p->bit[i / 64] >> i % 64 & 1;
}

/* The leaf of a page of the list; NULL: it is none of an area of layers, or there is no memory. */
static struct ept_leaf *leaf_of(struct ept_space *space, uint64_t gpa, struct ept_area **area)
{
	*area = ept_area_find(space, gpa);
	if (!*area || (*area)->kind != EPT_KIND_LAYERS || gpa & ~EPT_PAGE_MASK)
		return NULL;
	return ept_mirror_get(&space->mirror, GPA(gpa));
}

/* Who asks for one of them from now on waits until it is in. */
static void begin_transit(struct ept_space *space, const uint64_t *gpa, unsigned count,
			  struct pages *mine)
{
	for (unsigned i = 0; i < count; i++) {
		struct ept_area *area;
		struct ept_leaf *leaf = leaf_of(space, gpa[i], &area);
		unsigned index = ept_leaf_index(GPA(gpa[i]));

		if (!leaf || !empty(leaf, index)) /* a hint */
			continue;
		pthread_mutex_lock(&leaf->lock);
		if (empty(leaf, index)) {
			ept_pte_set(leaf, index, EPT_PTE_TRANSIT);
			mine->bit[i / 64] |= 1UL << i % 64;
		}
		pthread_mutex_unlock(&leaf->lock);
	}
}

/* Pages [i, end) of the list that go in by one call: neighbours in one leaf of one area. */
static unsigned run_from(const uint64_t *gpa, unsigned i, unsigned count, const struct pages *mine,
			 const struct ept_area *area)
{
	uint64_t limit = ept_leaf_end(gpa[i], area->end);
	unsigned end = i + 1;

	while (end < count && is_in(mine, end) && gpa[end] == gpa[end - 1] + EPT_PAGE_SIZE &&
	       gpa[end] < limit)
		end++;
	return end;
}

/* What does not get in is as it was, and who asked for it asks again. */
static unsigned put_run(struct ept_area *area, struct ept_leaf *leaf, uint64_t gpa,
			const char *bytes, unsigned pages)
{
	struct ept_installer *in = &area->space->installer;
	unsigned first = ept_leaf_index(GPA(gpa)), put;
	char *hva = ept_hva(area, gpa);
	size_t len = (size_t)pages << EPT_PAGE_SHIFT, done = 0;

	pthread_mutex_lock(&leaf->lock);
	if (!ept_dying(area->space))
		(void)ept_install_copies(in, hva, bytes, len, &done);
	put = (unsigned)(done >> EPT_PAGE_SHIFT);
	ept_area_set_ptes(area, leaf, first, first + put, EPT_PTE_PRIVATE);
	ept_area_set_ptes(area, leaf, first + put, first + pages, EPT_PTE_NONE);
	pthread_cond_broadcast(&leaf->arrived);
	pthread_mutex_unlock(&leaf->lock);
	if (done < len)
		ept_install_wake(in, hva + done, len - done);
	return put;
}

unsigned ept_snap_put(struct ept_space *space, const uint64_t *gpa, const char *bytes,
		      unsigned count)
{
	struct pages mine = {0};
	unsigned put = 0;

	begin_transit(space, gpa, count, &mine);
	for (unsigned i = 0, end; i < count; i = end) {
		struct ept_area *area;
		struct ept_leaf *leaf;

		end = i + 1;
		if (!is_in(&mine, i))
			continue;
		leaf = leaf_of(space, gpa[i], &area);
		end = run_from(gpa, i, count, &mine, area);
		put += put_run(area, leaf, gpa[i], bytes + ((size_t)i << EPT_PAGE_SHIFT), end - i);
	}
	if (space->reclaim.limit && put)
		ept_reclaim_note(space);
	return put;
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
