/*
 * Bringing in what is not asked for yet: threads, each of which takes the next portion, so
 * that some read while others put in.
 *
 * A working set's portions are chunks of its file, read in one piece, checked, and put in. They
 * lie as the guest asked for them, so it finds there what it asks for next. Where memory goes
 * in by 2 MiB, and where all of it is to come, a portion is asked for as a guest would ask.
 */
#include "ept/prefetch.h"

#include "ept/fault.h"
#include "ept/object_snapshot.h"
#include "ept/space.h"
#include "ept/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>

#define CHUNK_BYTES  (EPT_SET_CHUNK << EPT_PAGE_SHIFT)
#define AHEAD	     4 /* chunks that the host is told of */

/* That only bring in the rest of windows. */
#define REST_THREADS 2

int ept_space_prefetch(struct ept_space *space, const struct ept_working_set *set)
{
	struct ept_prefetch *p = &space->prefetch;

	if (space->life != EPT_LIFE_NEW || p->set || p->all)
		return -EINVAL;
	p->set = set;
	p->rest = true;
	p->stats.wanted = set->count;
	return 0;
}

int ept_space_prefetch_all(struct ept_space *space)
{
	struct ept_prefetch *p = &space->prefetch;

	if (space->life != EPT_LIFE_NEW || p->set || p->all || space->config.memory_limit)
		return -EINVAL;
	p->all = true;
	return 0;
}

int ept_space_prefetch_rest(struct ept_space *space)
{
	if (space->life != EPT_LIFE_NEW)
		return -EINVAL;
	space->prefetch.rest = true;
	return 0;
}

void ept_prefetch_cancel(struct ept_space *space)
{
	__atomic_store_n(&space->prefetch.stop, true, __ATOMIC_RELAXED);
}

static bool cancelled(const struct ept_space *space)
{
	return __atomic_load_n(&space->prefetch.stop, __ATOMIC_RELAXED) || ept_dying(space);
}

static unsigned put_if_room(struct ept_space *space, const uint64_t *gpa, uint64_t pages,
			    const char *bytes)
{
	if (cancelled(space) || !ept_reclaim_has_room(space, (unsigned)EPT_SET_CHUNK))
		return 0;
	return ept_snap_put(space, gpa, bytes, (unsigned)pages);
}

static void put_chunk(struct ept_space *space, uint64_t chunk, uint64_t pages, const char *bytes)
{
	struct ept_prefetch *p = &space->prefetch;
	const uint64_t *gpa = p->set->gpa + chunk * EPT_SET_CHUNK;
	bool limited = space->reclaim.limit;
	unsigned put;

	ept_work_begin(space);
	if (limited)
		pthread_mutex_lock(&space->reclaim.room);
	put = put_if_room(space, gpa, pages, bytes);
	if (limited)
		pthread_mutex_unlock(&space->reclaim.room);
	ept_work_end(space);
	__atomic_fetch_add(&p->stats.brought, put, __ATOMIC_RELAXED);
}

/* What cannot be read, or is not what was written, is left to who asks for the page. */
static void bring_set(struct ept_space *space, char *buf)
{
	struct ept_prefetch *p = &space->prefetch;
	uint64_t count = p->set->count, chunk;

	while (!cancelled(space) && (chunk = __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED)) <
					ept_set_chunks(count)) {
		/* All of it at once might wait for the disk's queue. */
		posix_fadvise(p->set->fd, (off_t)ept_set_place(p->set, chunk + 1),
			      AHEAD * CHUNK_BYTES, POSIX_FADV_WILLNEED);
		if (!ept_set_read(p->set, chunk, buf))
			put_chunk(space, chunk, ept_set_chunk_pages(count, chunk), buf);
	}
}

/* --- as a guest would ask ------------------------------------------------------------------ */

/* Is the page in a layer, and nothing there of it yet? A hint. */
static bool is_missing(struct ept_space *space, uint64_t gpa)
{
	const struct ept_leaf *leaf = ept_mirror_find(&space->mirror, GPA(gpa));
	const struct ept_area *area = ept_area_find(space, gpa);
	unsigned index = ept_leaf_index(GPA(gpa));

	if (!area || area->kind != EPT_KIND_LAYERS)
		return false;
	if (leaf && (ept_pte_get(leaf, index) != EPT_PTE_NONE || ept_pte_value(leaf, index)))
		return false;
	return ept_layers_what(area->obj, (gpa - area->start) >> EPT_PAGE_SHIFT) == EPT_LAYERS_DATA;
}

/* Waits while the space is held, as every fault. */
static void ask(struct ept_space *space, uint64_t gpa)
{
	struct ept_request req = {.gpa = GPA(gpa & EPT_PAGE_MASK),
				  .access = EPT_READ,
				  .origin = EPT_ORIGIN_LOADER,
				  .picked_up = ept_now()};
	struct ept_prefetch *p = &space->prefetch;
	struct ept_resolution res;
	enum ept_result result = handle_ept_fault(space, &req, &res);

	if (result != EPT_RESOLVED || res.kase == EPT_CASE_IO_POISON)
		__atomic_store_n(&p->error, res.error ? res.error : -EIO, __ATOMIC_RELAXED);
	else
		__atomic_fetch_add(&p->stats.brought, res.installed, __ATOMIC_RELAXED);
}

