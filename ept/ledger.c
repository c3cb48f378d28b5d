#include "ept/ledger.h"

#include "ept/space.h"
#include "ept/stats.h"

#include <time.h>

static const char *const case_names[] = {
#define X(id, name, what) [EPT_CASE_##id] = name,
    EPT_CASES(X)
#undef X
};

static const char *const case_whats[] = {
#define X(id, name, what) [EPT_CASE_##id] = what,
    EPT_CASES(X)
#undef X
};

static const char *const origin_names[] = {
#define X(id, name) [EPT_ORIGIN_##id] = name,
    EPT_ORIGINS(X)
#undef X
};

const char *ept_case_name(enum ept_case c)
{
	return (unsigned)c < EPT_NR_CASES ? case_names[c] : "?";
}

const char *ept_case_what(enum ept_case c)
{
	return (unsigned)c < EPT_NR_CASES ? case_whats[c] : "?";
}

const char *ept_origin_name(enum ept_origin o)
{
	return (unsigned)o < EPT_NR_ORIGINS ? origin_names[o] : "?";
}

uint64_t ept_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

/*
 * Log-linear buckets. Values below 16 have one each; above, a power of two is
 * split in 16. The last bucket takes what is longer than it can say (34 s).
 */
#define SUB_BITS 4
#define SUBS	 (1U << SUB_BITS)

unsigned ept_log_bucket(uint64_t value)
{
	unsigned shift;

	if (value < SUBS)
		return (unsigned)value;
	shift = 63 - SUB_BITS - (unsigned)__builtin_clzl(value);
	return (shift << SUB_BITS) + (unsigned)(value >> shift);
}

static unsigned bucket_of(uint64_t ns)
{
	unsigned index = ept_log_bucket(ns);

	return index < EPT_HIST_BUCKETS ? index : EPT_HIST_BUCKETS - 1;
}

uint64_t ept_log_bucket_top(unsigned bucket)
{
	unsigned shift;

	if (bucket < 2 * SUBS)
		return bucket;
	shift = (bucket >> SUB_BITS) - 1;
	return (((uint64_t)(bucket % SUBS + SUBS) + 1) << shift) - 1;
}

void ept_hist_add(struct ept_hist *h, uint64_t ns)
{
	uint64_t max = __atomic_load_n(&h->max, __ATOMIC_RELAXED);

	__atomic_fetch_add(&h->count, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&h->sum, ns, __ATOMIC_RELAXED);
	__atomic_fetch_add(&h->bucket[bucket_of(ns)], 1, __ATOMIC_RELAXED);
	while (ns > max && !__atomic_compare_exchange_n(&h->max, &max, ns, true, __ATOMIC_RELAXED,
							__ATOMIC_RELAXED))
		;
}

uint64_t ept_hist_percentile(const struct ept_hist *h, double percent)
{
	double rank = percent / 100 * (double)h->count;
	uint64_t below = 0;

	if (!h->count)
		return 0;
	for (unsigned i = 0; i < EPT_HIST_BUCKETS; i++) {
		below += h->bucket[i];
		if (below && (double)below >= rank)
			return ept_log_bucket_top(i) < h->max ? ept_log_bucket_top(i) : h->max;
	}
	return h->max;
}

uint64_t ept_hist_top(unsigned bucket)
{
	return ept_log_bucket_top(bucket);
}

uint64_t ept_hist_below(const struct ept_hist *h, unsigned shift)
{
	unsigned end = ept_log_bucket(1UL << shift);
	uint64_t below = 0;

	for (unsigned i = 0; i < end && i < EPT_HIST_BUCKETS; i++)
		below += h->bucket[i];
	return below;
}

static struct ept_case_stats *block(struct ept_ledger *ledger, struct ept_arena *arena,
				    enum ept_case c)
{
	struct ept_case_stats *stats = __atomic_load_n(&ledger->cases[c], __ATOMIC_ACQUIRE);
	struct ept_case_stats *fresh;

