/* A prediction: the trace replayed as it was recorded, then as it is asked for. */
#include "vmm/replay.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "vmm/bench.h"

static int check_memory(const struct replay *replay, struct foal_error *err)
{
	uint64_t was = replay_needs(&replay->trace, &replay->was), is = bench_host_available();
	uint64_t needs = replay_needs(&replay->trace, &replay->to);

	needs = needs > was ? needs : was;
	if (!is || needs <= is / 2)
		return 0;
	return error_set(err, FOAL_EXIT_HOST, -ENOMEM,
			 "replay: it may take %llu MiB of memory, and the host has %llu to give: "
			 "half of that is used at most; try --huge never, or a --memory-limit",
			 (unsigned long long)needs >> 20, (unsigned long long)is >> 20);
}

static int begin(struct replay *replay)
{
	struct replay_side *sides[] = {&replay->recorded, &replay->here, &replay->least,
				       &replay->most};
	int r = 0;

	for (size_t i = 0; i < sizeof(sides) / sizeof(sides[0]) && r == 0; i++)
		r = replay_count_init(&sides[i]->count, &replay->trace);
	return r;
}

static void copy_count(const struct replay_trace *trace, struct replay_count *to,
		       const struct replay_count *from)
{
	struct replay_chain *chain = to->chain;

	memcpy(chain, from->chain, trace->chains * sizeof(*chain));
	*to = *from;
	to->chain = chain;
}

static uint64_t took(const struct replay_trace *trace, const struct replay_count *count)
{
	uint64_t ns = 0;

	for (size_t i = 0; i < trace->chains; i++)
		ns += count->chain[i].read_ns + count->chain[i].rest_ns;
	return ns;
}

/* How often the host took a processor away from this process so far. */
static long put_off(void)
{
	struct rusage usage = {.ru_nivcsw = 0};

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_nivcsw;
}

/*
 * Twice, and what was less disturbed by what else the host does is kept: of the same faults, those
 * that took less. Fewer faults take less, too, and are no better for that.
 */
static int run(const struct replay *replay, const struct trace_settings *settings, bool brought,
	       struct replay_side *out, struct foal_error *err)
{
	const struct replay_trace *trace = &replay->trace;
	struct replay_count other;
	long start = put_off(), middle;
	int r = replay_again(trace, &replay->layers, settings, brought, &replay->pace, &out->count,
			     err);
	bool better;

	if (r)
		return r;
	r = replay_count_init(&other, trace);
	if (r)
		return error_set(err, FOAL_EXIT_HOST, r, "replay: out of memory");
	middle = put_off();
	r = replay_again(trace, &replay->layers, settings, brought, &replay->pace, &other, err);
	if (other.faults == out->count.faults)
		better = took(trace, &other) < took(trace, &out->count);
	else
		better = put_off() - middle < middle - start;
	if (r == 0 && better)
		copy_count(trace, &out->count, &other);
	replay_count_free(&other);
	return r;
}

static void time_side(const struct replay *replay, struct replay_side *side)
{
	side->time = replay_time_of(&replay->trace, &replay->recorded.count, &replay->here.count,
				    &replay->costs, &side->count);
}

int replay_predict(struct replay *replay, const struct replay_given *given, struct foal_error *err)
{
	const struct replay_trace *trace = &replay->trace;
	int r = check_memory(replay, err);

	if (r == 0 && (r = begin(replay)))
		error_set(err, FOAL_EXIT_HOST, r, "replay: out of memory");
	if (r == 0 && replay->was.prefetch != EPT_PREFETCH_NONE)
		r = replay_layers_make(trace, &replay->layers, err);
	if (r)
		return r;
	replay_count_recorded(&replay->recorded.count, trace);
	replay->pace = replay_pace_of(trace, &replay->recorded.count, &replay->here.count, given);
	r = run(replay, &replay->was, false, &replay->here, err);
	replay->pace = replay_pace_of(trace, &replay->recorded.count, &replay->here.count, given);
	if (r == 0)
		r = run(replay, &replay->to, false, &replay->least, err);
	if (r == 0 && trace->exact)
		copy_count(trace, &replay->most.count, &replay->least.count);
	else if (r == 0)
		r = run(replay, &replay->to, true, &replay->most, err);
	if (r)
		return r;
	replay->costs =
	    replay_costs_of(trace, &replay->recorded.count, &replay->here.count, &replay->pace);
	replay->recorded.time =
	    replay_time_recorded(trace, &replay->recorded.count, &replay->costs);
	time_side(replay, &replay->here);
	time_side(replay, &replay->least);
	time_side(replay, &replay->most);
	return 0;
}

void replay_free(struct replay *replay)
{
	replay_count_free(&replay->recorded.count);
	replay_count_free(&replay->here.count);
	replay_count_free(&replay->least.count);
	replay_count_free(&replay->most.count);
	replay_layers_free(&replay->layers);
	replay_trace_free(&replay->trace);
}
