/*
 * Pages of files. The fault's stream (stream.h) says how far around it is mapped
 * of what the cache has, how much is read with a miss, and what is read ahead.
 * Writes bring the page, and copies of the next ones for who writes in order.
 */
#include "ept/handlers.h"

#include <errno.h>

/* A run of entries of one leaf around the fault. */
struct window {
	unsigned first, end;
	uint64_t page;			       /* the object's page at first */
	uint64_t transit[EPT_TABLE_SIZE / 64]; /* entries that this fault put in transit */
};

static uint64_t area_first(const struct fault *f)
{
	return f->area->start >> EPT_PAGE_SHIFT;
}

static uint64_t leaf_first(const struct fault *f)
{
	return fault_leaf_start(f) >> EPT_PAGE_SHIFT;
}

/* Would the access that the fault is for need no fault there? */
static bool installed(const struct fault *f, unsigned index, bool write)
{
	enum ept_pte pte = ept_pte_get(f->leaf, index);

	if (write)
		return pte == EPT_PTE_PRIVATE || pte == EPT_PTE_DIRTY;
	return pte != EPT_PTE_NONE && pte != EPT_PTE_TRANSIT;
}

/* The fault as its stream sees it. */
static struct ept_touch touch_of(const struct fault *f, bool write)
{
	struct ept_touch t = {
	    .page = f->req->gpa.v >> EPT_PAGE_SHIFT,
	    .first = area_first(f),
	    .end = f->area->end >> EPT_PAGE_SHIFT,
	    .lfirst = leaf_first(f),
	    .around = f->area->space->config.fault_around,
	    .near = f->leaf->random_reads,
	    .write = write,
	};

	t.lend = t.lfirst + EPT_TABLE_SIZE < t.end ? t.lfirst + EPT_TABLE_SIZE : t.end;
	t.lfirst = t.lfirst > t.first ? t.lfirst : t.first;
	for (t.back = t.page; t.back > t.lfirst; t.back--)
		if (!installed(f, (unsigned)(t.back - 1 - leaf_first(f)), write))
			break;
	return t;
}

/*
 * Under a memory limit a fault brings in no more than the limit lets all fault
 * threads bring at once. What is cached already may still be mapped around it.
 */
static void clip_to_limit(struct fault *f, const struct ept_touch *t)
{
	const struct ept_reclaim *r = &f->area->space->reclaim;
	uint64_t first = t->page & ~((uint64_t)r->window - 1), end = first + r->window;
	struct ept_step *step = &f->step;

	if (!r->limit)
		return;
	step->read_first = step->read_first > first ? step->read_first : first;
	step->read_end = step->read_end < end ? step->read_end : end;
	if (t->write && step->end > end)
		step->end = end;
}

/* The window of this fault: asked of its stream once, however often it is tried. */
static struct window window_of(struct fault *f, bool write)
{
	if (!f->stepped) {
		struct ept_touch t = touch_of(f, write);

		f->streams = write ? &f->area->writes : &f->area->reads;
		f->step = ept_streams_step(f->streams, &t);
		clip_to_limit(f, &t);
		f->stepped = true;
		f->leaf->random_reads += f->step.random;
	}
	return (struct window){
	    .first = (unsigned)(f->step.first - leaf_first(f)),
	    .end = (unsigned)(f->step.end - leaf_first(f)),
	    .page = f->step.first - area_first(f),
	};
}

/* The fault is resolved: where who goes on in order faults next. */
static void stream_moved(const struct fault *f)
{
	bool write = f->streams == &f->area->writes;
	unsigned index = f->index + 1;

	while (index < EPT_TABLE_SIZE && installed(f, index, write))
		index++;
	ept_streams_moved(f->streams, &f->step, f->req->gpa.v >> EPT_PAGE_SHIFT,
			  leaf_first(f) + index);
}

unsigned ept_write_ahead(struct fault *f)
{
	struct window w = window_of(f, true);

	f->step.ahead_first = f->step.ahead_end = 0; /* nothing of a file is wanted */
	return w.end - f->index;
}