static void will_need(struct ept_space *space, uint64_t gpa)
{
	const struct ept_area *area = ept_area_find(space, gpa);
	uint64_t start = ept_leaf_start(gpa);

	if (!area || area->kind != EPT_KIND_LAYERS)
		return;
	start = start > area->start ? start : area->start;
	ept_layers_will_need(area->obj, (start - area->start) >> EPT_PAGE_SHIFT,
			     (ept_leaf_end(start, area->end) - area->start) >> EPT_PAGE_SHIFT);
}

/* By 2 MiB, in the order of the set's pages. */
static void bring_set_whole(struct ept_space *space)
{
	struct ept_prefetch *p = &space->prefetch;
	uint64_t count = p->set->count, i;

	while (!cancelled(space) &&
	       (i = __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED)) < count) {
		if (i + AHEAD < count && is_missing(space, p->set->gpa[i + AHEAD]))
			will_need(space, p->set->gpa[i + AHEAD]);
		if (is_missing(space, p->set->gpa[i]))
			ask(space, p->set->gpa[i]);
	}
}

/* The @n-th leaf's worth of memory that areas lie in; false: there are not so many. */
static bool nth_leaf(const struct ept_space *space, uint64_t n, uint64_t *start, uint64_t *end)
{
	for (size_t i = 0; i < space->nr_areas; i++) {
		const struct ept_area *area = space->areas[i];
		uint64_t first = ept_leaf_start(area->start);
		uint64_t leaves = (area->end - first + EPT_LEAF_BYTES - 1) >> EPT_LEAF_SHIFT;

		if (n < leaves) {
			*start = first + (n << EPT_LEAF_SHIFT);
			*end = ept_leaf_end(*start, area->end);
			*start = *start > area->start ? *start : area->start;
			return true;
		}
		n -= leaves;
	}
	return false;
}

static void bring_all(struct ept_space *space)
{
	struct ept_prefetch *p = &space->prefetch;
	uint64_t gpa, end, next;

	while (!cancelled(space) && !__atomic_load_n(&p->error, __ATOMIC_RELAXED) &&
	       nth_leaf(space, __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED), &gpa, &end)) {
		next = end;
		if (ept_area_find(space, next))
			will_need(space, next);
		for (; gpa < end && !cancelled(space); gpa += EPT_PAGE_SIZE)
			if (is_missing(space, gpa))
				ask(space, gpa);
	}
}

/* --- the threads --------------------------------------------------------------------------- */

static bool by_leaves(const struct ept_space *space)
{
	return space->config.huge == EPT_HUGE_ALWAYS && space->staging;
}

static void bring(struct ept_space *space)
{
	char *buf;

	if (space->prefetch.all) {
		bring_all(space);
	} else if (by_leaves(space)) {
		bring_set_whole(space);
	} else if ((buf = aligned_alloc(EPT_PAGE_SIZE, CHUNK_BYTES))) { /* else: as without a set */
		bring_set(space, buf);
		free(buf);
	}
}

static void *prefetch_thread(void *arg)
{
	struct ept_space *space = arg;
	struct ept_prefetch *p = &space->prefetch;

	ept_thread_begins(&space->config, "foal-prefetch", "prefetch");
	if (p->set || p->all)
		bring(space);
	pthread_mutex_lock(&p->lock);
	if (__atomic_sub_fetch(&p->working, 1, __ATOMIC_ACQ_REL) == 0) {
		__atomic_store_n(&p->stats.done, true, __ATOMIC_RELEASE);
		pthread_cond_broadcast(&p->idle);
	}
	pthread_mutex_unlock(&p->lock);
	if (p->rests.served)
		ept_rests_serve(space);
	return NULL;
}

/* Not more than there are portions, and CPUs. */
static unsigned wanted_threads(const struct ept_space *space)
{
	const struct ept_prefetch *p = &space->prefetch;
	uint64_t n = p->all		? p->cpus
		     : !p->set		? REST_THREADS
		     : by_leaves(space) ? p->set->count
					: ept_set_chunks(p->set->count);

	return n < p->cpus ? (unsigned)n : p->cpus;
}

/* While it may still be asked. */
static unsigned count_cpus(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);

	return n < EPT_PREFETCH_THREADS ? (unsigned)n : EPT_PREFETCH_THREADS;
}

/* Is there a window larger than an extent? */
static bool has_rests(const struct ept_space *space)
{
	return space->config.huge != EPT_HUGE_NEVER && !space->config.memory_limit &&
	       !space->prefetch.noted && !space->prefetch.all;
}

int ept_prefetch_init(struct ept_space *space)
{
	struct ept_prefetch *p = &space->prefetch;
	int err = ept_notes_init(space);

	p->rest = p->rest && has_rests(space);
	if (p->set || p->all || p->rest)
		p->cpus = count_cpus();
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->idle, NULL);
	ept_rests_init(&p->rests);
	return err;
}

