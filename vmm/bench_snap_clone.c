/*
 * Rows of clones: a VM with the bench's guest becomes a template and ends, then its clones are
 * timed and weighed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/bench_snapshots.h"
#include "vmm/bench_vm.h"
#include "vmm/vm.h"

#define SMALL "256M"

/* --- a template ------------------------------------------------------------------------------ */

int snap_template(struct snap_bench *bench, const char *name, const struct bench_job *job,
		  const char *huge, const char *pool, pid_t *pid)
{
	char *argv[] = {"foal",	  "template",	"--run-dir",  bench->dir, "--json",
			"--pool", (char *)pool, (char *)name, NULL};
	struct snap_job vm;
	json_t *said;

	if (snap_start_guest(bench, name, job, SMALL, huge, &vm))
		return -1;
	said = snap_ask(bench, argv);
	if (pid)
		*pid = (pid_t)snap_number(json_array_get(json_object_get(said, "forks"), 0), "pid");
	json_decref(said);
	snap_kill(&vm);
	return said ? 0 : -1;
}

void snap_end_template(struct snap_bench *bench, const char *name)
{
	char template[64];

	snprintf(template, sizeof(template), "%s.template", name);
	snap_stop_vm(bench, template);
}

json_t *snap_clone_of(struct snap_bench *bench, const char *name, const char *count, bool *failed)
{
	char template[64];
	char *pattern = count ? "cloned-%" : "cloned";
	char *argv[] = {"foal",	 "clone",  "--run-dir",		bench->dir,    "--json", "--name",
			pattern, template, count ? "-n" : NULL, (char *)count, NULL};

	snprintf(template, sizeof(template), "%s.template", name);
	return failed ? snap_ask_all(bench, argv, failed) : snap_ask(bench, argv);
}

double snap_first_run_us(const json_t *said, size_t clone)
{
	const json_t *one = json_array_get(json_object_get(said, "forks"), clone);

	return snap_number(one, "first_run_ns") / 1e3;
}

/* --- one: to the first KVM_RUN ---------------------------------------------------------------- */

static int time_clone(struct snap_bench *bench, double *us)
{
	json_t *said = snap_clone_of(bench, "cloner", NULL, NULL);

	*us = snap_first_run_us(said, 0);
	json_decref(said);
	if (said)
		snap_stop_vm(bench, "cloned");
	return *us > 0 ? 0 : snap_cannot(bench, "foal clone does not say when it ran");
}

int snap_start_bare(struct snap_bench *bench, unsigned mib, const char *what, const char *how,
		    struct snap_job *job)
{
	char text[64], size[16];
	char *argv[] = {"bare_kvm", size, (char *)what, (char *)how, NULL};

	snprintf(size, sizeof(size), "%u", mib);
	if (snap_start(bench, bench->opt->bare, argv, false, job))
		return -1;
	return snap_hear(job, "\n", text, sizeof(text));
}

int snap_time_bare(struct snap_job *job, double *us)
{
	uint64_t asked = now_ns();
	char text[64];

	if (write(job->in, "x", 1) != 1 || snap_hear(job, "\n", text, sizeof(text)))
		return -1;
	*us = (double)(strtoull(text, NULL, 10) - asked) / 1000;
	return 0;
}

int snap_end_bare(struct snap_bench *bench, struct snap_job *job, int r)
{
	return snap_finish(job) || r ? snap_cannot(bench, "%s failed", bench->opt->bare) : 0;
}

static int time_bare(struct snap_bench *bench, unsigned mib, const char *what, const char *how,
		     double *us)
{
	struct snap_job job;

	if (!bench->opt->bare)
		return 0;
	int r = snap_start_bare(bench, mib, what, how, &job);
	if (r == 0)
		r = snap_time_bare(&job, us);
	return snap_end_bare(bench, &job, r);
}

static int clone_plain(struct snap_bench *bench, const struct snap_case *c, struct snap_pair *out)
{
	return time_bare(bench, c->mib, c->flags & SNAP_POOL ? "pool" : "clone", NULL, &out->plain);
}

static int clone_ours(struct snap_bench *bench, const struct snap_case *c, struct snap_pair *out)
{
	const struct bench_job small = {
	    .cpus = 1, .serial = 1, .write = 1, .touches = 1, .base = RAM_BASE - EPT_PAGE_SIZE};
	bool pool = c->flags & SNAP_POOL;
	int r = snap_template(bench, "cloner", &small, "auto", pool ? "4" : "0", NULL);

	if (r)
		return r;
	r = time_clone(bench, &out->ours);
	/* By the third one the pool has been filled. */
	for (int i = 0; i < 2 && pool && r == 0; i++)
		r = time_clone(bench, &out->ours);
	snap_end_template(bench, "cloner");
	return r;
}

int snap_clone(struct snap_bench *bench, const struct snap_case *c, unsigned round,
	       struct snap_pair *out)
{
	return snap_in_turn(bench, c, round, clone_plain, clone_ours, out);
}

/* --- one: until its guest has touched pages --------------------------------------------------- */

/* What the guest of "cloned" says. */
static int hear_clone(struct snap_bench *bench, double *us)
{
	char *argv[] = {"foal", "console", "--run-dir", bench->dir, "cloned", NULL};
	char text[512];
	struct snap_job console;
	const char *at;

	if (snap_start_self(bench, argv, false, &console))
		return -1;
	int r = snap_hear(&console, ".", text, sizeof(text));
	snap_kill(&console);
	at = strrchr(text, '\n');
	*us = (double)strtoull(at ? at + 1 : text, NULL, 16) / bench_tsc_khz() * 1e3;
	return r ? snap_cannot(bench, "a clone's guest does not tell how long it took") : 0;
}

static int touch_plain(struct snap_bench *bench, const struct snap_case *c, struct snap_pair *out)
{
	return time_bare(bench, c->mib, "pool", c->flags & SNAP_HUGE ? "touch-huge" : "touch",
			 &out->plain);
}

static int touch_ours(struct snap_bench *bench, const struct snap_case *c, struct snap_pair *out)
{
	const struct bench_job touching = {.cpus = 1,
					   .serial = 1,
					   .write = 1,
					   .touches = SNAP_TOUCHED,
					   .base = SNAP_TOUCHED_BASE,
					   .clone = 1,
					   .clone_reads = 1000,
					   .clone_writes = 100};
	const char *huge = c->flags & SNAP_HUGE ? "always" : "never";
	double touched = 0;
	json_t *said = NULL;

	if (snap_template(bench, "toucher", &touching, huge, "4", NULL))
		return -1;
	said = snap_clone_of(bench, "toucher", NULL, NULL);
	out->ours = snap_first_run_us(said, 0);
	int r = said ? hear_clone(bench, &touched) : -1;
	if (said)
		snap_stop_vm(bench, "cloned");
	json_decref(said);
	snap_end_template(bench, "toucher");
	out->ours += touched;
	return r;
}

int snap_clone_touch(struct snap_bench *bench, const struct snap_case *c, unsigned round,
		     struct snap_pair *out)
{
	return snap_in_turn(bench, c, round, touch_plain, touch_ours, out);
}
