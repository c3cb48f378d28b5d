/*
 * What is not in a trace, of this host: guests of foal bench, which do nothing but touch pages, are
 * run and recorded in processes of their own. One faults on each page, so that its faults follow
 * each other at what a fault's way is; the other goes through a file, most of whose pages come with
 * others, and its time is theirs.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/bench.h"
#include "vmm/replay.h"

#define FAULTING    "replay.anon.seq.1"
#define FAULTS	    2048
#define AROUND	    "replay.file.seq.64"
#define FILE_MIB    64
#define QUICKEST_OF 3 /* what else the host does is not what a page costs */

static const struct bench_case *job(const char *name)
{
	size_t i = 0;

	while (i + 1 < bench_case_count && strcmp(bench_cases[i].name, name) != 0)
		i++;
	return &bench_cases[i];
}

/* Run and record it; false: there is no trace of it at @path. */
static bool run(const char *name, int file, size_t limit, const char *path,
		struct bench_result *out)
{
	const struct bench_sample sample = {.c = job(name),
					    .ours = true,
					    .cpus = 1,
					    .file = file,
					    .swap = -1,
					    .limit = limit,
					    .group = "",
					    .trace = path};

	*out = (struct bench_result){0};
	bench_sample_run(&sample, out);
	return out->status == 0;
}

static double way_in(const char *path)
{
	struct replay_trace trace;
	struct foal_error err = {0};
	double way = replay_trace_load(&trace, path, &err) ? 0 : trace.way;

	replay_trace_free(&trace);
	return way;
}

/* What is left of the time of @ran, for each page that came with others. */
static double page_in(const char *path, const struct bench_result *ran, double way)
{
	struct replay_trace trace;
	struct foal_error err = {0};
	double left = ran->value[BENCH_TIME] * 1e3 * (double)ran->touches, pages = 0;

	if (replay_trace_load(&trace, path, &err) == 0) {
		for (size_t i = 0; i < trace.count; i++)
			left -= way + replay_handled_ns(&trace.records[i]);
		pages = (double)ran->touches - (double)trace.count;
	}
	replay_trace_free(&trace);
	return left > 0 && pages > 0 ? left / pages : 0;
}

static void take_less(double ns, double *least)
{
	if (ns > 0 && (*least <= 0 || ns < *least))
		*least = ns;
}

int replay_probe(const char *dir, struct replay_given *given)
{
	char path[PATH_MAX];
	struct foal_error err = {0};
	struct bench_result ran;
	int came = 0;

	snprintf(path, sizeof(path), "%s/probe", dir);
	if (given->way_ns <= 0 && run(FAULTING, -1, FAULTS, path, &ran))
		given->way_ns = way_in(path);
	if (given->file_page_ns <= 0 && !(came = bench_signal_came())) {
		int file = bench_file_create(dir, FILE_MIB, &err);

		for (int i = 0; file >= 0 && i < QUICKEST_OF && !came;
		     i++, came = bench_signal_came())
			if (run(AROUND, file, 0, path, &ran))
				take_less(page_in(path, &ran, given->way_ns), &given->file_page_ns);
		if (file >= 0)
			close(file);
	}
	unlink(path);
	return came ? came : bench_signal_came();
}
