/*
 * foal bench replay: each job is recorded with a page a fault, and what that says of other settings
 * is put beside real runs with these, in turns. A row is a prediction: its faults, and its time.
 */
#include <errno.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/bench.h"
#include "vmm/replay.h"
#include "vmm/series.h"
#include "vmm/vm.h"

/* How far a prediction may be off. */
#define FAULTS_OFF 0.10
#define TIME_OFF   0.25

enum { FAULTS, TIME, MEASURES };

static const struct {
	const char *suffix, *unit, *bar;
	double off;
} measures[MEASURES] = {
    [FAULTS] = {".faults", "", "0.9 <= ratio <= 1.1", FAULTS_OFF},
    [TIME] = {"", "us", "0.75 <= ratio <= 1.25", TIME_OFF},
};

/* Of a case. */
struct row {
	struct series ours[MEASURES], plain[MEASURES]; /* predicted, real */
	char why[480];				       /* not measured */
};

struct bench {
	const struct bench_options *opt;
	struct bench_warm warm;
	int file, swap;
	char dir[3000], trace[3100];
	double file_page_ns;
	struct row *rows; /* as many as there are cases */
};

static bool chosen(const struct bench_options *opt, const struct bench_case *c)
{
	return c->replayed && (!opt->only || fnmatch(opt->only, c->name, 0) == 0);
}

/* Jobs are told apart by what is touched; the first case of one is the one that is recorded. */
static bool same_job(const struct bench_case *a, const struct bench_case *b)
{
	return b->replayed && a->backing == b->backing && a->pattern == b->pattern &&
	       a->write == b->write;
}

/* --- a sample -------------------------------------------------------------------------- */

static void cannot(struct row *row, const char *why)
{
	if (!row->why[0])
		snprintf(row->why, sizeof(row->why), "%s", why);
}

static bool run_sample(struct bench *bench, const struct bench_case *c, const char *trace,
		       struct bench_result *result)
{
	struct bench_sample sample = {.c = c,
				      .ours = true,
				      .cpus = 1,
				      .file = bench->file,
				      .swap = bench->swap,
				      .limit = bench->opt->pages,
				      .group = "",
				      .trace = trace};

	*result = (struct bench_result){0};
	bench_warm(&bench->warm, &sample);
	bench_sample_run(&sample, result);
	return result->status == 0;
}

/* What the trace makes of the settings of @c. */
static int predict(const struct bench *bench, const struct bench_case *c, struct replay *replay,
		   struct foal_error *err)
{
	int r = replay_trace_load(&replay->trace, bench->trace, err);

	if (r)
		return r;
	/* This guest does nothing but fault: what its trace says of a fault's way is all of it. */
	const struct replay_given given = {.page_ns = REPLAY_PAGE_NS,
					   .file_page_ns = bench->file_page_ns};
	const char *around = strstr(c->options, "--fault-around ");
	replay->was = replay->to = replay->trace.meta->settings;
	replay->to.fault_around = (unsigned)strtoul(around + strlen("--fault-around "), NULL, 10);
	replay->to.huge = strstr(c->options, "--huge always") ? EPT_HUGE_ALWAYS : EPT_HUGE_NEVER;
	return replay_predict(replay, &given, err);
}

static void add(struct row *row, const struct replay *replay, const struct bench_result *real)
{
	series_add(&row->ours[FAULTS], (double)replay->least.count.faults);
	series_add(&row->plain[FAULTS], (double)real->faults);
	series_add(&row->ours[TIME], replay->least.time.span_ns / 1e3 / (double)real->touches);
	series_add(&row->plain[TIME], real->value[BENCH_TIME]);
}

/* What else the host does changes within seconds: each prediction is from a trace of its own. */
static bool run_both(struct bench *bench, const struct bench_case *job, const struct bench_case *c,
		     unsigned round, struct bench_result *real)
{
	struct row *row = &bench->rows[c - bench_cases];
	struct bench_result recorded = {0};

	for (unsigned i = 0; i < 2; i++) {
		bool record = i == round % 2; /* nor is one always the first */
		struct bench_result *result = record ? &recorded : real;

		if (!run_sample(bench, record ? job : c, record ? bench->trace : "", result)) {
			cannot(row, result->why);
			return false;
		}
	}
	return true;
}

