#include "ept/debt.h"
#include "ept/space.h"
#include "ept/stats.h"

#include <string.h>

/* What a bucket is wide at the least: 1024 ns. */
#define UNIT_SHIFT 10
#define ONE_FAULT  (1UL << 32)

static unsigned bucket_at(const struct ept_debt *debt, uint64_t now)
{
	uint64_t since = __atomic_load_n(&debt->since, __ATOMIC_RELAXED);
	unsigned i = now > since ? ept_log_bucket((now - since) >> UNIT_SHIFT) : 0;

	return i < EPT_DEBT_BUCKETS ? i : EPT_DEBT_BUCKETS - 1;
}

/* The last ns that falls into it. */
static uint64_t bucket_end(unsigned i)
{
	return ((ept_log_bucket_top(i) + 1) << UNIT_SHIFT) - 1;
}

void ept_debt_note(struct ept_debt *debt, uint64_t now, uint64_t pages, unsigned faults)
{
	if (!__atomic_load_n(&debt->noted, __ATOMIC_RELAXED))
		__atomic_store_n(&debt->noted, true, __ATOMIC_RELAXED);
	__atomic_fetch_add(&debt->bucket[bucket_at(debt, now)], pages + faults * ONE_FAULT,
			   __ATOMIC_RELAXED);
}

/* Does it bring a page that was not the guest's before? */
static bool brings_in(enum ept_case kase)
{
	switch (kase) {
	case EPT_CASE_ANON_READ:
	case EPT_CASE_ANON_WRITE:
	case EPT_CASE_ANON_HUGE:
	case EPT_CASE_FILE_READ:
	case EPT_CASE_FILE_COW:
	case EPT_CASE_FILE_HUGE:
	case EPT_CASE_SHARED_READ:
	case EPT_CASE_SHARED_WRITE:
	case EPT_CASE_SNAP_READ:
	case EPT_CASE_SNAP_WRITE:
		return true;
	case EPT_CASE_ANON_WP:
	case EPT_CASE_FILE_WP:
	case EPT_CASE_SHARED_MKWRITE:
	case EPT_CASE_HINT_READ:
	case EPT_CASE_HINT_WRITE:
	case EPT_CASE_SWAP_READ:
	case EPT_CASE_SWAP_WRITE:
	case EPT_CASE_SPURIOUS:
	case EPT_CASE_TRANSIT:
	case EPT_CASE_RO_WRITE:
	case EPT_CASE_NO_AREA:
	case EPT_CASE_IO_ERROR:
	case EPT_CASE_IO_POISON:
	case EPT_CASE_NO_MEMORY:
	case EPT_CASE_DYING:
	case EPT_NR_CASES:
		return false;
	}
	return false;
}

void ept_debt_count(struct ept_debt *debt, const struct ept_request *req,
		    const struct ept_resolution *res, uint64_t now)
{
	uint64_t pages = brings_in(res->kase) ? res->installed : 0;
	bool event = req->flags & EPT_FAULT_EVENT;

	if (pages || event)
		ept_debt_note(debt, now, pages, event);
}

void ept_debt_clear(struct ept_debt *debt)
{
	if (debt->noted)
		memset(debt, 0, sizeof(*debt));
	debt->since = ept_now();
}

void ept_space_begins(struct ept_space *space, uint64_t since)
{
	struct ept_debt *debt = &space->debt;
	uint64_t before = 0;

	for (unsigned i = 0; debt->noted && i < EPT_DEBT_BUCKETS; i++)
		before += __atomic_exchange_n(&debt->bucket[i], 0, __ATOMIC_RELAXED);
	__atomic_store_n(&debt->since, since, __ATOMIC_RELAXED);
	if (before)
		__atomic_fetch_add(&debt->bucket[0], before % ONE_FAULT, __ATOMIC_RELAXED);
}

void ept_space_debt(const struct ept_space *space, struct ept_debt_stats *out)
{
	uint64_t now = ept_now(), since = __atomic_load_n(&space->debt.since, __ATOMIC_RELAXED);

	out->ns = now > since ? now - since : 0;
	for (unsigned i = 0; i < EPT_DEBT_BUCKETS; i++)
		out->bucket[i] = __atomic_load_n(&space->debt.bucket[i], __ATOMIC_RELAXED);
}

static void add_bucket(const struct ept_debt_stats *stats, unsigned i, struct ept_debt_point *sum)
{
	sum->pages += stats->bucket[i] % ONE_FAULT;
	sum->faults += stats->bucket[i] / ONE_FAULT;
}

void ept_debt_all(const struct ept_debt_stats *stats, struct ept_debt_point *out)
{
	*out = (struct ept_debt_point){.ns = stats->ns};
	for (unsigned i = 0; i < EPT_DEBT_BUCKETS; i++)
		add_bucket(stats, i, out);
}

void ept_debt_at(const struct ept_debt_stats *stats, unsigned percent, struct ept_debt_point *out)
{
	struct ept_debt_point all;
	uint64_t enough;

	ept_debt_all(stats, &all);
	enough = (all.pages * percent + 99) / 100;
	*out = (struct ept_debt_point){0};
	for (unsigned i = 0; out->pages < enough && i < EPT_DEBT_BUCKETS; i++) {
		add_bucket(stats, i, out);
		out->ns = i ? bucket_end(i) : 0;
	}
	if (out->ns > stats->ns)
		out->ns = stats->ns;
}