	if (stats)
		return stats;
	fresh = ept_arena_alloc(arena, sizeof(*fresh));
	if (!fresh || __atomic_compare_exchange_n(&ledger->cases[c], &stats, fresh, false,
						  __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return fresh; /* the loser's block stays unused till the arena goes */
	return stats;
}

static void add(uint64_t *counter, uint64_t n)
{
	if (n)
		__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

void ept_ledger_count(struct ept_ledger *ledger, struct ept_arena *arena, enum ept_origin origin,
		      const struct ept_resolution *res, uint64_t ns)
{
	struct ept_case_stats *stats = block(ledger, arena, res->kase);

	if (!stats)
		return; /* no memory for counters: the fault matters more */
	add(&stats->faults, 1);
	add(&stats->major, res->major);
	add(&stats->installed, res->installed);
	add(&stats->around, res->around);
	add(&stats->fallback, res->fallback);
	add(&stats->bytes_read, res->bytes_read);
	add(&stats->granted, res->granted);
	add(&stats->by_origin[origin], 1);
	if (ns)
		ept_hist_add(&stats->latency, ns);
}

static bool failed(enum ept_case kase)
{
	return kase == EPT_CASE_NO_AREA || kase == EPT_CASE_RO_WRITE || kase == EPT_CASE_IO_ERROR ||
	       kase == EPT_CASE_IO_POISON || kase == EPT_CASE_NO_MEMORY || kase == EPT_CASE_DYING;
}

void ept_ledger_count_vcpu(struct ept_vcpu_stats *stats, const struct ept_resolution *res)
{
	if (failed(res->kase))
		return;
	if (res->kase == EPT_CASE_SPURIOUS || res->kase == EPT_CASE_TRANSIT)
		add(&stats->raced, 1);
	else
		add(res->major ? &stats->major : &stats->minor, 1);
}

void ept_vcpu_stats(const struct ept_space *space, unsigned vcpu, struct ept_vcpu_stats *out)
{
	const struct ept_vcpu_stats *stats = &space->vcpus[vcpu].stats;

#define X(field, name) out->field = __atomic_load_n(&stats->field, __ATOMIC_RELAXED);
	EPT_VCPU_COUNTERS(X)
#undef X
}

void ept_area_case_stats(const struct ept_space *space, size_t index, enum ept_case c,
			 struct ept_case_stats *out)
{
	const struct ept_ledger *ledger =
	    index < space->nr_areas ? &space->areas[index]->ledger : &space->stray;
	const struct ept_case_stats *stats = __atomic_load_n(&ledger->cases[c], __ATOMIC_ACQUIRE);

	*out = (struct ept_case_stats){0};
	if (!stats)
		return;
#define X(field, name, unit) out->field = __atomic_load_n(&stats->field, __ATOMIC_RELAXED);
	EPT_COUNTERS(X)
#undef X
	for (int o = 0; o < EPT_NR_ORIGINS; o++)
		out->by_origin[o] = __atomic_load_n(&stats->by_origin[o], __ATOMIC_RELAXED);
	out->latency.count = __atomic_load_n(&stats->latency.count, __ATOMIC_RELAXED);
	out->latency.max = __atomic_load_n(&stats->latency.max, __ATOMIC_RELAXED);
	out->latency.sum = __atomic_load_n(&stats->latency.sum, __ATOMIC_RELAXED);
	for (int i = 0; i < EPT_HIST_BUCKETS; i++)
		out->latency.bucket[i] =
		    __atomic_load_n(&stats->latency.bucket[i], __ATOMIC_RELAXED);
}

void ept_space_events(const struct ept_space *space, uint64_t by_origin[EPT_NR_ORIGINS])
{
	for (int o = 0; o < EPT_NR_ORIGINS; o++)
		by_origin[o] = __atomic_load_n(&space->events[o], __ATOMIC_RELAXED);
}
