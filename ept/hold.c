/*
 * Holding a space: nothing of it moves until it is released.
 *
 * First the faults: new ones wait at the gate (ept_watch_begin()), those under way
 * end, for which they may need the reader and reclaim. Then the space's other threads:
 * each does its work in portions, and begins none while the space is held.
 */
#include "ept/hold.h"

#include "ept/space.h"

#include <errno.h>
#include <time.h>

static bool passes(const struct ept_space *space)
{
	return !space->held || ept_dying(space) || pthread_equal(space->holder, pthread_self());
}

void ept_hold_gate(struct ept_space *space)
{
	while (!passes(space))
		pthread_cond_wait(&space->released, &space->watch_lock);
}

void ept_hold_passed(struct ept_space *space)
{
	if (space->held)
		pthread_cond_broadcast(&space->idle);
}

void ept_work_begin(struct ept_space *space)
{
	pthread_mutex_lock(&space->watch_lock);
	while (space->held == EPT_HELD_ALL && !passes(space))
		pthread_cond_wait(&space->released, &space->watch_lock);
	space->working++;
	pthread_mutex_unlock(&space->watch_lock);
}

void ept_work_end(struct ept_space *space)
{
	pthread_mutex_lock(&space->watch_lock);
	space->working--;
	ept_hold_passed(space);
	pthread_mutex_unlock(&space->watch_lock);
}

bool ept_held(struct ept_space *space)
{
	return __atomic_load_n(&space->held, __ATOMIC_RELAXED) == EPT_HELD_ALL;
}

bool ept_hold_is_mine(struct ept_space *space)
{
	bool mine;

	pthread_mutex_lock(&space->watch_lock);
	mine = space->held == EPT_HELD_ALL && pthread_equal(space->holder, pthread_self());
	pthread_mutex_unlock(&space->watch_lock);
	return mine;
}

static void set_held(struct ept_space *space, enum ept_held held)
{
	__atomic_store_n(&space->held, held, __ATOMIC_RELAXED);
	if (!held)
		pthread_cond_broadcast(&space->released);
}

/* Is it this one that keeps the space from being held? The lock is held. */
static bool busy(const struct ept_space *space)
{
	return space->held == EPT_HELD_FAULTS ? space->pending != NULL : space->working > 0;
}

/* From one step to the next, once nothing of it is under way. The lock is held. */
static int step(struct ept_space *space, enum ept_held held, const struct timespec *until)
{
	int err = 0;

	set_held(space, held);
	while (busy(space) && !err && !ept_dying(space))
		err = -pthread_cond_clockwait(&space->idle, &space->watch_lock, CLOCK_MONOTONIC,
					      until);
	if (!busy(space))
		err = 0;
	return ept_dying(space) ? -ESHUTDOWN : err;
}

static struct timespec after_ms(unsigned ms)
{
	struct timespec ts;
	uint64_t ns = ept_now() + ms * 1000000UL;

	ts.tv_sec = (time_t)(ns / 1000000000U);
	ts.tv_nsec = (long)(ns % 1000000000U);
	return ts;
}

int ept_space_hold(struct ept_space *space, unsigned timeout_ms)
{
	struct timespec until = after_ms(timeout_ms);
	int err = -EBUSY;

	pthread_mutex_lock(&space->watch_lock);
	if (!space->held) {
		space->holder = pthread_self();
		err = __atomic_load_n(&space->life, __ATOMIC_ACQUIRE) == EPT_LIFE_STARTED
			  ? step(space, EPT_HELD_FAULTS, &until)
			  : -ESHUTDOWN;
		if (!err)
			err = step(space, EPT_HELD_ALL, &until);
		if (err)
			set_held(space, EPT_HELD_NOT);
	}
	pthread_mutex_unlock(&space->watch_lock);
	if (err)
		return err;
	err = ept_reader_hold(space->reader, &until);
	if (err)
		ept_space_release(space);
	return err;
}

void ept_space_release(struct ept_space *space)
{
	ept_reader_release(space->reader);
	pthread_mutex_lock(&space->watch_lock);
	if (space->held && pthread_equal(space->holder, pthread_self()))
		set_held(space, EPT_HELD_NOT);
	pthread_mutex_unlock(&space->watch_lock);
}

void ept_hold_break(struct ept_space *space)
{
	pthread_mutex_lock(&space->watch_lock);
	pthread_cond_broadcast(&space->released);
	pthread_cond_broadcast(&space->idle);
	pthread_mutex_unlock(&space->watch_lock);
}
