/*
 * Rows of clones: a VM with the bench's guest becomes a template and ends, then its clones are
 * timed and weighed.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/bench_snapshots.h"
#include "vmm/bench_vm.h"
#include "vmm/vm.h"

/* Of SMALL: pages that were touched before, 64 MiB. */
#define SMALL	     "256M"
#define TOUCHED_BASE 0x4000000UL
#define TOUCHED	     16384
#define GONE_MS	     60000
/* --pages: a quick look. */
#define CLONES	     1000
#define CLONES_FEW   8
/* Memory has come to rest if it changes by no more than 1 MiB from one look to the next. */
#define LOOK_MS	     500
#define REST_MS	     20000

/* --- a template ------------------------------------------------------------------------------ */

/* NAME.template, of a VM with SMALL memory whose guest did @job; nothing else is left of it. */
static int make_template(struct snap_bench *bench, const char *name, const struct bench_job *job,
			 const char *huge, const char *pool)
{
	char *argv[] = {"foal",	  "template",	"--run-dir",  bench->dir, "--json",
			"--pool", (char *)pool, (char *)name, NULL};
	struct snap_job vm;
	json_t *said;

	if (snap_start_guest(bench, name, job, SMALL, huge, &vm))
		return -1;
	said = snap_ask(bench, argv);
	json_decref(said);
	snap_kill(&vm);
	return said ? 0 : -1;
}

static void end_template(struct snap_bench *bench, const char *name)
{
	char template[64];

	snprintf(template, sizeof(template), "%s.template", name);
	snap_stop_vm(bench, template);
}

static unsigned clone_count(const struct snap_bench *bench)
{
	return bench->opt->pages ? CLONES_FEW : CLONES;
}

/*
 * What foal clone says of @count clones, called "cloned" (one), cloned-1, cloned-2, ...; with
 * *@failed (NULL: it says nothing then) of those that run, too.
 */
static json_t *clone_vm(struct snap_bench *bench, const char *name, const char *count, bool *failed)
{
	char template[64];
	char *pattern = count ? "cloned-%" : "cloned";
	char *argv[] = {"foal",	 "clone",  "--run-dir",		bench->dir,    "--json", "--name",
			pattern, template, count ? "-n" : NULL, (char *)count, NULL};

	snprintf(template, sizeof(template), "%s.template", name);
	return failed ? snap_ask_all(bench, argv, failed) : snap_ask(bench, argv);
}

static double first_run_us(const json_t *said, size_t clone)
{
	const json_t *one = json_array_get(json_object_get(said, "forks"), clone);

	return snap_number(one, "first_run_ns") / 1e3;
}

/* --- one: to the first KVM_RUN ---------------------------------------------------------------- */

static int time_clone(struct snap_bench *bench, double *us)
{
	json_t *said = clone_vm(bench, "cloner", NULL, NULL);

	*us = first_run_us(said, 0);
	json_decref(said);
	if (said)
		snap_stop_vm(bench, "cloned");
	return *us > 0 ? 0 : snap_cannot(bench, "foal clone does not say when it ran");
}

/*
 * The bare program as @what, @how (NULL: nothing more): from the byte that asks for it to the
 * moment that it says, as ours counts from the request. It goes on; 0 without --bare.
 */
static int start_bare(struct snap_bench *bench, unsigned mib, const char *what, const char *how,
		      struct snap_job *job, double *us)
{
	char text[64], size[16];
	char *argv[] = {"bare_kvm", size, (char *)what, (char *)how, NULL};
	uint64_t asked;

	snprintf(size, sizeof(size), "%u", mib);
	if (snap_start(bench, bench->opt->bare, argv, false, job))
		return -1;
	int r = snap_hear(job, "\n", text, sizeof(text));
	asked = now_ns();
	if (r == 0 && write(job->in, "x", 1) != 1)
		r = -1;
	if (r == 0)
		r = snap_hear(job, "\n", text, sizeof(text));
	*us = (double)(strtoull(text, NULL, 10) - asked) / 1000;
	return r;
}

