/*
 * What a fault's way is on this host: a guest of foal bench, which does nothing but fault, is run
 * and recorded in a process of its own, and its faults follow each other at that.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/bench.h"
#include "vmm/replay.h"

#define JOB   "replay.anon.seq.1"
#define PAGES 2048

static const struct bench_case *job(void)
{
	size_t i = 0;

	while (i + 1 < bench_case_count && strcmp(bench_cases[i].name, JOB) != 0)
		i++;
	return &bench_cases[i];
}

/* The way in the trace at @path; 0: there is none. */
static double way_in(const char *path)
{
	struct replay_trace trace;
	struct foal_error err = {0};
	double way = replay_trace_load(&trace, path, &err) ? 0 : trace.way;

	replay_trace_free(&trace);
	return way;
}

double replay_probe(void)
{
	char dir[] = "/tmp/foal-replay-XXXXXX", path[sizeof(dir) + sizeof("/trace")];
	struct bench_result result = {0};
	double way = 0;

	if (!mkdtemp(dir))
		return 0;
	snprintf(path, sizeof(path), "%s/trace", dir);
	bench_sample_run(&(struct bench_sample){.c = job(),
						.ours = true,
						.cpus = 1,
						.file = -1,
						.swap = -1,
						.limit = PAGES,
						.group = "",
						.trace = path},
			 &result);
	if (result.status == 0)
		way = way_in(path);
	unlink(path);
	rmdir(dir);
	return way;
}
