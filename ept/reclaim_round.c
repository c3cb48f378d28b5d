/*
 * One round: from wherever what is resident stands down to the low mark, or until it is plain
 * that it cannot get there.
 *
 * Who waits is above the hard mark, and for him everything is tried. Below it a round is done
 * ahead of need: it ends when it is not worth its while, since what it looks at in vain the guest
 * has to fault for, and the next one is not called before that much more is resident (`again`).
 * Each that fails has half the patience of the one before it, and is followed by twice the growth.
 */
#include "ept/space.h"
#include "ept/stats.h"

/* All pages of the limit may be dealt with so often, and some more, before a round gives up. */
#define PATIENCE(limit) (4 * (limit) + 4096)
#define LEAST_PATIENCE	(4UL * EPT_RECLAIM_BATCH)
/* A page that is freed is worth looking at so many: less than its fault costs, if it comes back. */
#define WORTH		16U
#define MOST_POOR	16U

enum outcome {
	ENOUGH,	   /* the low mark is reached */
	CUT_SHORT, /* by a stop, or by who holds the space */
	POOR,	   /* nobody waits, and it was not worth it */
	GAVE_UP	   /* nothing goes, whatever is tried */
};

/* Of a round, in pages looked at. */
struct effort {
	uint64_t barren; /* since one was freed */
	uint64_t vain;	 /* more than those that were freed are worth */
	unsigned empty;	 /* steps since there was one to look at */
};

/* A round that ends early is asked for again by whoever waits. */
static bool interrupted(struct ept_space *space)
{
	return __atomic_load_n(&space->reclaim.stop, __ATOMIC_RELAXED) || ept_held(space);
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

/* Who has not enough by now says so again. `lock` is held. */
static void tell_waiters(struct ept_reclaim *r)
{
	__atomic_store_n(&r->pressed, false, __ATOMIC_RELAXED);
	pthread_cond_broadcast(&r->freed);
}

static void tell_of_some(struct ept_reclaim *r)
{
	pthread_mutex_lock(&r->lock);
	tell_waiters(r);
	pthread_mutex_unlock(&r->lock);
}

static bool pressed(const struct ept_reclaim *r)
{
	return __atomic_load_n(&r->pressed, __ATOMIC_RELAXED);
}

static uint64_t on_ring(const struct ept_ring *ring)
{
	return ring->head - ring->tail;
}

/*
 * One step: fill the ring, and once it is full take pages off its end. If nothing is left to
 * fill it with, only for who waits: they came just now, and nobody had the time to touch them.
 * Returns how many were freed; *@dealt: how many it looked at.
 */
static uint64_t step(struct ept_space *space, uint64_t *dealt)
{
	struct ept_reclaim *r = &space->reclaim;
	struct ept_sampled s = ept_reclaim_sample(space, EPT_RECLAIM_BATCH);
	uint64_t before, freed;

	*dealt = s.added;
	if (s.dirty && (r->since_sync > r->limit / 4 || !s.added))
		*dealt += write_back(space);
	if ((s.added || !pressed(r)) && on_ring(&r->ring) + EPT_RECLAIM_BATCH <= r->ring.size)
		return s.freed;
	before = on_ring(&r->ring);
	freed = ept_reclaim_evict(space, EPT_RECLAIM_BATCH);
	r->since_sync += before - on_ring(&r->ring);
	*dealt += before - on_ring(&r->ring);
	return freed + s.freed;
}

static void add(struct effort *e, uint64_t dealt, uint64_t freed)
{
	uint64_t worth = WORTH * freed;

	e->empty = dealt || freed ? 0 : e->empty + 1;
	e->barren = freed ? 0 : e->barren + dealt;
	e->vain = e->vain + dealt > worth ? e->vain + dealt - worth : 0;
}

static uint64_t patience_ahead_of_need(struct ept_reclaim *r)
{
	uint64_t looks;

	pthread_mutex_lock(&r->lock);
	looks = PATIENCE(r->limit) >> r->poor;
	pthread_mutex_unlock(&r->lock);
	return looks > LEAST_PATIENCE ? looks : LEAST_PATIENCE;
}

/* `work` is held. @patience: with looks that are not worth it, while nobody waits. */
static enum outcome round_of(struct ept_space *space, uint64_t patience)
{
	struct ept_reclaim *r = &space->reclaim;
	struct effort effort = {0};
	uint64_t dealt, freed;

	while (ept_reclaim_charge(space) > r->low) {
		if (interrupted(space))
			return CUT_SHORT;
		if (r->swap.fd >= 0)
			ept_reclaim_write(space, pool_share(r));
		freed = step(space, &dealt);
		ept_reclaim_count(r, looked, dealt);
		add(&effort, dealt, freed);
		if (freed)
			tell_of_some(r);
		/* Every age runs out within as many visits of the hand. */
		if (effort.empty > EPT_AGE_VISITS + 2 || effort.barren > PATIENCE(r->limit))
			return GAVE_UP;
		if (effort.vain > patience && !pressed(r))
			return POOR;
	}
	return ENOUGH;
}

/* `lock` is held. */
static void from_the_beginning(struct ept_reclaim *r)
{
	r->poor = 0;
	__atomic_store_n(&r->again, 0, __ATOMIC_RELAXED);
}

/* When it is to be called next, if nobody waits. `lock` is held. */
static void back_off(struct ept_reclaim *r, enum outcome outcome, uint64_t charge)
{
	if (outcome == ENOUGH) {
		from_the_beginning(r);
	} else if (outcome != CUT_SHORT) {
		__atomic_store_n(&r->again, charge + ((uint64_t)EPT_RECLAIM_BATCH << r->poor),
				 __ATOMIC_RELAXED);
		r->poor += r->poor < MOST_POOR;
	}
}

void ept_reclaim_eased(struct ept_reclaim *r)
{
	pthread_mutex_lock(&r->lock);
	from_the_beginning(r);
	tell_waiters(r);
	pthread_mutex_unlock(&r->lock);
}

void ept_reclaim_round(struct ept_space *space)
{
	struct ept_reclaim *r = &space->reclaim;
	uint64_t patience = patience_ahead_of_need(r);
	enum outcome outcome;

	pthread_mutex_lock(&r->work);
	ept_reclaim_count(r, rounds, 1);
	outcome = round_of(space, patience);
	pthread_mutex_unlock(&r->work);
	pthread_mutex_lock(&r->lock);
	r->gave_up += outcome == GAVE_UP;
	back_off(r, outcome, ept_reclaim_charge(space));
	tell_waiters(r);
	pthread_mutex_unlock(&r->lock);
}