static void compare(struct bench *bench, const struct bench_case *job, const struct bench_case *c,
		    unsigned round)
{
	struct row *row = &bench->rows[c - bench_cases];
	struct bench_result real;
	struct replay replay = {0};
	struct foal_error err = {0};

	if (!run_both(bench, job, c, round, &real))
		return;
	if (predict(bench, c, &replay, &err))
		cannot(row, err.text);
	else
		add(row, &replay, &real);
	replay_free(&replay);
}

/* --- in turns -------------------------------------------------------------------------- */

/* 0, or the signal that came. */
static int run_job(struct bench *bench, const struct bench_case *job, unsigned round)
{
	const struct bench_case *end = bench_cases + bench_case_count;
	int came = 0;

	for (const struct bench_case *c = job; c < end && !came; c++)
		if (same_job(job, c) && chosen(bench->opt, c)) {
			bench_progress(round, bench->opt->rounds, c->name);
			compare(bench, job, c, round);
			unlink(bench->trace);
			came = bench_signal_came();
		}
	return came;
}

static int run_all(struct bench *bench)
{
	const struct bench_case *end = bench_cases + bench_case_count;
	struct replay_given given = {.way_ns = 0};
	int came = 0;

	replay_probe(bench->dir, &given);
	bench->file_page_ns = given.file_page_ns;
	for (unsigned round = 0; round < bench->opt->rounds && !came; round++) {
		if (!bench->opt->pages)
			bench_warm_look(&bench->warm);
		for (const struct bench_case *c = bench_cases; c < end && !came; c++)
			if (c->replayed && !(c > bench_cases && same_job(c, c - 1)))
				came = run_job(bench, c, round);
	}
	bench_progress(0, 0, NULL);
	return came;
}

/* --- the result ------------------------------------------------------------------------ */

/* -1: nothing was measured. */
static int holds(struct row *row, int m)
{
	double plain = series_at(&row->plain[m], 0.5);

	if (plain <= 0)
		return -1;
	double ratio = series_at(&row->ours[m], 0.5) / plain;
	return ratio >= 1 - measures[m].off && ratio <= 1 + measures[m].off;
}

static void name_of(const struct bench_case *c, int m, char name[64])
{
	snprintf(name, 64, "%s%s", c->name, measures[m].suffix);
}

static void print(struct bench *bench)
{
	for (size_t i = 0; i < bench_case_count; i++)
		for (int m = 0; m < MEASURES && chosen(bench->opt, &bench_cases[i]); m++) {
			struct row *row = &bench->rows[i];
			char name[64];

			name_of(&bench_cases[i], m, name);
			if (holds(row, m) < 0) {
				printf("%-39s not measured: %s\n", name, row->why);
				continue;
			}
			series_print(stdout, name, measures[m].unit, &row->ours[m], &row->plain[m],
				     measures[m].bar);
			fputs(holds(row, m) ? ": holds" : ": does NOT hold", stdout);
			printf("; real runs differ by %.0f %%\n",
			       100 * series_spread(&row->plain[m]));
		}
}

static json_t *row_json(struct row *row, const struct bench_case *c, int m)
{
	int held = holds(row, m);
	char name[64];

	name_of(c, m, name);
	json_t *json =
	    series_json(name, measures[m].unit, &row->ours[m], &row->plain[m], measures[m].bar);
	json_object_set_new(json, "plain_spread", json_real(series_spread(&row->plain[m])));
	json_object_set_new(json, "holds", held < 0 ? json_null() : json_boolean(held));
	json_object_set_new(json, "options", json_string(c->options));
	json_object_set_new(json, "rounds", json_integer(row->ours[m].count));
	if (held < 0)
		json_object_set_new(json, "not_measured", json_string(row->why));
	return json;
}

static json_t *to_json(struct bench *bench, double seconds)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < bench_case_count; i++)
		for (int m = 0; m < MEASURES && chosen(bench->opt, &bench_cases[i]); m++)
			json_array_append_new(rows, row_json(&bench->rows[i], &bench_cases[i], m));
	return json_pack("{s:o,s:f,s:o}", "rows", rows, "seconds", seconds, "memory",
			 bench_warm_json(&bench->warm));
}

