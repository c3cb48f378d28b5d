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

/* Into own[], of each fault the gap from its end to its chain's next fault. @next: scratch. */
static void take_gaps(const struct replay_trace *trace, double *next)
{
	for (size_t i = trace->count; i-- > 0;) {
		const struct ept_record *record = &trace->records[i];
		double *later = &next[replay_chain_of(trace, record)];

		if (!has_gap(trace, record))
			continue;
		if (*later > replay_end_of(record))
			trace->own[i] = *later - replay_end_of(record);
		*later = (double)record->at;
	}
}

/*
 * What a guest does between two faults nobody tells; those that follow each other most closely do
 * the least, so the mean of these gaps is a fault's way. Where most do, the guest does little but
 * fault, and what keeps it longer now and then is the host's scheduler: that goes with the faults.
 * *@most: no longer gap is taken for one.
 */
static double way_of(const double *gaps, size_t n, double *most)
{
	double sum = 0;
	size_t taken = 0;

	if (!n)
		return 0;
	*most = gaps[n / 10] * (gaps[n / 2] <= TIGHT * gaps[n / 10] ? DELAYED : TIGHT);
	for (; taken < n && gaps[taken] <= *most; taken++)
		sum += gaps[taken];
	return sum / (double)taken;
}

/* Gaps become what of them is the guest's. */
static void take_away(struct replay_trace *trace, double most)
{
	for (size_t i = 0; i < trace->count; i++)
		trace->own[i] = trace->own[i] > most ? trace->own[i] - trace->way : 0;
}

int replay_gaps(struct replay_trace *trace)
{
	double *gaps = malloc((trace->count + 1) * sizeof(*gaps)), most = 0;
	double *next = calloc(trace->chains, sizeof(*next));
	size_t n = 0;

	trace->own = calloc(trace->count + 1, sizeof(*trace->own));
	if (gaps && next && trace->own) {
		take_gaps(trace, next);
		for (size_t i = 0; i < trace->count; i++)
			if (trace->own[i] > 0)
				gaps[n++] = trace->own[i];
		qsort(gaps, n, sizeof(*gaps), by_size);
		trace->way = way_of(gaps, n, &most);
		take_away(trace, most);
	}
	free(gaps);
	free(next);
	return gaps && next && trace->own ? 0 : -ENOMEM;
}
