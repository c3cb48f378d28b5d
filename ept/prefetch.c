/*
 * Bringing in what is not asked for yet. Each thread takes the next chunk, reads it in one
 * piece, checks it, and puts it in; so one reads while the other puts in. A chunk of the
 * working set lies as the guest asked for it, so it finds there what it asks for next.
 */
#include "ept/prefetch.h"

#include "ept/space.h"
#include "ept/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>

#define CHUNK_BYTES (EPT_SET_CHUNK << EPT_PAGE_SHIFT)
#define AHEAD	    4 /* chunks that the host is told of */

int ept_space_prefetch(struct ept_space *space, const struct ept_working_set *set)
{
	struct ept_prefetch *p = &space->prefetch;

	if (space->life != EPT_LIFE_NEW || p->set)
		return -EINVAL;
	p->set = set;
	p->stats.wanted = set->count;
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

static void put_chunk(struct ept_space *space, uint64_t chunk, uint64_t pages, const char *bytes)
{
	struct ept_prefetch *p = &space->prefetch;
	unsigned put = 0;

	ept_work_begin(space);
	if (!cancelled(space) && ept_reclaim_has_room(space, (unsigned)EPT_SET_CHUNK))
		put = ept_snap_put(space, p->set->gpa + chunk * EPT_SET_CHUNK, bytes,
				   (unsigned)pages);
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

static void *prefetch_thread(void *arg)
{
	struct ept_space *space = arg;
	struct ept_prefetch *p = &space->prefetch;
	char *buf;

	ept_thread_begins(&space->config, "foal-prefetch", "prefetch");
	buf = aligned_alloc(EPT_PAGE_SIZE, CHUNK_BYTES);
	if (buf) /* else: as if there were no set */
		bring_set(space, buf);
	free(buf);
	if (__atomic_sub_fetch(&p->working, 1, __ATOMIC_ACQ_REL) == 0)
		__atomic_store_n(&p->stats.done, true, __ATOMIC_RELEASE);
	return NULL;
}

static unsigned wanted_threads(const struct ept_prefetch *p)
{
	cpu_set_t cpus;
	uint64_t n = ept_set_chunks(p->set->count);

	if (n > EPT_PREFETCH_THREADS)
		n = EPT_PREFETCH_THREADS;
	return n > 1 && sched_getaffinity(0, sizeof(cpus), &cpus) == 0 && CPU_COUNT(&cpus) < (int)n
		   ? 1
		   : (unsigned)n;
}

int ept_prefetch_start(struct ept_space *space)
{
	struct ept_prefetch *p = &space->prefetch;
	unsigned wanted;
	int err = 0;

	if (!p->set || p->stats.done)
		return 0;
	wanted = wanted_threads(p);
	p->working = wanted;
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
	while (p->running)
		pthread_join(p->thread[--p->running], NULL);
}

void ept_prefetch_free(struct ept_space *space)
{
	free(space->prefetch.noted);
}

void ept_prefetch_stats(const struct ept_space *space, struct ept_prefetch_stats *out)
{
	const struct ept_prefetch *p = &space->prefetch;

	/* First: then the rest is final. */
	out->done = __atomic_load_n(&p->stats.done, __ATOMIC_ACQUIRE);
	out->wanted = __atomic_load_n(&p->stats.wanted, __ATOMIC_RELAXED);
	out->brought = __atomic_load_n(&p->stats.brought, __ATOMIC_RELAXED);
}
