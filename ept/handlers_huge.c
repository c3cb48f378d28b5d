/*
 * 2 MiB in one step: made ready aside, as one huge page if the host has one, and moved
 * in whole. Where that cannot be, 4 KiB go in as elsewhere, and the fault says fallback.
 */
#include "ept/handlers.h"
#include "ept/object_snapshot.h"
#include "ept/staging.h"

#include <errno.h>
#include <string.h>

#define DENSE 448 /* of 512 pages of the neighbour: touches come in a stream */
#define EDGE  32  /* pages from it */

/* Nothing of the leaf is there, or was given back, and all of it is the area's. */
static bool untouched(const struct fault *f)
{
	uint64_t start = fault_leaf_start(f);

	if (start < f->area->start || start + EPT_LEAF_BYTES > f->area->end)
		return false;
	for (unsigned i = 0; i < EPT_TABLE_SIZE; i++)
		if (ept_pte_get(f->leaf, i) != EPT_PTE_NONE ||
		    ept_pte_value(f->leaf, i) == EPT_VALUE_DISCARDED)
			return false;
	return true;
}

/* By hints alone: entries of another leaf are read without its lock. */
static bool dense(const struct fault *f, uint64_t gpa)
{
	const struct ept_leaf *leaf = NULL;
	unsigned own = 0;

	if (gpa >= f->area->start && gpa < f->area->end)
		leaf = ept_mirror_find(&f->area->space->mirror, GPA(gpa));
	for (unsigned i = 0; leaf && i < EPT_TABLE_SIZE; i++)
		own += ept_pte_get(leaf, i) == EPT_PTE_PRIVATE;
	return own >= DENSE;
}

/* Does a stream of touches come over from the region before or behind? */
static bool in_stream(const struct fault *f)
{
	uint64_t start = fault_leaf_start(f);

	if (f->index < EDGE && start)
		return dense(f, start - EPT_LEAF_BYTES);
	return f->index >= EPT_TABLE_SIZE - EDGE && dense(f, start + EPT_LEAF_BYTES);
}

static bool huge_wanted(const struct fault *f)
{
	const struct ept_space *space = f->area->space;

	if (!space->staging)
		return false;
	return untouched(f) && (space->config.huge == EPT_HUGE_ALWAYS || in_stream(f));
}

/* [first, end) of the leaf went in as the area's own pages, up to @done bytes. */
static int went_in(struct fault *f, unsigned first, size_t done, int err)
{
	unsigned stop = first + (unsigned)(done >> EPT_PAGE_SHIFT);
	bool asked;

	ept_area_set_ptes(f->area, f->leaf, first, stop, EPT_PTE_PRIVATE);
	asked = ept_pte_get(f->leaf, f->index) == EPT_PTE_PRIVATE;
	f->res->installed += stop - first;
	f->res->around = f->res->installed - asked;
	return asked ? 0 : err;
}

static int fill_run(struct fault *f, unsigned first, unsigned end, const char *src)
{
	size_t done = 0;
	int err = ept_install_copies(fault_installer(f), fault_hva(f, first), src,
				     (size_t)(end - first) << EPT_PAGE_SHIFT, &done);

	return went_in(f, first, done, err);
}

/* @src holds [first, end). Where one of them was there already, the asked one goes in alone. */
static int fill(struct fault *f, unsigned first, unsigned end, const char *src)
{
	int err = fill_run(f, first, end, src);

	if (err != -EEXIST)
		return err;
	src += (size_t)(f->index - first) << EPT_PAGE_SHIFT;
	err = fill_run(f, f->index, f->index + 1, src);
	if (err == -EEXIST)
		fault_set(f, f->index, EPT_PTE_PRIVATE);
	return err;
}

/*
 * May a huge page go into this leaf as one? Where empty page tables stay, only into an
 * area that wants huge pages: there the host does not make a table for an event, at the
 * price of a huge page that it clears and throws away.
 */
static bool fits_whole(const struct fault *f)
{
	struct ept_area *area = f->area;

	if (ept_staging_tables_go(area->space->staging))
		return true;
	if (area->space->config.huge != EPT_HUGE_ALWAYS)
		return false;
	if (__atomic_exchange_n(&area->wants_huge, true, __ATOMIC_RELAXED))
		return true;
	ept_install_want_huge(area->hva, area->end - area->start, true);
	return false; /* this event left a table already */
}

/* A move ended after @done bytes. They are the guest's now; the rest is copied. */
static int move_rest(struct fault *f, size_t done, const char *place)
{
	went_in(f, 0, done, 0);
	return fill_run(f, (unsigned)(done >> EPT_PAGE_SHIFT), EPT_TABLE_SIZE, place + done);
}

