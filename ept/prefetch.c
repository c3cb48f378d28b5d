/*
 * Bringing in what is not asked for yet: threads, each of which takes the next portion, so
 * that some read while others put in.
 *
 * A working set's portions are chunks of its file, read in one piece, checked, and put in. They
 * lie as the guest asked for them, so it finds there what it asks for next. What comes by 2 MiB,
 * or is all of memory, is asked for as a guest would ask (prefetch_ask.c).
 */
#include "ept/prefetch.h"

#include "ept/space.h"
#include "ept/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>

#define CHUNK_BYTES  (EPT_SET_CHUNK << EPT_PAGE_SHIFT)
#define AHEAD	     4 /* chunks that the host is told of */
#define FEW	     2 /* pages: cold, as many extents take as long to read as a chunk */

/* That only bring in the rest of windows. */
#define REST_THREADS 2

int ept_space_prefetch(struct ept_space *space, const struct ept_working_set *set)
{
	struct ept_prefetch *p = &space->prefetch;

	if (space->life != EPT_LIFE_NEW || p->set || p->all)
		return -EINVAL;
	p->how = EPT_PREFETCH_SET;
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
	p->how = EPT_PREFETCH_ALL;
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

enum ept_prefetch_how ept_space_prefetch_how(const struct ept_space *space)
{
	return space->prefetch.how;
}

void ept_prefetch_cancel(struct ept_space *space)
{
	__atomic_store_n(&space->prefetch.stop, true, __ATOMIC_RELAXED);
}

bool ept_prefetch_cancelled(const struct ept_space *space)
{
	return __atomic_load_n(&space->prefetch.stop, __ATOMIC_RELAXED) || ept_dying(space);
}

static unsigned put_if_room(struct ept_space *space, const uint64_t *gpa, uint64_t pages,
			    const char *bytes)
{
	if (ept_prefetch_cancelled(space) || !ept_reclaim_has_room(space, (unsigned)EPT_SET_CHUNK))
		return 0;
	return ept_snap_put(space, gpa, bytes, (unsigned)pages);
}

static void put_pages(struct ept_space *space, const uint64_t *gpa, uint64_t pages,
		      const char *bytes)
{
	struct ept_prefetch *p = &space->prefetch;
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

/* Of a chunk this many pages are left, and it is larger than the extents that they lie in. */
static bool few_left(uint64_t pages, uint64_t left)
{
	return left <= FEW && left * EPT_EXTENT_PAGES < pages;
}

static void bring_few(struct ept_space *space, const uint64_t *gpa, uint64_t pages, char *buf)
{
	uint64_t few[FEW];
	unsigned n = ept_prefetch_read_sparse(space, gpa, pages, few, buf);

	put_pages(space, few, n, buf);
}

/* What cannot be read, or is not what was written, is left to who asks for the page. */
static void bring_set(struct ept_space *space, char *buf)
{
	struct ept_prefetch *p = &space->prefetch;
	uint64_t count = p->set->count, chunk, pages, left;

	while (!ept_prefetch_cancelled(space) &&
	       (chunk = __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED)) <
		   ept_set_chunks(count)) {
		const uint64_t *gpa = p->set->gpa + chunk * EPT_SET_CHUNK;

		pages = ept_set_chunk_pages(count, chunk);
		left = pages - ept_prefetch_ask_dense(space, gpa, pages);
		if (!left)
			continue;
		if (ept_prefetch_cancelled(space))
			break;
		if (few_left(pages, left)) {
			bring_few(space, gpa, pages, buf);
			continue;
		}
		/* All of it at once might wait for the disk's queue. */
		posix_fadvise(p->set->fd, (off_t)ept_set_place(p->set, chunk + 1),
			      AHEAD * CHUNK_BYTES, POSIX_FADV_WILLNEED);
		if (!ept_set_read(p->set, chunk, buf))
			put_pages(space, gpa, pages, buf);
	}
}

/* --- the threads --------------------------------------------------------------------------- */

static void bring(struct ept_space *space)
{
	char *buf;

	if (space->prefetch.all) {
		ept_prefetch_ask_all(space);
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
	uint64_t n = p->all ? p->cpus : !p->set ? REST_THREADS : ept_set_chunks(p->set->count);

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

/* Where memory goes in by 2 MiB: how much of each the set has. */
static void count_set(struct ept_space *space)
{
	const struct ept_working_set *set = space->prefetch.set;

	for (uint64_t i = 0; i < set->count; i++) {
		struct ept_leaf *leaf = ept_area_find(space, set->gpa[i])
					    ? ept_mirror_get(&space->mirror, GPA(set->gpa[i]))
					    : NULL;

		if (leaf)
			leaf->in_set++;
	}
}

int ept_prefetch_init(struct ept_space *space)
{
	struct ept_prefetch *p = &space->prefetch;
	int err = ept_notes_init(space);

	p->rest = p->rest && has_rests(space);
	if (p->set && space->config.huge == EPT_HUGE_ALWAYS && space->staging)
		count_set(space);
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

	p->how = EPT_PREFETCH_NONE;
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
	uint64_t next = __atomic_load_n(&p->next, __ATOMIC_RELAXED) * EPT_SET_CHUNK;

	if (!p->set || p->all)
		return 0;
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