unsigned ept_return_ahead(struct fault *f)
{
	const struct ept_reclaim *r = &f->area->space->reclaim;
	uint64_t n = (ept_write_ahead(f), f->step.run), gpa = f->req->gpa.v & EPT_PAGE_MASK;
	/* What lies behind the area's end in the leaf is another one's. */
	uint64_t left = (ept_leaf_end(gpa, f->area->end) - gpa) >> EPT_PAGE_SHIFT;

	n = n < r->window ? n : r->window;
	n = n < left ? n : left;
	return n ? (unsigned)n : 1;
}

void ept_write_moved(const struct fault *f)
{
	stream_moved(f);
}

/* Reclaim finds what is cached by the mirror: it has to have a table there. No lock is held. */
static bool reclaim_finds(struct ept_space *space, uint64_t first, uint64_t end)
{
	bool found = true;

	for (uint64_t page = first; space->reclaim.limit && page < end && found;
	     page = (page / EPT_TABLE_SIZE + 1) * EPT_TABLE_SIZE)
		found = ept_mirror_get(&space->mirror, GPA(page << EPT_PAGE_SHIFT));
	return found;
}

static void read_ahead(const struct fault *f, uint64_t first, uint64_t end)
{
	struct ept_space *space = f->area->space;
	bool limited = space->reclaim.limit;

	if (first >= end || !space->reader)
		return;
	if (limited)
		pthread_mutex_lock(&space->reclaim.room);
	if (ept_reclaim_has_room(space, EPT_AROUND_MAX) && reclaim_finds(space, first, end))
		ept_object_read_ahead(f->area->obj, space->reader, first - area_first(f),
				      end - area_first(f));
	if (limited)
		pthread_mutex_unlock(&space->reclaim.room);
}

void ept_fault_read_ahead(struct fault *f)
{
	struct ept_step *step = &f->step;
	uint64_t first = step->ahead_first, end = step->ahead_end;

	/* What the fault reads itself lies between. */
	read_ahead(f, first, end < step->read_first ? end : step->read_first);
	read_ahead(f, first > step->read_end ? first : step->read_end, end);
	step->ahead_first = step->ahead_end = 0;
}

static uint64_t object_page(const struct window *w, unsigned index)
{
	return w->page + index - w->first;
}

static bool in_transit_here(const struct window *w, unsigned index)
{
	return w->transit[index / 64] >> (index % 64) & 1;
}

/*
 * Get the faulting page, and what is missing next to it as the stream says, into
 * the object's cache. Drops and retakes the leaf's lock if it has to read, or to
 * wait for a read: the entries of what that read brings are in transit meanwhile,
 * and back at none when it returns.
 */
static int bring_in(struct fault *f, struct window *w)
{
	struct ept_object *obj = f->area->obj;
	uint64_t page = object_page(w, f->index), bytes = 0;
	uint64_t first = f->step.read_first - area_first(f);
	uint64_t end = f->step.read_end - area_first(f);
	unsigned from, to;
	int err;

	if (ept_object_cached(obj, page))
		return 0;
	if (ept_pte_value(f->leaf, f->index) == EPT_VALUE_EVICTED)
		ept_reclaim_count(&f->area->space->reclaim, refaults, 1);
	ept_object_span(obj, page, &first, &end);
	from = f->index - (unsigned)(page - first);
	to = f->index + (unsigned)(end - page);
	for (unsigned i = from; i < to; i++)
		if (ept_pte_get(f->leaf, i) == EPT_PTE_NONE) {
			ept_pte_set(f->leaf, i, EPT_PTE_TRANSIT);
			w->transit[i / 64] |= 1UL << (i % 64);
		}
	pthread_mutex_unlock(&f->leaf->lock);
	fault_waits(f, EPT_WAIT_READ);

	ept_fault_read_ahead(f);
	err = ept_object_fill(obj, page, first, end, &bytes);
	fault_read_ended(f);

	fault_lock_leaf(f);
	for (unsigned i = from; i < to; i++)
		if (in_transit_here(w, i))
			ept_pte_set(f->leaf, i, EPT_PTE_NONE);
	pthread_cond_broadcast(&f->leaf->arrived);
	f->res->bytes_read += bytes;
	f->res->major |= bytes > 0;
	f->unreadable = err && err != -ENOMEM;
	if (!err && ept_dying(f->area->space))
		return -ESHUTDOWN;
	return !err && !ept_object_cached(obj, page) ? -EAGAIN : err; /* dropped already */
}