static int end_bare(struct snap_bench *bench, struct snap_job *job, int r)
{
	return snap_finish(job) || r ? snap_cannot(bench, "%s failed", bench->opt->bare) : 0;
}

static int time_bare(struct snap_bench *bench, unsigned mib, const char *what, const char *how,
		     double *us)
{
	struct snap_job job;

	if (!bench->opt->bare)
		return 0;
	return end_bare(bench, &job, start_bare(bench, mib, what, how, &job, us));
}

static int time_clones(struct snap_bench *bench, bool pool, double *us)
{
	const struct bench_job small = {
	    .cpus = 1, .serial = 1, .write = 1, .touches = 1, .base = RAM_BASE - EPT_PAGE_SIZE};
	int r = make_template(bench, "cloner", &small, "auto", pool ? "4" : "0");

	if (r)
		return r;
	r = time_clone(bench, us);
	/* By the third one the pool has been filled. */
	for (int i = 0; i < 2 && pool && r == 0; i++)
		r = time_clone(bench, us);
	end_template(bench, "cloner");
	return r;
}

int snap_clone(struct snap_bench *bench, const struct snap_case *c, unsigned round,
	       struct snap_pair *out)
{
	bool pool = c->flags & SNAP_POOL;
	const char *what = pool ? "pool" : "clone";
	int r = 0;

	if (round % 2)
		r = time_bare(bench, c->mib, what, NULL, &out->plain);
	if (r == 0)
		r = time_clones(bench, pool, &out->ours);
	if (r == 0 && !(round % 2))
		r = time_bare(bench, c->mib, what, NULL, &out->plain);
	return r;
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

static int time_touching(struct snap_bench *bench, const char *huge, double *us)
{
	const struct bench_job touching = {.cpus = 1,
					   .serial = 1,
					   .write = 1,
					   .touches = TOUCHED,
					   .base = TOUCHED_BASE,
					   .clone = 1,
					   .clone_reads = 1000,
					   .clone_writes = 100};
	double touched = 0;
	json_t *said = NULL;

	if (make_template(bench, "toucher", &touching, huge, "4"))
		return -1;
	said = clone_vm(bench, "toucher", NULL, NULL);
	*us = first_run_us(said, 0);
	int r = said ? hear_clone(bench, &touched) : -1;
	if (said)
		snap_stop_vm(bench, "cloned");
	json_decref(said);
	end_template(bench, "toucher");
	*us += touched;
	return r;
}

int snap_clone_touch(struct snap_bench *bench, const struct snap_case *c, unsigned round,
		     struct snap_pair *out)
{
	bool huge = c->flags & SNAP_HUGE;
	const char *how = huge ? "touch-huge" : "touch";
	int r = 0;

