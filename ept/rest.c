#include "ept/rest.h"

#include "ept/handlers.h"
#include "ept/object_snapshot.h"

void ept_rests_init(struct ept_rests *rests)
{
	*rests = (struct ept_rests){0};
	pthread_mutex_init(&rests->lock, NULL);
	pthread_cond_init(&rests->more, NULL);
}

void ept_rests_stop(struct ept_rests *rests)
{
	pthread_mutex_lock(&rests->lock);
	rests->stop = true;
	pthread_cond_broadcast(&rests->more);
	pthread_mutex_unlock(&rests->lock);
}

static bool give(struct ept_rests *rests, const struct ept_rest *rest)
{
	bool room;

	pthread_mutex_lock(&rests->lock);
	room = rests->count < EPT_RESTS;
	if (room) {
		rests->job[(rests->next + rests->count++) % EPT_RESTS] = *rest;
		pthread_cond_signal(&rests->more);
	}
	pthread_mutex_unlock(&rests->lock);
	return room;
}

/* Waits for one; false: no more are served. */
static bool take(struct ept_rests *rests, struct ept_rest *out)
{
	bool goes_on;

	pthread_mutex_lock(&rests->lock);
	while (!rests->count && !rests->stop)
		pthread_cond_wait(&rests->more, &rests->lock);
	goes_on = !rests->stop;
	if (goes_on) {
		*out = rests->job[rests->next];
		rests->next = (rests->next + 1) % EPT_RESTS;
		rests->count--;
	}
	pthread_mutex_unlock(&rests->lock);
	return goes_on;
}

/* Who holds the space, or is about to, does not wait for more than an extent. */
static bool goes_on(const struct ept_space *space, bool in_fault)
{
	bool held = __atomic_load_n(&space->held, __ATOMIC_RELAXED) != EPT_HELD_NOT;

	return !(in_fault && held) && !ept_dying(space) &&
	       !__atomic_load_n(&space->prefetch.stop, __ATOMIC_RELAXED);
}

/* From the extent that was asked for up, then what lies below it. */
static unsigned bring(const struct ept_rest *rest, bool in_fault, uint64_t *bytes)
{
	struct ept_space *space = rest->area->space;
	uint64_t page = (rest->gpa - rest->area->start) >> EPT_PAGE_SHIFT;
	unsigned extent = rest->asked & ~(unsigned)(EPT_EXTENT_PAGES - 1);
	unsigned i = extent > rest->first ? extent : rest->first, end, put = 0;

	ept_layers_will_need(rest->area->obj, page + rest->first, page + rest->end);
	do {
		end = (i | (EPT_EXTENT_PAGES - 1)) + 1;
		end = end < rest->end ? end : rest->end;
		if (!goes_on(space, in_fault))
			break;
		ept_work_begin(space);
		put += ept_snap_bring_rest(rest, i, end, bytes);
		ept_work_end(space);
		i = end < rest->end ? end : rest->first;
	} while ((i & ~(unsigned)(EPT_EXTENT_PAGES - 1)) != extent);
	__atomic_fetch_add(&space->prefetch.rests.pages, put, __ATOMIC_RELAXED);
	__atomic_fetch_add(&space->prefetch.rests.windows, 1, __ATOMIC_RELEASE);
	return put;
}

void ept_rests_serve(struct ept_space *space)
{
	struct ept_rest rest;
	uint64_t bytes = 0;

	while (take(&space->prefetch.rests, &rest))
		bring(&rest, false, &bytes);
}

void ept_rest_leave(struct fault *f)
{
	struct ept_rests *rests;
	unsigned put;

	if (!f->rest.area)
		return;
	rests = &f->area->space->prefetch.rests;
	if (__atomic_load_n(&rests->served, __ATOMIC_RELAXED)) {
		if (give(rests, &f->rest))
			return;
		fault_lock_leaf(f);
		f->leaf->asked -= f->leaf->asked > 0;
		pthread_mutex_unlock(&f->leaf->lock);
		return;
	}
	fault_waits(f, EPT_WAIT_READ);
	put = bring(&f->rest, true, &f->res->bytes_read);
	f->res->installed += put;
	f->res->around += put;
}