/*
 * The whole leaf from @place: as one page, or by 4 KiB as @small. A touch says that
 * the rest of the 2 MiB will be wanted, so 512 small pages are still worth one event.
 */
static int put_whole(struct fault *f, char *place, bool huge, enum ept_case small)
{
	int err = -EOPNOTSUPP;
	size_t done = 0;

	if (huge && fits_whole(f))
		err = ept_install_move(fault_installer(f), fault_hva(f, 0), place, &done);
	if (err == -EOPNOTSUPP || (err && done)) {
		f->res->kase = small;
		f->res->fallback = true;
		return done ? move_rest(f, done, place) : fill(f, 0, EPT_TABLE_SIZE, place);
	}
	if (err)
		return err;
	f->leaf->huge = true;
	__atomic_fetch_add(&f->area->huge, 1, __ATOMIC_RELAXED);
	return went_in(f, 0, EPT_LEAF_BYTES, 0);
}

bool ept_anon_whole(struct fault *f, enum ept_result *result)
{
	struct ept_staging *staging = f->area->space->staging;
	enum ept_case small = f->res->kase;
	char *place;

	if (f->area->obj || !huge_wanted(f)) /* of a snapshot only this page is known to be zero */
		return false;
	place = ept_staging_get(staging, false);
	if (!place) {
		f->res->fallback = true;
		return false;
	}
	f->res->kase = EPT_CASE_ANON_HUGE;
	*result = ept_fault_finish(f, put_whole(f, place, ept_staging_is_huge(place), small));
	ept_staging_put(staging, place);
	return true;
}

/* --- files whose pages are the area's own ------------------------------------------------ */

/* Pages of the leaf that go in together: all of it, or what of the window is missing. */
static void choose(const struct fault *f, unsigned *first, unsigned *end)
{
	uint64_t pages = f->area->space->config.fault_around, leaf = fault_leaf_start(f);
	uint64_t start = f->req->gpa.v & ~((pages << EPT_PAGE_SHIFT) - 1);
	uint64_t stop = start + (pages << EPT_PAGE_SHIFT);
	unsigned low, high;

	if (untouched(f)) {
		*first = 0;
		*end = EPT_TABLE_SIZE;
		return;
	}
	start = start > f->area->start ? start : f->area->start;
	stop = stop < f->area->end ? stop : f->area->end;
	low = (unsigned)((start - leaf) >> EPT_PAGE_SHIFT);
	high = (unsigned)((stop - leaf) >> EPT_PAGE_SHIFT);
	*first = *end = f->index;
	while (*first > low && ept_pte_get(f->leaf, *first - 1) == EPT_PTE_NONE)
		--*first;
	while (*end < high && ept_pte_get(f->leaf, *end) == EPT_PTE_NONE)
		++*end;
}

/* Read pages [first, end) of the leaf, the object's last one filled up with zeros. */
static int read_pages(struct fault *f, unsigned first, unsigned end, char *to)
{
	const struct ept_object *obj = f->area->obj;
	size_t len = (size_t)(end - first) << EPT_PAGE_SHIFT, want = len, done;
	uint64_t byte = fault_leaf_start(f) + ((uint64_t)first << EPT_PAGE_SHIFT) - f->area->start;
	int err;

	if (want > obj->length - byte)
		want = obj->length - byte;
	done = ept_object_pread(obj, to, want, byte, &err);
	memset(to + done, 0, len - done);
	f->res->bytes_read += done;
	f->res->major |= done > 0;
	return done == want ? 0 : err ? err : -EIO;
}

/* The leaf out of a snapshot's extents, all of it; @to is zeros. */
static int read_extents(struct fault *f, char *to)
{
	uint64_t first = (fault_leaf_start(f) - f->area->start) >> EPT_PAGE_SHIFT, bytes = 0;
	char why[256];
	int err = 0;

	for (unsigned i = 0; i < EPT_TABLE_SIZE && !err; i += EPT_EXTENT_PAGES) {
		uint16_t have;

		err = ept_layers_read(f->area->obj, first + i, first + i + EPT_EXTENT_PAGES,
				      to + ((size_t)i << EPT_PAGE_SHIFT), &have, &bytes, why,
				      sizeof(why));
	}
	f->res->bytes_read += bytes;
	f->res->major |= bytes > 0;
	return err;
}

static int read_run(struct fault *f, unsigned first, unsigned end, char *to)
{
	return f->area->kind == EPT_KIND_LAYERS ? read_extents(f, to)
						: read_pages(f, first, end, to);
}