void ept_prefetch_forked(struct ept_space *space)
{
	struct ept_prefetch *p = &space->prefetch;

	p->running = p->working = 0;
	p->rest = false; /* what is copied often has no more threads than it needs */
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->idle, NULL);
	ept_rests_init(&p->rests);
	/* It records nothing: who does is asked for each page by itself. */
	ept_prefetch_free(space);
}

int ept_prefetch_start(struct ept_space *space)
{
	struct ept_prefetch *p = &space->prefetch;
	unsigned wanted;
	int err = 0;

	if ((!p->set && !p->all && !p->rest) || p->stats.done)
		return 0;
	wanted = wanted_threads(space);
	p->working = wanted;
	p->rests.served = p->rest;
	while (p->running < wanted && !err) {
		err = ept_thread_create(&space->config, &p->thread[p->running], prefetch_thread,
					space);
		p->running += !err;
	}
	return err;
}

void ept_prefetch_stop(struct ept_space *space)
{
	struct ept_prefetch *p = &space->prefetch;

	ept_prefetch_cancel(space);
	if (p->running)
		ept_rests_stop(&p->rests);
	while (p->running)
		pthread_join(p->thread[--p->running], NULL);
}

/* False: it has not ended in EPT_LOOK_NS. */
static bool wait_for_a_look(struct ept_prefetch *p)
{
	struct timespec until;
	bool ended;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += EPT_LOOK_NS % 1000000000;
	until.tv_sec += (time_t)(EPT_LOOK_NS / 1000000000) + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&p->lock);
	while (p->working && !pthread_cond_clockwait(&p->idle, &p->lock, CLOCK_MONOTONIC, &until))
		;
	ended = !p->working;
	pthread_mutex_unlock(&p->lock);
	return ended;
}

/* Grows with what was brought, and with each portion of which there was nothing to bring. */
static uint64_t progress(const struct ept_prefetch *p)
{
	return __atomic_load_n(&p->stats.brought, __ATOMIC_RELAXED) +
	       __atomic_load_n(&p->next, __ATOMIC_RELAXED);
}

int ept_space_prefetch_wait(struct ept_space *space, unsigned seconds)
{
	struct ept_prefetch *p = &space->prefetch;
	uint64_t idle = 0, last = progress(p), now;

	while (!wait_for_a_look(p)) {
		now = progress(p);
		idle = now == last ? idle + EPT_LOOK_NS : 0;
		last = now;
		if (seconds && idle >= seconds * 1000000000ULL)
			return -ETIMEDOUT;
	}
	return __atomic_load_n(&p->error, __ATOMIC_RELAXED);
}

void ept_prefetch_free(struct ept_space *space)
{
	free(space->prefetch.noted);
	space->prefetch.noted = NULL;
	space->prefetch.max = 0;
}

/* Pages of the set that somebody has begun with. */
static uint64_t begun(const struct ept_space *space)
{
	const struct ept_prefetch *p = &space->prefetch;
	uint64_t next = __atomic_load_n(&p->next, __ATOMIC_RELAXED);

	if (!p->set || p->all)
		return 0;
	if (!by_leaves(space))
		next *= EPT_SET_CHUNK;
	return next < p->set->count ? next : p->set->count;
}

/* A page of an area, whatever the set says. */
static bool is_there(const struct ept_space *space, uint64_t gpa)
{
	const struct ept_leaf *leaf = ept_mirror_find(&space->mirror, GPA(gpa));

	return leaf && !(gpa & ~EPT_PAGE_MASK) && ept_area_find(space, gpa) &&
	       ept_pte_get(leaf, ept_leaf_index(GPA(gpa))) == EPT_PTE_PRIVATE;
}

bool ept_prefetch_there(const struct ept_space *space, uint64_t *at, gpa_t *gpa, uint64_t *bytes)
{
	const struct ept_working_set *set = space->prefetch.set;
	uint64_t i = *at, end, limit = begun(space);

	while (i < limit && !is_there(space, set->gpa[i]))
		i++;
	end = i;
	while (end < limit && end - i < EPT_TABLE_SIZE &&
	       set->gpa[end] == set->gpa[i] + ((end - i) << EPT_PAGE_SHIFT) &&
	       is_there(space, set->gpa[end]))
		end++;
	*at = end;
	if (end == i)
		return false;
	*gpa = GPA(set->gpa[i]);
	*bytes = (end - i) << EPT_PAGE_SHIFT;
	return true;
}

void ept_prefetch_stats(const struct ept_space *space, struct ept_prefetch_stats *out)
{
	const struct ept_prefetch *p = &space->prefetch;

	/* First: then the rest is final. */
	out->done = __atomic_load_n(&p->stats.done, __ATOMIC_ACQUIRE);
	out->wanted = __atomic_load_n(&p->stats.wanted, __ATOMIC_RELAXED);
	out->brought = __atomic_load_n(&p->stats.brought, __ATOMIC_RELAXED);
	out->windows = __atomic_load_n(&p->rests.windows, __ATOMIC_ACQUIRE); /* with their pages */
	out->behind = __atomic_load_n(&p->rests.pages, __ATOMIC_RELAXED);
}
