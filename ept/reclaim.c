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

#define MIN_RING	64UL
#define RING_SHARE	32  /* of the limit; docs/reclaim.md says why */
#define MAX_WINDOW	64U /* what a stream reads with a miss */

/* All pages of the limit may be dealt with so often, and some more, before a round gives up. */
#define PATIENCE(limit) (4 * (limit) + 4096)

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

/* --- one round ------------------------------------------------------------------------ */

static bool stopping(const struct ept_reclaim *r)
{
	return __atomic_load_n(&r->stop, __ATOMIC_RELAXED);
}

/* A round that ends early is asked for again by whoever waits. */
static bool interrupted(struct ept_space *space)
{
	return stopping(&space->reclaim) || ept_held(space);
}

/*
 * What the pool may keep: a quarter of the limit where pages shrink to a quarter or
 * less, next to nothing where they stay above a half.
 */
static uint64_t pool_share(const struct ept_reclaim *r)
{
	uint64_t pages = __atomic_load_n(&r->pool.pages, __ATOMIC_RELAXED) << EPT_PAGE_SHIFT;
	uint64_t bytes = __atomic_load_n(&r->pool.images, __ATOMIC_RELAXED);
	uint64_t most = (r->limit << EPT_PAGE_SHIFT) / 4, least = most / 16;

	if (bytes * 2 >= pages)
		return least;
	if (bytes * 4 <= pages)
		return most - least;
	return least + (most - 2 * least) * (pages - 2 * bytes) / (pages / 2);
}

/* Returns how many pages are clean now; an error leaves an area's pages dirty. */
static uint64_t write_back(struct ept_space *space)
{
	uint64_t cleaned = 0;

	space->reclaim.since_sync = 0;
	for (size_t i = 0; i < space->nr_areas; i++) {
		struct ept_area *area = space->areas[i];
		uint64_t dirty = __atomic_load_n(&area->dirty, __ATOMIC_RELAXED);

		if (area->kind != EPT_KIND_SHARED || !ept_handler_engine(area))
			continue;
		ept_reclaim_count(&space->reclaim, syncs, dirty > 0);
		if (!ept_area_sync(
			area)) /* waits for one that is under way, also with nothing to do */
			cleaned += dirty;
	}
	return cleaned;
}

static void tell_waiters(struct ept_reclaim *r)
{
	pthread_mutex_lock(&r->lock);
	pthread_cond_broadcast(&r->freed);
	pthread_mutex_unlock(&r->lock);
}

static uint64_t on_ring(const struct ept_ring *ring)
{
	return ring->head - ring->tail;
}

/*
 * One step: fill the ring, and once it is full, or nothing is left to fill it with,
 * take pages off its end. Returns how many were freed; *@dealt: how many it looked at.
 */
static uint64_t step(struct ept_space *space, uint64_t *dealt)
{
	struct ept_reclaim *r = &space->reclaim;
	struct ept_sampled s = ept_reclaim_sample(space, EPT_RECLAIM_BATCH);
	uint64_t before, freed;

	*dealt = s.added;
	if (s.dirty && (r->since_sync > r->limit / 4 || !s.added))
		*dealt += write_back(space);
	if (s.added && on_ring(&r->ring) + EPT_RECLAIM_BATCH <= r->ring.size)
		return s.freed;
	before = on_ring(&r->ring);
	freed = ept_reclaim_evict(space, EPT_RECLAIM_BATCH);
	r->since_sync += before - on_ring(&r->ring);
	*dealt += before - on_ring(&r->ring);
	return freed + s.freed;
}

/* `work` is held. False: the low mark could not be reached. */
static bool round_of(struct ept_space *space)
{
	struct ept_reclaim *r = &space->reclaim;
	uint64_t barren = 0, empty = 0, dealt, freed;

	while (ept_reclaim_charge(space) > r->low && !interrupted(space)) {
		if (r->swap.fd >= 0)
			ept_reclaim_write(space, pool_share(r));
		freed = step(space, &dealt);
		empty = dealt ? 0 : empty + 1;
		barren = freed ? 0 : barren + dealt;
		if (freed)
			tell_waiters(r);
		/* Every age runs out within as many visits of the hand. */
		if (empty > EPT_AGE_VISITS + 2 || barren > PATIENCE(r->limit))
			return false;
	}
	return true;
}

static void work(struct ept_space *space)
{
	struct ept_reclaim *r = &space->reclaim;
	bool enough;

	pthread_mutex_lock(&r->work);
	enough = round_of(space);
	pthread_mutex_unlock(&r->work);
	pthread_mutex_lock(&r->lock);
	if (!enough)
		r->gave_up++;
	pthread_cond_broadcast(&r->freed);
	pthread_mutex_unlock(&r->lock);
}

/* --- the thread ------------------------------------------------------------------------- */

static void *reclaim_thread(void *arg)
{
	struct ept_space *space = arg;
	struct ept_reclaim *r = &space->reclaim;

	ept_thread_begins(&space->config, "foal-reclaim", "reclaim");
	for (;;) {
		pthread_mutex_lock(&r->lock);
		while (!r->wanted && !r->stop)
			pthread_cond_wait(&r->need, &r->lock);
		__atomic_store_n(&r->wanted, false, __ATOMIC_RELAXED);
		pthread_mutex_unlock(&r->lock);
		if (stopping(r))
			return NULL;
		ept_work_begin(space);
		work(space);
		ept_work_end(space);
	}
}

static void call_reclaim(struct ept_reclaim *r)
{
	if (__atomic_load_n(&r->wanted, __ATOMIC_RELAXED) || r->manual)
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
	if (after > r->high)
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

/* A round that began after the fault came is the second that ends from then on. */
int ept_reclaim_wait(struct ept_space *space, gpa_t gpa, unsigned pages)
{
	struct ept_reclaim *r = &space->reclaim;
	uint64_t last;
	bool enough = false, gave_up = false;

	ept_reclaim_count(r, waits, 1);
	if (r->manual) {
		work(space);
		enough = ept_reclaim_charge(space) + pages <= r->hard;
		return enough ? 0 : cannot_hold(space, gpa);
	}
	pthread_mutex_lock(&r->lock);
	last = r->gave_up + 2;
	while (!enough && !gave_up && !r->stop) {
		__atomic_store_n(&r->wanted, true, __ATOMIC_RELAXED);
		pthread_cond_signal(&r->need);
		pthread_cond_wait(&r->freed, &r->lock);
		enough = ept_failed(space) || ept_reclaim_charge(space) + pages <= r->hard;
		/* Once the child has what it shares, or is gone, it can: rounds from then on. */
		if (__atomic_load_n(&r->forks, __ATOMIC_ACQUIRE))
			last = r->gave_up + 2;
		gave_up = r->gave_up >= last;
	}
	pthread_mutex_unlock(&r->lock);
	return enough || !gave_up ? 0 : cannot_hold(space, gpa);
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
