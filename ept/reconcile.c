/*
 * The books of the faults: what was read from userfaultfd, and what the cases counted, of one
 * instant. They are counters of different places: events are counted where they are read, cases
 * where a fault ends, and `ended` where the fault thread is done with it. Between the last two
 * the books do not close, so whoever is about to count says so in `ending`.
 */
#include "ept/space.h"
#include "ept/stats.h"

#include <sched.h>

/* Looks until nothing moved in between; each takes a microsecond or two. */
#define LOOKS 1000

/* All loads acquire: what is read behind them, to see whether anything moved, is later. */
static void add_ledger(const struct ept_ledger *ledger, struct ept_reconciliation *r)
{
	for (int c = 0; c < EPT_NR_CASES; c++) {
		const struct ept_case_stats *stats =
		    __atomic_load_n(&ledger->cases[c], __ATOMIC_ACQUIRE);

		for (int o = 0; stats && o < EPT_NR_ORIGINS; o++) {
			uint64_t n = __atomic_load_n(&stats->by_origin[o], __ATOMIC_ACQUIRE);

			r->counted[o] += n;
			r->cases[c] += ept_origin_has_events((enum ept_origin)o) ? n : 0;
		}
	}
}

/* What a vCPU came with as an exit of KVM is in the cases, and was no event. */
static void take_exits(const struct ept_space *space, struct ept_reconciliation *r)
{
	for (int c = 0; c < EPT_NR_CASES; c++)
		r->cases[c] -= __atomic_load_n(&space->strays[c], __ATOMIC_ACQUIRE);
	r->counted[EPT_ORIGIN_VCPU] -= r->exits;
}

/* False: somebody has begun to count a fault, and is not done. */
static bool read_ends(const struct ept_space *space, struct ept_reconciliation *r)
{
	uint64_t done = 0;

	for (int o = 0; o < EPT_NR_ORIGINS; o++) {
		uint64_t ended = __atomic_load_n(&space->ended[o], __ATOMIC_ACQUIRE);

		done += ended;
		r->events[o] = __atomic_load_n(&space->events[o], __ATOMIC_ACQUIRE);
		r->in_flight[o] = r->events[o] - ended;
	}
	r->exits = 0;
	for (int c = 0; c < EPT_NR_CASES; c++)
		r->exits += __atomic_load_n(&space->strays[c], __ATOMIC_ACQUIRE);
	return __atomic_load_n(&space->ending, __ATOMIC_ACQUIRE) <= done + r->exits;
}

static bool look(const struct ept_space *space, struct ept_reconciliation *r)
{
	*r = (struct ept_reconciliation){0};
	bool still = read_ends(space, r);

	for (size_t i = 0; i < space->nr_areas; i++)
		add_ledger(&space->areas[i]->ledger, r);
	add_ledger(&space->stray, r);
	take_exits(space, r);
	return still;
}

/* Did an event come, or end, since? */
static bool moved(const struct ept_space *space, const struct ept_reconciliation *r)
{
	struct ept_reconciliation now = {0};

	if (!read_ends(space, &now))
		return true;
	for (int o = 0; o < EPT_NR_ORIGINS; o++)
		if (now.events[o] != r->events[o] || now.in_flight[o] != r->in_flight[o])
			return true;
	return now.exits != r->exits;
}

int64_t ept_reconciliation_open(const struct ept_reconciliation *r, enum ept_origin origin)
{
	if (!ept_origin_has_events(origin))
		return 0;
	return (int64_t)(r->events[origin] - r->in_flight[origin] - r->counted[origin]);
}

/* Who was about to count may wait for this CPU. */
void ept_space_reconcile(const struct ept_space *space, struct ept_reconciliation *out)
{
	for (int i = 0; i < LOOKS; i++) {
		out->settled = look(space, out) && !moved(space, out);
		if (out->settled)
			return;
		sched_yield();
	}
}
