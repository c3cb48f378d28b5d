#include "ept/watch.h"

#include "ept/space.h"

#include <errno.h>

static const char *const waits[] = {
#define X(id, what) [EPT_WAIT_##id] = what,
    EPT_WAITS(X)
#undef X
};

void ept_watch_begin(struct ept_space *space, struct ept_pending *pending)
{
	pending->waited = 0;
	pthread_mutex_lock(&space->watch_lock);
	pending->next = space->pending;
	pending->link = &space->pending;
	if (pending->next)
		pending->next->link = &pending->next;
	space->pending = pending;
	pthread_mutex_unlock(&space->watch_lock);
}

void ept_watch_end(struct ept_space *space, struct ept_pending *pending)
{
	pthread_mutex_lock(&space->watch_lock);
	*pending->link = pending->next;
	if (pending->next)
		pending->next->link = pending->link;
	pthread_mutex_unlock(&space->watch_lock);
}

uint64_t ept_watched(uint64_t *looked, uint64_t now)
{
	uint64_t passed = now - *looked;

	*looked = now;
	return passed < EPT_LOOK_NS ? passed : EPT_LOOK_NS;
}

/* The fault that is longest under way, copied: it may end any moment. */
static bool oldest(struct ept_space *space, struct ept_pending *out)
{
	const struct ept_pending *found = NULL;
	uint64_t now, passed;

	pthread_mutex_lock(&space->watch_lock);
	now = ept_now();
	passed = ept_watched(&space->watch_looked, now);
	for (struct ept_pending *p = space->pending; p; p = p->next) {
		uint64_t age = now > p->since ? now - p->since : 0;

		p->waited += age < passed ? age : passed;
		if (!found || p->since < found->since)
			found = p;
	}
	if (found) {
		out->area = found->area;
		out->gpa = found->gpa;
		out->origin = found->origin;
		out->waited = found->waited;
		out->kase = __atomic_load_n(&found->kase, __ATOMIC_RELAXED);
		out->wait = __atomic_load_n(&found->wait, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&space->watch_lock);
	return found;
}

static void look_for_hung_faults(struct ept_space *space)
{
	unsigned limit = space->config.fault_timeout;
	struct ept_pending hung;
	char where[256];

	if (!limit || !oldest(space, &hung) || hung.waited < limit * 1000000000UL)
		return;
	ept_describe(space, hung.gpa, where, sizeof(where));
	ept_space_fail(space, hung.kase, hung.gpa, -ETIMEDOUT,
		       "%s: the fault at gpa 0x%lx, %s (%s, %s), is not resolved after %u s: it "
		       "waits for %s; mend that, or give a longer --fault-timeout",
		       space->name, (unsigned long)hung.gpa.v, where, ept_case_name(hung.kase),
		       ept_origin_name(hung.origin), limit, waits[hung.wait]);
}

void ept_watch_look(struct ept_space *space)
{
	int dead = ept_fault_threads_dead(space);

	if (dead >= 0)
		ept_space_fail(space, EPT_CASE_DYING, GPA(0), -ESRCH,
			       "%s: fault thread %d has ended, and with it what it resolved; this "
			       "is a bug",
			       space->name, dead);
	look_for_hung_faults(space);
}
