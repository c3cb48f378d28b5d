/* Between the faults of a trace: what each takes on its way, and what the guest does itself. */
#include <errno.h>
#include <stdlib.h>

#include "vmm/replay.h"

/* Times the 10th percentile: a gap up to that is a fault's way and no more, */
#define TIGHT	4
#define DELAYED 1000 /* or one that something else on the host made longer */

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
 * What a guest does between two faults nobody tells; those that follow each other most closely do
 * the least, so the mean of these gaps is a fault's way. Where most do, the guest does little but
 * fault, and what keeps it longer now and then is the host's scheduler: that goes with the faults.
 */
static double way_of(const double *gaps, size_t n)
{
	double sum = 0, most;
	size_t taken = 0;

	if (!n)
		return 0;
	most = gaps[n / 10] * (gaps[n / 2] <= TIGHT * gaps[n / 10] ? DELAYED : TIGHT);
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