/*
 * Events for pages that were in transit were left to us. Wake those whose page
 * did not get in after all, so that they fault again; but not the page that
 * failed, whose waiters would only fail with it again.
 */
static void wake_left_out(struct fault *f, const struct window *w, int err)
{
	bool keep_asleep = f->unreadable || (err && err != -EAGAIN && err != -EEXIST);

	for (unsigned i = 0, run = 0; i <= EPT_TABLE_SIZE; i++) {
		if (i < EPT_TABLE_SIZE && in_transit_here(w, i) &&
		    ept_pte_get(f->leaf, i) == EPT_PTE_NONE && !(i == f->index && keep_asleep))
			continue;
		if (run < i)
			ept_install_wake(fault_installer(f), fault_hva(f, run),
					 (size_t)(i - run) << EPT_PAGE_SHIFT);
		run = i + 1;
	}
}

/* [first, end) of pages that the area's mapping does not have: own copies of them. */
static int map_aside(struct fault *f, const struct window *w, unsigned first, unsigned end)
{
	size_t done;
	int err = ept_install_copies(fault_installer(f), fault_hva(f, first),
				     ept_object_bytes(f->area->obj, object_page(w, first)),
				     (size_t)(end - first) << EPT_PAGE_SHIFT, &done);
	unsigned stop = first + (unsigned)(done >> EPT_PAGE_SHIFT);

	for (unsigned i = first; i < stop; i++)
		fault_set(f, i, EPT_PTE_PRIVATE);
	if (err == -EEXIST && f->index == stop)
		fault_set(f, stop, EPT_PTE_PRIVATE);
	ept_object_taken(f->area->obj, object_page(w, first), object_page(w, stop));
	f->res->installed += stop - first;
	return f->index >= stop && f->index < end ? err : 0;
}

/* Map [first, end) of cached pages. Pages that were there already may be writable. */
static int map_run(struct fault *f, const struct window *w, unsigned first, unsigned end,
		   enum ept_pte pte)
{
	size_t len = (size_t)(end - first) << EPT_PAGE_SHIFT, done = 0;
	unsigned stop;
	int err;

	if (ept_object_aside(f->area->obj, object_page(w, first)))
		return map_aside(f, w, first, end);
	err = ept_install_continue(fault_installer(f), fault_hva(f, first), len,
				   fault_protects(f, pte), &done);
	stop = first + (unsigned)(done >> EPT_PAGE_SHIFT);
	if (pte == EPT_PTE_CLEAN && err) /* some may have been there, and written */
		pte = EPT_PTE_DIRTY;
	for (unsigned i = first; i < stop; i++)
		fault_set(f, i, fault_mapped_as(f, i, pte));
	ept_object_taken(f->area->obj, object_page(w, first), object_page(w, stop));
	if (err == -EEXIST && end - first == 1)
		return f->index == first ? err : 0;
	f->res->installed += stop - first;
	return f->index >= stop && f->index < end ? err : 0;
}

/* Where the run from @first on ends of cached pages that are not there yet, all from one view. */
static unsigned cached_run(const struct fault *f, const struct window *w, unsigned first,
			   unsigned end)
{
	const struct ept_object *obj = f->area->obj;
	unsigned stop = first;

	while (stop < end && ept_pte_get(f->leaf, stop) == EPT_PTE_NONE &&
	       ept_object_cached(obj, object_page(w, stop)) &&
	       ept_object_aside(obj, object_page(w, stop)) ==
		   ept_object_aside(obj, object_page(w, first)))
		stop++;
	return stop;
}

/* Map what is cached and not there yet, in as few runs as it takes. */
static int map_window(struct fault *f, const struct window *w, enum ept_pte pte)
{
	int err = 0;

	for (unsigned i = w->first; i < w->end;) {
		unsigned stop = cached_run(f, w, i, w->end);

		if (i < stop) {
			int run_err = map_run(f, w, i, stop, pte);

			err = err ? err : run_err;
		}
		i = i < stop ? stop : i + 1;
	}
	return err;
}

/* The end of a fault that had something brought in, @err being the page's own. */
static enum ept_result brought(struct fault *f, const struct window *w, int err)
{
	wake_left_out(f, w, err);
	if (!err)
		stream_moved(f);
	if (f->res->installed)
		f->res->around = f->res->installed - (!err);
	return ept_fault_finish(f, err);
}