/* A run of the leaf on its way in. */
struct run {
	unsigned first, end;
	char *place;
	bool huge; /* the place is a huge page, and all of the leaf is in it */
};

/*
 * Entries are in transit, and the lock is free, while the object is read. If it gives
 * not all, the page that is asked for is read alone: a neighbour's trouble is not its.
 * (Of a snapshot the caller does that.)
 */
static int fill_aside(struct fault *f, struct run *run)
{
	unsigned first = run->first, end = run->end;
	int err;

	for (unsigned i = first; i < end; i++)
		ept_pte_set(f->leaf, i, EPT_PTE_TRANSIT);
	pthread_mutex_unlock(&f->leaf->lock);
	fault_waits(f, EPT_WAIT_READ);

	run->place = ept_staging_get(f->area->space->staging, true);
	if (end - first == EPT_TABLE_SIZE)
		run->huge = ept_staging_is_huge(run->place);
	else
		run->place = ept_staging_small(run->place);
	err = read_run(f, first, end, run->place);
	if (err && end - first > 1 && f->area->kind != EPT_KIND_LAYERS) {
		*run = (struct run){f->index, f->index + 1, run->place, false};
		err = read_pages(f, f->index, f->index + 1, run->place);
	}
	fault_read_ended(f);

	fault_lock_leaf(f);
	f->unreadable = err && err != -ENOMEM;
	for (unsigned i = first; i < end; i++)
		ept_pte_set(f->leaf, i, EPT_PTE_NONE);
	pthread_cond_broadcast(&f->leaf->arrived);
	return !err && ept_dying(f->area->space) ? -ESHUTDOWN : err;
}

/* Events of pages left out were left to us; not of the one that failed (fault.c). */
static void wake_left_out(struct fault *f, unsigned first, unsigned end, int err)
{
	bool keep_asleep = f->unreadable || (err && err != -EAGAIN && err != -EEXIST);

	for (unsigned i = first; i < end; i++)
		if (ept_pte_get(f->leaf, i) == EPT_PTE_NONE && !(i == f->index && keep_asleep))
			ept_install_wake(fault_installer(f), fault_hva(f, i), EPT_PAGE_SIZE);
}

enum ept_result ept_file_huge(struct fault *f)
{
	enum ept_case small = f->req->access == EPT_WRITE ? EPT_CASE_FILE_COW : EPT_CASE_FILE_READ;
	struct run run = {0};
	unsigned first, end;
	int err;

	choose(f, &run.first, &run.end);
	first = run.first;
	end = run.end;
	err = fill_aside(f, &run);
	if (err)
		f->res->kase = small;
	else if (run.end - run.first == EPT_TABLE_SIZE)
		err = put_whole(f, run.place, run.huge, small);
	else {
		f->res->kase = small;
		f->res->fallback = end - first == EPT_TABLE_SIZE;
		err = fill(f, run.first, run.end, run.place);
	}
	ept_staging_put(f->area->space->staging, run.place);
	wake_left_out(f, first, end, err);
	return ept_fault_finish(f, err);
}

/* Where everything comes in, most of a leaf is reason enough. */
static bool most_is_wanted(const struct fault *f)
{
	const struct ept_space *space = f->area->space;
	uint64_t first = (fault_leaf_start(f) - f->area->start) >> EPT_PAGE_SHIFT;
	unsigned data = 0;

	if (!space->prefetch.all || !space->staging || !untouched(f))
		return false;
	for (unsigned i = 0; i < EPT_TABLE_SIZE; i++)
		data += ept_layers_what(f->area->obj, first + i) == EPT_LAYERS_DATA;
	return data >= DENSE;
}

bool ept_snap_whole(struct fault *f, enum ept_result *result)
{
	enum ept_case small = f->res->kase;
	struct run run = {.end = EPT_TABLE_SIZE};
	int err;

	if (f->area->space->prefetch.noted || ept_set_sparse(f->leaf) ||
	    !(huge_wanted(f) || most_is_wanted(f)))
		return false;
	err = fill_aside(f, &run);
	if (!err) {
		f->res->kase = EPT_CASE_FILE_HUGE;
		err = put_whole(f, run.place, run.huge, small);
	}
	ept_staging_put(f->area->space->staging, run.place);
	wake_left_out(f, 0, EPT_TABLE_SIZE, err ? -EIO : 0);
	if (err == -EBADMSG || f->unreadable) { /* the page's own extent may be well */
		f->unreadable = false;
		return false;
	}
	*result = ept_fault_finish(f, err);
	return true;
}
