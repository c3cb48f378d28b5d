/*
 * Pages of files. Reads map what the cache has around the fault (fault-around);
 * a miss reads the window with it. Writes bring one page, unless it is KVM's
 * worker that says it is a write.
 */
#include "ept/handlers.h"

#include <errno.h>

/* A run of entries of one leaf around the fault. */
struct window {
	unsigned first, end;
	uint64_t page;			       /* the object's page at first */
	uint64_t transit[EPT_TABLE_SIZE / 64]; /* entries that this fault put in transit */
};

/* @pages (a power of two) around the fault, aligned, within the leaf and the area. */
static struct window window_around(const struct fault *f, unsigned pages)
{
	uint64_t first = f->req->gpa.v & ~(((uint64_t)pages << EPT_PAGE_SHIFT) - 1);
	uint64_t end = first + ((uint64_t)pages << EPT_PAGE_SHIFT);

	first = first > f->area->start ? first : f->area->start;
	end = end < f->area->end ? end : f->area->end;
	return (struct window){
	    .first = ept_leaf_index(GPA(first)),
	    .end = (unsigned)((end - fault_leaf_start(f)) >> EPT_PAGE_SHIFT),
	    .page = (first - f->area->start) >> EPT_PAGE_SHIFT,
	};
}

static uint64_t object_page(const struct window *w, unsigned index)
{
	return w->page + (index - w->first);
}

static bool in_transit_here(const struct window *w, unsigned index)
{
	return w->transit[index / 64] >> (index % 64) & 1;
}

/*
 * Get the faulting page, and what is missing of the window with it, into the
 * object's cache. Drops and retakes the leaf's lock if it has to read: entries
 * of the window are in transit meanwhile, and back at none when it returns.
 */
static int bring_in(struct fault *f, struct window *w)
{
	struct ept_object *obj = f->area->obj;
	uint64_t page = object_page(w, f->index), bytes = 0;
	int err;

	if (ept_object_cached(obj, page))
		return 0;
	for (unsigned i = w->first; i < w->end; i++)
		if (ept_pte_get(f->leaf, i) == EPT_PTE_NONE) {
			ept_pte_set(f->leaf, i, EPT_PTE_TRANSIT);
			w->transit[i / 64] |= 1UL << (i % 64);
		}
	pthread_mutex_unlock(&f->leaf->lock);
	fault_waits(f, EPT_WAIT_READ);

	err = ept_object_fill(obj, page, w->page, object_page(w, w->end), &bytes);

	fault_lock_leaf(f);
	for (unsigned i = w->first; i < w->end; i++)
		if (in_transit_here(w, i))
			ept_pte_set(f->leaf, i, EPT_PTE_NONE);
	pthread_cond_broadcast(&f->leaf->arrived);
	f->res->bytes_read += bytes;
	f->res->major |= bytes > 0;
	f->unreadable = err && err != -ENOMEM;
	return !err && ept_dying(f->area->space) ? -ESHUTDOWN : err;
}

/*
 * Events for pages that were in transit were left to us. Wake those whose page
 * did not get in after all, so that they fault again; but not the page that
 * failed, whose waiters would only fail with it again.
 */
static void wake_left_out(struct fault *f, const struct window *w, int err)
{
	bool keep_asleep = err && err != -EAGAIN && err != -EEXIST;

	for (unsigned i = w->first; i < w->end; i++)
		if (in_transit_here(w, i) && ept_pte_get(f->leaf, i) == EPT_PTE_NONE &&
		    !(i == f->index && keep_asleep))
			ept_install_wake(fault_installer(f), fault_hva(f, i), EPT_PAGE_SIZE);
}

/* Map [first, end) of cached pages. Pages that were there already may be writable. */
static int map_run(struct fault *f, unsigned first, unsigned end, enum ept_pte pte)
{
	bool exact = pte != EPT_PTE_CLEAN || fault_installer(f)->atomic_protect;
	size_t len = (size_t)(end - first) << EPT_PAGE_SHIFT, done = 0;
	int err = ept_install_continue(fault_installer(f), fault_hva(f, first), len,
				       fault_protects(f, pte), &done);
	unsigned stop = first + (unsigned)(done >> EPT_PAGE_SHIFT);

	/* A write nobody saw may have reached the shared page: it counts as written. */
	if (pte == EPT_PTE_CLEAN && (!exact || err))
		pte = EPT_PTE_DIRTY;
	for (unsigned i = first; i < stop; i++)
		fault_set(f, i, pte);
	if (err == -EEXIST && end - first == 1)
		return f->index == first ? err : 0;
	f->res->installed += stop - first;
	return f->index >= stop && f->index < end ? err : 0;
}