/* A read: the page, and what the window has in the cache. */
static enum ept_result map_for_read(struct fault *f, enum ept_pte pte)
{
	struct window w = window_of(f, false);
	int err = bring_in(f, &w);

	if (!err)
		err = map_window(f, &w, pte);
	if (!err && ept_pte_get(f->leaf, f->index) == EPT_PTE_NONE)
		err = -EAGAIN; /* reclaim was faster */
	return brought(f, &w, err);
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
 * mapped as for a read, so that one page in a window is taken for written. If it
 * did write, it faults on the next page, and that is no guess any more: from
 * there on the worker's writes are believed.
 */
static bool guessed(struct fault *f)
{
	struct ept_touch t;

	if (f->req->origin != EPT_ORIGIN_KVM)
		return false;
	if (f->stepped)
		return f->streams == &f->area->reads;
	t = touch_of(f, true);
	if (ept_streams_follows(&f->area->writes, &t))
		return false;
	ept_streams_note(&f->area->writes, t.page);
	return true;
}

/*
 * Own copies of the page and of what follows it up to @end, as far as it is cached
 * and not there yet. Without what follows the page it is as good.
 */
static int copy_run(struct fault *f, const struct window *w, unsigned end)
{
	struct ept_object *obj = f->area->obj;
	uint64_t page = object_page(w, f->index);
	unsigned stop = cached_run(f, w, f->index, end > f->index ? end : f->index + 1);
	size_t done;
	int err;

	stop = stop > f->index ? stop : f->index + 1;
	err = ept_install_copies(fault_installer(f), fault_hva(f, f->index),
				 ept_object_bytes(obj, page),
				 (size_t)(stop - f->index) << EPT_PAGE_SHIFT, &done);
	stop = f->index + (unsigned)(done >> EPT_PAGE_SHIFT);
	for (unsigned i = f->index; i < stop; i++)
		fault_set(f, i, EPT_PTE_PRIVATE);
	f->res->installed += stop - f->index;
	ept_object_taken(obj, page, object_page(w, stop));
	if (stop > f->index)
		return 0;
	if (err == -EEXIST)
		fault_set(f, f->index, EPT_PTE_PRIVATE);
	return err;
}

enum ept_result ept_file_cow(struct fault *f)
{
	bool guess = guessed(f);
	struct window w = window_of(f, !guess);
	int err = bring_in(f, &w);

	if (!err)
		err = copy_run(f, &w, guess ? f->index + 1 : w.end);
	if (!err && guess)
		map_window(f, &w, EPT_PTE_FILE); /* as good without its neighbours */
	return brought(f, &w, err);
}

/*
 * Writing is granted for what a writer in order will want next, too: what it does
 * not write stays the cached page.
 */
enum ept_result ept_file_wp(struct fault *f)
{
	struct window w = window_of(f, true);
	unsigned end = f->index + 1;
	int err;

	while (end < w.end && ept_pte_get(f->leaf, end) == EPT_PTE_FILE)
		end++;
	err = ept_install_protect(fault_installer(f), fault_hva(f, f->index),
				  (size_t)(end - f->index) << EPT_PAGE_SHIFT, false);
	for (unsigned i = f->index; i < end && !err; i++)
		fault_set(f, i, EPT_PTE_PRIVATE);
	if (!err) {
		f->res->granted = end - f->index - 1;
		stream_moved(f);
	}
	return ept_fault_finish(f, err);
}

enum ept_result ept_shared_write(struct fault *f)
{
	bool guess = guessed(f);
	struct window w = window_of(f, !guess);
	int err = bring_in(f, &w);

	/* Written perhaps: let write-back look. */
	if (f->req->origin == EPT_ORIGIN_KVM)
		__atomic_store_n(&f->area->read_as_written, true, __ATOMIC_RELAXED);
	if (!err)
		err = map_run(f, &w, f->index, f->index + 1, EPT_PTE_DIRTY);
	if (!err && guess && fault_installer(f)->atomic_protect) /* else they count as written */
		map_window(f, &w, EPT_PTE_CLEAN);
	return brought(f, &w, err);
}

enum ept_result ept_shared_mkwrite(struct fault *f)
{
	return ept_grant_write(f, EPT_PTE_DIRTY);
}
