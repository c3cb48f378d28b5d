/* From counts to time: what faults cost, and what the rest of the guest's time is. */
#include <stdlib.h>

#include "vmm/replay.h"

/* --- what a fault took more than here ------------------------------------------------------- */

static struct replay_chain sum_of(const struct replay_trace *trace,
				  const struct replay_count *count)
{
	struct replay_chain sum = {0};

	for (size_t i = 0; i < trace->chains; i++) {
		sum.faults += count->chain[i].faults;
		sum.major += count->chain[i].major;
		sum.read_ns += count->chain[i].read_ns;
		sum.rest_ns += count->chain[i].rest_ns;
	}
	return sum;
}

static double mean(uint64_t ns, uint64_t n)
{
	return n ? (double)ns / (double)n : 0;
}

struct replay_costs replay_costs_of(const struct replay_trace *trace,
				    const struct replay_count *recorded,
				    const struct replay_count *here, const struct replay_pace *pace)
{
	struct replay_chain was = sum_of(trace, recorded), is = sum_of(trace, here);

	return (struct replay_costs){
	    .way = pace->way,
	    .page = pace->page,
	    .file_page = pace->file_page,
	    .read = mean(was.read_ns, was.major) - mean(is.read_ns, is.major),
	    .rest = mean(was.rest_ns, was.faults) - mean(is.rest_ns, is.faults),
	};
}

struct replay_pace replay_pace_of(const struct replay_trace *trace,
				  const struct replay_count *recorded,
				  const struct replay_count *here, const struct replay_given *given)
{
	uint64_t was = sum_of(trace, recorded).read_ns, is = sum_of(trace, here).read_ns;
	bool has_less = given->way_ns > 0 && given->way_ns < trace->way;

	return (struct replay_pace){
	    .way = has_less ? given->way_ns : trace->way,
	    .page = given->page_ns,
	    .file_page = given->file_page_ns > 0 ? given->file_page_ns : REPLAY_FILE_PAGE_NS,
	    .slower = is && was > is ? (double)was / (double)is : 1,
	};
}

/* --- time ------------------------------------------------------------------------------------- */

static double at_least_none(double ns)
{
	return ns > 0 ? ns : 0;
}

/* What the faults of a chain take until they are resolved, with what the trace adds to it. */
static double handled(const struct replay_chain *chain, const struct replay_costs *costs)
{
	return at_least_none((double)chain->read_ns + costs->read * (double)chain->major) +
	       at_least_none((double)chain->rest_ns + costs->rest * (double)chain->faults);
}

/* How much longer than @was a chain of the guest takes. */
static double longer(const struct replay_chain *was, const struct replay_chain *here,
		     const struct replay_chain *is, const struct replay_costs *costs, bool monitor)
{
	double way = monitor ? 0 : costs->way;

	return handled(is, costs) - (double)(was->read_ns + was->rest_ns) +
	       way * ((double)is->faults - (double)was->faults) +
	       costs->page * ((double)is->quiet - (double)here->quiet) +
	       costs->file_page * ((double)is->quiet_file - (double)here->quiet_file);
}

static double waited(const struct replay_trace *trace, const struct replay_count *count,
		     const struct replay_costs *costs, bool recorded)
{
	double sum = 0;

	for (size_t i = 0; i < replay_monitor(trace); i++) {
		const struct replay_chain *c = &count->chain[i];

		sum += recorded ? (double)(c->read_ns + c->rest_ns) : handled(c, costs);
		sum += costs->way * (double)c->faults;
	}
	return sum;
}

/* When each chain ends, into @ends (0: it has no fault). */
static double first_and_ends(const struct replay_trace *trace, double *ends)
{
	double first = 0;

	for (size_t i = 0; i < trace->count; i++) {
		const struct ept_record *record = &trace->records[i];
		size_t chain = replay_chain_of(trace, record);

		if (replay_leaves_out(trace, record))
			continue;
		if (first == 0)
			first = (double)record->at;
		if (replay_end_of(record) > ends[chain])
			ends[chain] = replay_end_of(record);
	}
	return first;
}

struct replay_time replay_time_recorded(const struct replay_trace *trace,
					const struct replay_count *recorded,
					const struct replay_costs *costs)
{
	double *ends = calloc(trace->chains, sizeof(*ends)), last = 0;
	double first = ends ? first_and_ends(trace, ends) : 0;

	for (size_t i = 0; i < trace->chains && ends; i++)
		last = ends[i] > last ? ends[i] : last;
	free(ends);
	return (struct replay_time){.waited_ns = waited(trace, recorded, costs, true),
				    .span_ns = at_least_none(last - first)};
}

/* The monitor's own touches come before all else, or hold it up as long as they take. */
struct replay_time replay_time_of(const struct replay_trace *trace,
				  const struct replay_count *recorded,
				  const struct replay_count *here, const struct replay_costs *costs,
				  const struct replay_count *predicted)
{
	double *ends = calloc(trace->chains, sizeof(*ends)), last = 0;
	double first = ends ? first_and_ends(trace, ends) : 0;
	size_t monitor = replay_monitor(trace);
	double all = longer(&recorded->chain[monitor], &here->chain[monitor],
			    &predicted->chain[monitor], costs, true);

	for (size_t i = 0; i < trace->chains && ends; i++) {
		double end = ends[i] + all;

		if (i != monitor)
			end += longer(&recorded->chain[i], &here->chain[i], &predicted->chain[i],
				      costs, false);
		last = ends[i] > 0 && end > last ? end : last;
	}
	free(ends);
	return (struct replay_time){.waited_ns = waited(trace, predicted, costs, false),
				    .span_ns = at_least_none(last - first)};
}
