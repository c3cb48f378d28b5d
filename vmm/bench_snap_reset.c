/* Rows of resets: the guest writes pages, and rings the bell; beside the least that does the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/abi.h"
#include "vmm/bench_snapshots.h"

/* Pages that one VM writes for the median of its resets, which are no fewer and no more than */
#define RESET_PAGES  32768
#define RESETS_LEAST 20
#define RESETS_MOST  200
/* --pages: a quick look. */
#define RESETS_FEW   4
/* That the guest had written before. */
#define TOUCHES	     8192

struct bench_job snap_reset_job(unsigned pages, unsigned resets, unsigned ring)
{
	return (struct bench_job){.cpus = 1,
				  .serial = 1,
				  .write = 1,
				  .touches = TOUCHES,
				  .again = pages,
				  .bell = resets,
				  .ring = ring,
				  .base = RAM_BASE};
}

/* Of what foal stat says: from the guest's exit at the bell to its next KVM_RUN. */
static int read_gap(struct snap_bench *bench, const char *name, const struct bench_job *job,
		    double *us)
{
	char *argv[] = {"foal", "stat", "--run-dir", bench->dir, "--json", (char *)name, NULL};
	json_t *said = snap_ask(bench, argv);
	const json_t *reset = json_object_get(json_object_get(said, "stats"), "reset");
	double resets = snap_number(reset, "resets"), pages = snap_number(reset, "pages");

	*us = snap_number(json_object_get(reset, "gap"), "p50_ns") / 1e3;
	json_decref(said);
	if (!said)
		return -1;
	if (resets < job->bell || pages < resets * job->again)
		return snap_cannot(bench, "%.0f resets put %.0f pages back, not %u times %u",
				   resets, pages, job->bell, job->again);
	return 0;
}

static int time_ours(struct snap_bench *bench, const char *name, const struct bench_job *job,
		     double *us)
{
	struct snap_job vm;
	char text[512];
	int r = 0;

	if (snap_start_guest(bench, name, job, "1G", "auto", &vm))
		return -1;
	if (write(vm.in, "x", 1) != 1 || snap_hear(&vm, "done", text, sizeof(text)))
		r = snap_cannot(bench, "the guest did not write its pages");
	if (r == 0)
		r = read_gap(bench, name, job, us);
	snap_kill(&vm);
	return r;
}

/* The same guest, in a process of its own (bench_reset.c). */
static int time_plain(struct snap_bench *bench, const struct bench_job *job, double *us)
{
	char words[3][16], text[64];
	char *argv[] = {"foal", "bench-reset", words[0], words[1], words[2], NULL};
	const unsigned numbers[] = {job->again, job->bell, job->ring};
	struct snap_job plain;
	int r;

	for (size_t i = 0; i < 3; i++)
		snprintf(words[i], sizeof(words[i]), "%u", numbers[i]);
	if (snap_start_self(bench, argv, false, &plain))
		return -1;
	r = snap_hear(&plain, NULL, text, sizeof(text));
	if (snap_finish(&plain) || r)
		return snap_cannot(bench, "a plain reset failed");
	*us = (double)strtoull(text, NULL, 10) / 1e3;
	return 0;
}

static unsigned resets_for(const struct snap_case *c)
{
	unsigned resets = RESET_PAGES / c->pages;

	return resets > RESETS_MOST ? RESETS_MOST : resets < RESETS_LEAST ? RESETS_LEAST : resets;
}

static struct bench_job job_of(const struct snap_bench *bench, const struct snap_case *c)
{
	unsigned less = FOAL_RESET_SAME | FOAL_RESET_TABLES | FOAL_RESET_CONTROLS;

	return snap_reset_job(c->pages, bench->opt->pages ? RESETS_FEW : resets_for(c),
			      FOAL_RESET_BACK | (c->flags & SNAP_ALL ? 0 : less));
}

static int reset_plain(struct snap_bench *bench, const struct snap_case *c, struct snap_pair *out)
{
	struct bench_job job = job_of(bench, c);

	return time_plain(bench, &job, &out->plain);
}

static int reset_ours(struct snap_bench *bench, const struct snap_case *c, struct snap_pair *out)
{
	struct bench_job job = job_of(bench, c);
	char name[24];

	snprintf(name, sizeof(name), "reset%u%s", c->pages, c->flags & SNAP_ALL ? "all" : "");
	return time_ours(bench, name, &job, &out->ours);
}

int snap_reset(struct snap_bench *bench, const struct snap_case *c, unsigned round,
	       struct snap_pair *out)
{
	return snap_in_turn(bench, c, round, reset_plain, reset_ours, out);
}
