/*
 * The limit, who waits for it, and the thread that holds it.
 *
 *   limit   what the user gave
 *   hard    a fault that would go above it waits; so far below the limit that all
 *           fault threads may bring a window in at once after they have looked
 *   high    reclaim starts
 *   low     and ends
 */
#include "ept/reclaim.h"

#include "ept/space.h"
#include "ept/stats.h"
#include "ept/thread.h"
#include "ept/uffd_compat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MIN_RING   64UL
#define RING_SHARE 32  /* of the limit; docs/reclaim.md says why */
#define MAX_WINDOW 64U /* what a stream reads with a miss */
#define NS_PER_S   1000000000UL
#define REST_NS	   10000000UL /* between rounds that can do nothing for who waits */

/* --- what is resident ------------------------------------------------------------ */

uint64_t ept_reclaim_charge(const struct ept_space *space)
{
	const struct ept_reclaim *r = &space->reclaim;
	uint64_t pages = __atomic_load_n(&r->own, __ATOMIC_RELAXED);

	for (size_t i = 0; i < r->nr_objects; i++)
		pages += __atomic_load_n(&r->objects[i]->nr_cached, __ATOMIC_RELAXED) +
			 __atomic_load_n(&r->objects[i]->nr_coming, __ATOMIC_RELAXED);
	return pages + (__atomic_load_n(&r->pool.bytes, __ATOMIC_RELAXED) >> EPT_PAGE_SHIFT);
}