/* Map what is cached and not there yet, in as few runs as it takes. */
static int map_window(struct fault *f, const struct window *w, enum ept_pte pte)
{
	int err = 0;

	for (unsigned i = w->first, run = i; i <= w->end; i++) {
		if (i < w->end && ept_pte_get(f->leaf, i) == EPT_PTE_NONE &&
		    ept_object_cached(f->area->obj, object_page(w, i)))
			continue;
		if (run < i) {
			int run_err = map_run(f, run, i, pte);

			err = err ? err : run_err;
		}
		run = i + 1;
	}
	return err;
}

/* A read: the page, and what the window has in the cache. */
static enum ept_result map_for_read(struct fault *f, enum ept_pte pte)
{
	const struct ept_config *config = &f->area->space->config;
	struct window w = window_around(f, config->fault_around);
	int err = bring_in(f, &w);

	if (!err)
		err = map_window(f, &w, pte);
	wake_left_out(f, &w, err);
	if (f->res->installed)
		f->res->around = f->res->installed - (!err);
	return ept_fault_finish(f, err);
}

enum ept_result ept_file_read(struct fault *f)
{
	return map_for_read(f, EPT_PTE_FILE);
}

enum ept_result ept_shared_read(struct fault *f)
{
	return map_for_read(f, EPT_PTE_CLEAN);
}

/*
 * KVM's worker asks for write access whatever the guest did, and the guest most
 * likely read: the page has to be what it asks for, but its neighbours are
 * mapped as for a read, so that one page in a window is taken for written.
 */
static struct window window_of_write(const struct fault *f)
{
	bool guessed = f->req->origin == EPT_ORIGIN_KVM;

	return window_around(f, guessed ? f->area->space->config.fault_around : 1);
}

/* The page itself is in. Without its neighbours it is as good. */
static void map_neighbours(struct fault *f, const struct window *w, enum ept_pte pte)
{
	unsigned own = f->res->installed;

	map_window(f, w, pte);
	f->res->around = f->res->installed - own;
}

enum ept_result ept_file_cow(struct fault *f)
{
	struct window w = window_of_write(f);
	struct ept_object *obj = f->area->obj;
	int err = bring_in(f, &w);

	if (!err)
		err = ept_install_copy(fault_installer(f), fault_hva(f, f->index),
				       obj->cache + (object_page(&w, f->index) << EPT_PAGE_SHIFT));
	if (!err || err == -EEXIST)
		fault_set(f, f->index, EPT_PTE_PRIVATE);
	f->res->installed += !err;
	if (!err)
		map_neighbours(f, &w, EPT_PTE_FILE);
	wake_left_out(f, &w, err);
	return ept_fault_finish(f, err);
}

enum ept_result ept_file_wp(struct fault *f)
{
	return ept_grant_write(f, EPT_PTE_PRIVATE);
}

enum ept_result ept_shared_write(struct fault *f)
{
	struct window w = window_of_write(f);
	int err = bring_in(f, &w);

	/* Written perhaps: let write-back look. */
	if (f->req->origin == EPT_ORIGIN_KVM)
		__atomic_store_n(&f->area->read_as_written, true, __ATOMIC_RELAXED);
	if (!err)
		err = map_run(f, f->index, f->index + 1, EPT_PTE_DIRTY);
	if (!err && fault_installer(f)->atomic_protect) /* else they count as written, too */
		map_neighbours(f, &w, EPT_PTE_CLEAN);
	wake_left_out(f, &w, err);
	return ept_fault_finish(f, err);
}

enum ept_result ept_shared_mkwrite(struct fault *f)
{
	return ept_grant_write(f, EPT_PTE_DIRTY);
}