	if (round % 2)
		r = time_bare(bench, c->mib, "pool", how, &out->plain);
	if (r == 0)
		r = time_touching(bench, huge ? "always" : "never", &out->ours);
	if (r == 0 && !(round % 2))
		r = time_bare(bench, c->mib, "pool", how, &out->plain);
	return r;
}

/* --- a thousand ------------------------------------------------------------------------------- */

/* Memory that the host could give away, in MiB. */
static double available_mib(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	char line[128];
	unsigned long long kib = 0;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return (double)kib / 1024;
}

/*
 * The same, once guests have done what they begin with; where others never rest, after
 * REST_MS. A quick look takes one.
 */
static double rested_mib(const struct snap_bench *bench)
{
	uint64_t until = now_ns() + (bench->opt->pages ? 0 : REST_MS * 1000000ULL);
	double last, now = available_mib();

	do {
		last = now;
		poll(NULL, 0, LOOK_MS);
		now = available_mib();
	} while ((now > last + 1 || now < last - 1) && now_ns() < until);
	return now;
}

/* All at once, and wait until they are gone. */
static int end_clones(struct snap_bench *bench, const json_t *said)
{
	const json_t *list = json_object_get(said, "forks");
	uint64_t until = now_ns() + GONE_MS * 1000000ULL;

	for (size_t i = 0; i < json_array_size(list); i++) {
		pid_t pid = (pid_t)snap_number(json_array_get(list, i), "pid");
		if (pid > 1)
			kill(pid, SIGKILL);
	}
	for (size_t i = 0; i < json_array_size(list); i++) {
		pid_t pid = (pid_t)snap_number(json_array_get(list, i), "pid");
		while (pid > 1 && kill(pid, 0) == 0 && now_ns() < until)
			poll(NULL, 0, 10);
	}
	return now_ns() < until ? 0 : snap_cannot(bench, "killed clones do not end");
}

/* Why the first of those did not that did not. */
static const char *not_run(const json_t *said)
{
	const json_t *one;
	size_t i;

	json_array_foreach(json_object_get(said, "forks"), i, one)
	{
		const char *why = json_string_value(json_object_get(one, "message"));
		if (why)
			return why;
	}
	return "foal clone does not say why";
}

/* KiB that only @pid has, of what its process has mapped (proc(5), smaps_rollup). */
static double private_kib(pid_t pid)
{
	char path[64], line[128];
	unsigned long long kib, sum = 0;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Private_Clean: %llu", &kib) == 1 ||
		    sscanf(line, "Private_Dirty: %llu", &kib) == 1)
			sum += kib;
	if (f)
		fclose(f);
	return (double)sum;
}

static double mean_private_kib(const json_t *said)
{
	const json_t *list = json_object_get(said, "forks");
	size_t count = json_array_size(list);
	double sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += private_kib((pid_t)snap_number(json_array_get(list, i), "pid"));
	return count ? sum / (double)count : 0;
}

static int weigh_clones(struct snap_bench *bench, struct snap_pair *out)
{
	char count[16];
	double before = rested_mib(bench), last = 0;
	unsigned asked = clone_count(bench), run = 0;
	bool failed;

	snprintf(count, sizeof(count), "%u", asked);
	json_t *said = clone_vm(bench, "many", count, &failed);

	for (size_t i = 0; i < json_array_size(json_object_get(said, "forks")); i++) {
		double us = first_run_us(said, i);
		run += us > 0;
		last = us > last ? us : last;
	}
	if (!failed)
		out->ours = before - rested_mib(bench);
	out->own = mean_private_kib(said);
	out->also = last / 1e6;
	int r = said ? end_clones(bench, said) : -1;
	if (said && run < asked)
		r = snap_cannot(bench, "%u of %u clones ran: %s", run, asked, not_run(said));
	else if (failed)
		r = -1;
	json_decref(said);
	return r;
}

/* So many processes of the bare program, each with such a VM that has run. */
static int weigh_bare(struct snap_bench *bench, unsigned mib, struct snap_pair *out)
{
	char count[16];
	double before, us = 0;
	struct snap_job job;

	if (!bench->opt->bare)
		return 0;
	snprintf(count, sizeof(count), "%u", clone_count(bench));
	before = rested_mib(bench); /* what was killed before it gives back for some time */
	int r = start_bare(bench, mib, "clones", count, &job, &us);
	out->plain = before - rested_mib(bench);
	out->also_plain = us / 1e6;
	return end_bare(bench, &job, r);
}

int snap_clones(struct snap_bench *bench, const struct snap_case *c, unsigned round,
		struct snap_pair *out)
{
	const struct bench_job job = {.cpus = 1,
				      .serial = 1,
				      .write = 1,
				      .touches = TOUCHED,
				      .base = TOUCHED_BASE,
				      .clone = 1,
				      .clone_writes = 10};
	int r = make_template(bench, "many", &job, "auto", "0");

	(void)round;
	if (r)
		return r;
	r = weigh_clones(bench, out);
	end_template(bench, "many");
	return r ? r : weigh_bare(bench, c->mib, out);
}