void ept_reclaim_note(struct ept_space *space)
{
	struct ept_reclaim *r = &space->reclaim;
	uint64_t pages = ept_reclaim_charge(space);
	uint64_t peak = __atomic_load_n(&r->peak, __ATOMIC_RELAXED);

	while (pages > peak && !__atomic_compare_exchange_n(&r->peak, &peak, pages, true,
							    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

bool ept_reclaim_stats(const struct ept_space *space, struct ept_reclaim_stats *out)
{
	const struct ept_reclaim *r = &space->reclaim;

	*out = (struct ept_reclaim_stats){0};
	if (!r->limit)
		return false;
#define X(field, name, unit) out->field = __atomic_load_n(&r->counts.field, __ATOMIC_RELAXED);
	EPT_RECLAIM_COUNTERS(X)
#undef X
	out->limit = r->limit << EPT_PAGE_SHIFT;
	out->resident = ept_reclaim_charge(space) << EPT_PAGE_SHIFT;
	out->peak = __atomic_load_n(&r->peak, __ATOMIC_RELAXED) << EPT_PAGE_SHIFT;
	out->pool = __atomic_load_n(&r->pool.bytes, __ATOMIC_RELAXED);
	out->swapped = __atomic_load_n(&r->swap.pages, __ATOMIC_RELAXED) << EPT_PAGE_SHIFT;
	out->swap_used = __atomic_load_n(&r->swap.used, __ATOMIC_RELAXED) * EPT_SWAP_BLOCK;
	out->swap_error = __atomic_load_n(&r->swap.error, __ATOMIC_RELAXED);
	return true;
}

static bool manual(const struct ept_reclaim *r)
{
	return __atomic_load_n(&r->manual, __ATOMIC_RELAXED);
}

/* --- the thread ------------------------------------------------------------------------- */

static void *reclaim_thread(void *arg)
{
	struct ept_space *space = arg;
	struct ept_reclaim *r = &space->reclaim;

	ept_thread_begins(&space->config, "foal-reclaim", "reclaim");
	for (;;) {
		pthread_mutex_lock(&r->lock);
		while ((!r->wanted || manual(r)) && !r->stop)
			pthread_cond_wait(&r->need, &r->lock);
		__atomic_store_n(&r->wanted, false, __ATOMIC_RELAXED);
		pthread_mutex_unlock(&r->lock);
		if (__atomic_load_n(&r->stop, __ATOMIC_RELAXED))
			return NULL;
		ept_work_begin(space);
		ept_reclaim_round(space);
		ept_work_end(space);
	}
}

static void call_reclaim(struct ept_reclaim *r)
{
	if (__atomic_load_n(&r->wanted, __ATOMIC_RELAXED))
		return;
	pthread_mutex_lock(&r->lock);
	__atomic_store_n(&r->wanted, true, __ATOMIC_RELAXED);
	pthread_cond_signal(&r->need);
	pthread_mutex_unlock(&r->lock);
}

/* --- who waits ----------------------------------------------------------------------------- */

bool ept_reclaim_admit(struct ept_space *space, unsigned pages)
{
	struct ept_reclaim *r = &space->reclaim;
	uint64_t after = ept_reclaim_charge(space) + pages;

	if (ept_failed(space))
		return true;
	if (after > r->high && after > __atomic_load_n(&r->again, __ATOMIC_RELAXED))
		call_reclaim(r);
	return after <= r->hard;
}

bool ept_reclaim_has_room(const struct ept_space *space, unsigned pages)
{
	const struct ept_reclaim *r = &space->reclaim;

	return !r->limit || ept_reclaim_charge(space) + pages <= r->high;
}

bool ept_reclaim_is_free(const struct ept_space *space, unsigned pages)
{
	return ept_reclaim_charge(space) + pages <= space->reclaim.low;
}

bool ept_reclaim_fills(const struct ept_space *space, unsigned pages)
{
	const struct ept_reclaim *r = &space->reclaim;
	uint64_t used = __atomic_load_n(&r->unasked.used, __ATOMIC_RELAXED);
	uint64_t unused = __atomic_load_n(&r->unasked.unused, __ATOMIC_RELAXED);

	if (ept_reclaim_is_free(space, pages))
		return true;
	return used + unused < r->ring.size / 4 || used * 7 >= unused;
}

static int cannot_hold(struct ept_space *space, gpa_t gpa)
{
	const struct ept_reclaim *r = &space->reclaim;
	int error = __atomic_load_n(&r->swap.error, __ATOMIC_RELAXED);
	unsigned long mib = r->limit >> (20 - EPT_PAGE_SHIFT);
	unsigned long in_swap = (r->swap.blocks * EPT_SWAP_BLOCK + (1UL << 20) - 1) >> 20;

	if (r->swap.fd < 0)
		ept_space_fail(space, EPT_CASE_NO_MEMORY, gpa, -ENOMEM,
			       "%s: the memory limit of %lu MiB cannot be held: what is left is no "
			       "page of a file; give a swap file, or a higher limit",
			       space->name, mib);
	else if (error)
		ept_space_fail(space, EPT_CASE_NO_MEMORY, gpa, -ENOMEM,
			       "%s: the memory limit of %lu MiB cannot be held: swap file %s: %s; "
			       "mend that and start the VM again",
			       space->name, mib, r->swap.name, strerrordesc_np(-error));
	else
		ept_space_fail(space, EPT_CASE_NO_MEMORY, gpa, -ENOMEM,
			       "%s: the memory limit of %lu MiB cannot be held: swap file %s is "
			       "full; give it more than %lu MiB, or a higher limit",
			       space->name, mib, r->swap.name, in_swap);
	return -ENOMEM;
}

/* `lock` is held; let go of while it sleeps. @rests: for a moment, without asking for a round. */
static void sleep_until_freed(struct ept_reclaim *r, bool rests)
{
	uint64_t until = ept_now() + REST_NS;
	struct timespec at = {.tv_sec = (time_t)(until / NS_PER_S),
			      .tv_nsec = (long)(until % NS_PER_S)};

	if (rests) {
		pthread_cond_clockwait(&r->freed, &r->lock, CLOCK_MONOTONIC, &at);
		return;
	}
	__atomic_store_n(&r->wanted, true, __ATOMIC_RELAXED);
	__atomic_store_n(&r->pressed, true, __ATOMIC_RELAXED);
	pthread_cond_signal(&r->need);
	pthread_cond_wait(&r->freed, &r->lock);
}

/*
 * `lock` is held. False: it cannot be had. A round that began after the fault came is the second
 * that ends from then on.
 */
static bool wait_for_room(struct ept_space *space, unsigned pages)
{
	struct ept_reclaim *r = &space->reclaim;
	uint64_t seen = r->gave_up, last = seen + 2;
	bool rests = false;

	while (!r->stop) {
		sleep_until_freed(r, rests);
		if (ept_failed(space) || ept_reclaim_charge(space) + pages <= r->hard)
			return true;
		/* Once the child has what it shares, or is gone, it can: rounds from then on. */
		rests = __atomic_load_n(&r->forks, __ATOMIC_ACQUIRE) && r->gave_up != seen;
		seen = r->gave_up;
		if (__atomic_load_n(&r->forks, __ATOMIC_ACQUIRE))
			last = seen + 2;
		if (seen >= last)
			return false;
	}
	return true;
}

int ept_reclaim_wait(struct ept_space *space, gpa_t gpa, unsigned pages)
{
	struct ept_reclaim *r = &space->reclaim;
	bool enough;

	ept_reclaim_count(r, waits, 1);
	if (manual(r)) {
		__atomic_store_n(&r->pressed, true, __ATOMIC_RELAXED);
		ept_reclaim_round(space);
		enough = ept_reclaim_charge(space) + pages <= r->hard;
	} else {
		pthread_mutex_lock(&r->lock);
		enough = wait_for_room(space, pages);
		pthread_mutex_unlock(&r->lock);
	}
	return enough ? 0 : cannot_hold(space, gpa);
}

/* --- life ------------------------------------------------------------------------------------ */

static unsigned largest_window(const struct ept_config *config, uint64_t limit)
{
	unsigned threads =
	    config->vcpus < EPT_MAX_FAULT_THREADS ? config->vcpus : EPT_MAX_FAULT_THREADS;
	unsigned window = MAX_WINDOW;

	while (window > 1 && (uint64_t)window * threads > limit / 256)
		window /= 2;
	return window;
}

static void set_marks(struct ept_reclaim *r, const struct ept_config *config)
{
	unsigned threads =
	    config->vcpus < EPT_MAX_FAULT_THREADS ? config->vcpus : EPT_MAX_FAULT_THREADS;

	r->limit = config->memory_limit >> EPT_PAGE_SHIFT;
	r->window = largest_window(config, r->limit);
	r->hard = r->limit - (uint64_t)threads * r->window - EPT_RECLAIM_BATCH;
	r->high = r->hard - r->hard / 64;
	r->low = r->hard - r->hard / 32;
	r->ring.size = r->limit / RING_SHARE > MIN_RING ? r->limit / RING_SHARE : MIN_RING;
}

int ept_reclaim_init(struct ept_space *space)
{
	const struct ept_config *config = &space->config;
	struct ept_reclaim *r = &space->reclaim;
	int err;

	pthread_mutex_init(&r->room, NULL);
	pthread_mutex_init(&r->work, NULL);
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->need, NULL);
	pthread_cond_init(&r->freed, NULL);
	r->swap.fd = -1;
	if (!config->memory_limit)
		return 0;
	if (config->memory_limit < EPT_LIMIT_FLOOR || config->engine == EPT_ENGINE_KERNEL ||
	    config->huge == EPT_HUGE_ALWAYS)
		return -EINVAL;
	space->config.huge = EPT_HUGE_NEVER; /* what is reclaimed is 4 KiB */
	set_marks(r, config);
	r->ring.gpa = calloc(r->ring.size, sizeof(*r->ring.gpa));
	if (!r->ring.gpa)
		return -ENOMEM;
	if (!config->swap)
		return 0;
	r->writer = ept_writer_new();
	err = ept_pool_init(&r->pool, config->memory_limit / 4);
	if (!err && !r->writer)
		err = -ENOMEM;
	return err ? err : ept_swap_open(&r->swap, config->swap);
}

void ept_reclaim_free(struct ept_space *space)
{
	struct ept_reclaim *r = &space->reclaim;

	if (r->ring.base)
		munmap(r->ring.base, r->ring.size << EPT_PAGE_SHIFT);
	free(r->ring.gpa);
	free(r->objects);
	free(r->writer);
	ept_pool_free(&r->pool);
	ept_swap_close(&r->swap);
	pthread_cond_destroy(&r->freed);
	pthread_cond_destroy(&r->need);
	pthread_mutex_destroy(&r->lock);
	pthread_mutex_destroy(&r->work);
	pthread_mutex_destroy(&r->room);
}

static int list_objects(struct ept_space *space)
{
	struct ept_reclaim *r = &space->reclaim;

	r->objects = calloc(space->nr_areas, sizeof(struct ept_object *));
	if (!r->objects)
		return -ENOMEM;
	for (size_t i = 0; i < space->nr_areas; i++) {
		struct ept_object *obj = space->areas[i]->obj;
		size_t n = 0;

		while (n < r->nr_objects && r->objects[n] != obj)
			n++;
		if (obj && n == r->nr_objects)
			r->objects[r->nr_objects++] = obj;
	}
	return 0;
}

/* Pages that are moved out lie here; a touch of an empty slot would be an event of nobody's. */
static int map_holding_area(struct ept_space *space)
{
	struct ept_reclaim *r = &space->reclaim;
	size_t size = r->ring.size << EPT_PAGE_SHIFT;
	char *base;

	if (!(space->installer.features & UFFD_FEATURE_MOVE))
		return 0;
	base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		    -1, 0);
	if (base == MAP_FAILED)
		return -ENOMEM;
	r->ring.base = base;
	ept_install_advise(base, size, true);
	return ept_install_register(&space->installer, base, size, EPT_BACKING_ANON);
}

int ept_reclaim_start(struct ept_space *space)
{
	struct ept_reclaim *r = &space->reclaim;
	int err;

	if (!r->limit)
		return 0;
	err = r->objects ? 0 : list_objects(space);
	if (!err && !r->ring.base)
		err = map_holding_area(space);
	if (!err)
		err = ept_thread_create(&space->config, &r->thread, reclaim_thread, space);
	r->has_thread = !err;
	return err;
}

void ept_reclaim_stop(struct ept_space *space)
{
	struct ept_reclaim *r = &space->reclaim;

	pthread_mutex_lock(&r->lock);
	__atomic_store_n(&r->stop, true, __ATOMIC_RELAXED);
	pthread_cond_broadcast(&r->need);
	pthread_cond_broadcast(&r->freed);
	pthread_mutex_unlock(&r->lock);
	if (r->has_thread)
		pthread_join(r->thread, NULL);
	r->has_thread = false;
}
