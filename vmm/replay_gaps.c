/* Between the faults of a trace: what each takes on its way, and what the guest does itself. */
#include <errno.h>
#include <stdlib.h>

#include "vmm/replay.h"

/* Times the 10th percentile: a longer gap is no fault's way, whatever else ran on the host. */
#define DELAYED 1000

static int by_size(const void *a, const void *b)
{
	double one = *(const double *)a, other = *(const double *)b;

	return one < other ? -1 : one > other;
}

/* Is there a gap behind it: does it keep a vCPU waiting? */
static bool has_gap(const struct replay_trace *trace, const struct ept_record *record)
{
	return replay_chain_of(trace, record) != replay_monitor(trace) &&
	       !replay_leaves_out(trace, record);
}

/* Into @gaps, from the end of each fault to its chain's next one. @last: a chain's end so far. */
static size_t take_gaps(const struct replay_trace *trace, double *gaps, double *last)
{
	size_t n = 0;

	for (size_t i = 0; i < trace->count; i++) {
		const struct ept_record *record = &trace->records[i];
		double *end = &last[replay_chain_of(trace, record)];

		if (!has_gap(trace, record))
			continue;
		if (*end > 0 && (double)record->at > *end)
			gaps[n++] = (double)record->at - *end;
		*end = replay_end_of(record);
	}
	return n;
}

/*
 * What a guest does between two faults nobody tells. The mean of all gaps is what a fault's way can
 * be at most, and is it where a guest does little but fault.
 */
static double way_of(const double *gaps, size_t n)
{
	double sum = 0, most;
	size_t taken = 0;

	if (!n)
		return 0;
	most = gaps[n / 10] * DELAYED;
	for (; taken < n && gaps[taken] <= most; taken++)
		sum += gaps[taken];
	return sum / (double)taken;
}

int replay_gaps(struct replay_trace *trace)
{
	double *gaps = malloc((trace->count + 1) * sizeof(*gaps));
	double *last = calloc(trace->chains, sizeof(*last));
	int r = gaps && last ? 0 : -ENOMEM;

	if (r == 0) {
		size_t n = take_gaps(trace, gaps, last);

		qsort(gaps, n, sizeof(*gaps), by_size);
		trace->way = way_of(gaps, n);
	}
	free(gaps);
	free(last);
	return r;
}