static unsigned broken_of(struct bench *bench)
{
	unsigned broken = 0;

	for (size_t i = 0; i < bench_case_count; i++)
		for (int m = 0; m < MEASURES; m++)
			broken += holds(&bench->rows[i], m) == 0;
	return broken;
}

void bench_replay_list(const struct bench_options *opt)
{
	for (size_t i = 0; i < bench_case_count; i++)
		for (int m = 0; m < MEASURES && chosen(opt, &bench_cases[i]); m++) {
			char name[64];

			name_of(&bench_cases[i], m, name);
			printf("%-39s %-4s bar %s %s\n", name, measures[m].unit, measures[m].bar,
			       bench_cases[i].options);
		}
}

/* --- all of it ------------------------------------------------------------------------- */

static int prepare(struct bench *bench, FILE **json, struct foal_error *err)
{
	const struct bench_options *opt = bench->opt;
	bool any = false;

	for (size_t i = 0; i < bench_case_count; i++)
		any |= chosen(opt, &bench_cases[i]);
	if (!any)
		return error_set(err, FOAL_EXIT_USAGE, -EINVAL,
				 "bench: --only %s: no row has such a name; see --list", opt->only);
	int r = bench_check_host(err);
	if (r == 0 && opt->json)
		r = bench_open_json(opt->json, json, err);
	if (r)
		return r;
	snprintf(bench->dir, sizeof(bench->dir), "%s/foal-bench-XXXXXX", opt->dir);
	if (!mkdtemp(bench->dir)) {
		bench->dir[0] = 0;
		return error_set(err, FOAL_EXIT_DISK, -errno,
				 "bench: a directory in %s: %s; --dir names another place",
				 opt->dir, strerror(errno));
	}
	snprintf(bench->trace, sizeof(bench->trace), "%s/trace", bench->dir);
	bench->file = bench_file_create(opt->dir, BENCH_FILE_MIB, err);
	bench->swap = bench->file < 0 ? -1 : bench_file_empty(opt->dir, err);
	return bench->swap < 0 ? -EIO : 0;
}

static int measure_and_tell(struct bench *bench, FILE *json, struct foal_error *err)
{
	sigset_t ending = bench_signals();
	uint64_t start = now_ns();
	int r = 0;

	sigprocmask(SIG_BLOCK, &ending, NULL);
	int came = run_all(bench);
	sigprocmask(SIG_UNBLOCK, &ending, NULL);
	double seconds = (double)(now_ns() - start) / 1e9;
	if (json != stdout) {
		print(bench);
		printf("took %.0f s\n", seconds);
	}
	if (json)
		r = bench_write_json(to_json(bench, seconds), json, bench->opt->json, err);
	return came && r == 0 ? bench_interrupted(came, err) : r;
}

static void close_all(struct bench *bench)
{
	if (bench->file >= 0)
		close(bench->file);
	if (bench->swap >= 0)
		close(bench->swap);
	if (bench->dir[0]) {
		unlink(bench->trace);
		rmdir(bench->dir);
	}
	free(bench->rows);
}

int bench_replay_measure(const struct bench_options *opt, unsigned *broken, struct foal_error *err)
{
	struct bench bench = {.opt = opt,
			      .file = -1,
			      .swap = -1,
			      .rows = calloc(bench_case_count, sizeof(*bench.rows))};
	FILE *json = NULL;

	signal(SIGXFSZ, SIG_IGN); /* a file may not grow: EFBIG */
	int r = bench.rows ? prepare(&bench, &json, err)
			   : error_set(err, FOAL_EXIT_HOST, -ENOMEM, "bench: out of memory");
	if (r == 0)
		r = measure_and_tell(&bench, json, err);
	if (r == 0)
		*broken = broken_of(&bench);
	close_all(&bench);
	if (json && json != stdout && fclose(json) && r == 0)
		r = error_set(err, FOAL_EXIT_DISK, -errno, "bench: %s: %s", opt->json,
			      strerror(errno));
	return r;
}
