/* A prediction: the trace replayed as it was recorded, then as it is asked for. */
#include "vmm/replay.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Memory that the host could give away; 0: it does not say. */
static uint64_t available(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kib = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib << 10;
}

static int check_memory(const struct replay *replay, struct foal_error *err)
{
	uint64_t was = replay_needs(&replay->trace, &replay->was), is = available();
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

/* Who wants a range has one number then. */
static void make_same(const struct replay *replay, struct replay_side *to,
		      const struct replay_side *from)
{
	struct replay_chain *chain = to->count.chain;

	memcpy(chain, from->count.chain, replay->trace.chains * sizeof(*chain));
	to->count = from->count;
	to->count.chain = chain;
}

static void time_side(const struct replay *replay, struct replay_side *side)
{
	side->time = replay_time_of(&replay->trace, &replay->recorded.count, &replay->here.count,
				    &replay->costs, &side->count);
}

int replay_predict(struct replay *replay, double page_ns, struct foal_error *err)
{
	const struct replay_trace *trace = &replay->trace;
	int r = check_memory(replay, err);

	if (r == 0 && (r = begin(replay)))
		error_set(err, FOAL_EXIT_HOST, r, "replay: out of memory");
	if (r == 0)
		r = replay_again(trace, &replay->was, false, &replay->here.count, err);
	if (r == 0)
		r = replay_again(trace, &replay->to, false, &replay->least.count, err);
	if (r == 0 && trace->exact)
		make_same(replay, &replay->most, &replay->least);
	else if (r == 0)
		r = replay_again(trace, &replay->to, true, &replay->most.count, err);
	if (r)
		return r;
	replay_count_recorded(&replay->recorded.count, trace);
	replay->costs =
	    replay_costs_of(trace, &replay->recorded.count, &replay->here.count, page_ns);
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
	replay_trace_free(&replay->trace);
}
