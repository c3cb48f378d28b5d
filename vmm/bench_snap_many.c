/* Rows of a thousand clones: what memory they take, and how long they take to begin. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/bench_snapshots.h"
#include "vmm/vm.h"

#define GONE_MS	   60000
/* --pages: a quick look. */
#define CLONES	   1000
#define CLONES_FEW 8
/*
 * Memory has come to rest if it changes by no more than REST_MIB from one look to the next. Linux
 * adds its counts up once a second (vm.stat_interval), so looks are further apart; and it destroys
 * killed VMs one after another, of which it manages 25 a second: 40 s for a thousand.
 */
#define LOOK_MS	   2500
#define REST_MIB   8
#define REST_MS	   120000

static unsigned clone_count(const struct snap_bench *bench)
{
	return bench->opt->pages ? CLONES_FEW : CLONES;
}

/* Memory that the host could give away. */
static double available_mib(void)
{
	return (double)bench_host_available() / (1 << 20);
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
	} while ((now > last + REST_MIB || now < last - REST_MIB) && now_ns() < until);
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

/* A group that @pid is in, and who it forks; empty where none can be made. */
static void count_in(char group[BENCH_GROUP_PATH], pid_t pid)
{
	group[0] = 0;
	if (bench_group_make(group, 0) && (pid <= 0 || bench_group_enter(group, pid)))
		bench_group_remove(group);
}

static int weigh_clones(struct snap_bench *bench, const char *group, struct snap_pair *out)
{
	char count[16];
	double before = rested_mib(bench), last = 0, charged = bench_group_mib(group);
	unsigned asked = clone_count(bench), run = 0;
	bool failed;

	snprintf(count, sizeof(count), "%u", asked);
	json_t *said = snap_clone_of(bench, "many", count, &failed);

	for (size_t i = 0; i < json_array_size(json_object_get(said, "forks")); i++) {
		double us = snap_first_run_us(said, i);
		run += us > 0;
		last = us > last ? us : last;
	}
	if (!failed) {
		out->ours = before - rested_mib(bench);
		out->charged = bench_group_mib(group) - charged;
	}
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
	char count[16], group[BENCH_GROUP_PATH];
	double before, charged, us = 0;
	struct snap_job job;

	if (!bench->opt->bare)
		return 0;
	snprintf(count, sizeof(count), "%u", clone_count(bench));
	before = rested_mib(bench); /* what was killed before it gives back for some time */
	int r = snap_start_bare(bench, mib, "clones", count, &job);
	count_in(group, job.pid);
	charged = bench_group_mib(group);
	if (r == 0)
		r = snap_time_bare(&job, &us);
	out->plain = before - rested_mib(bench);
	out->charged_plain = bench_group_mib(group) - charged;
	out->also_plain = us / 1e6;
	r = snap_end_bare(bench, &job, r);
	bench_group_remove(group);
	return r;
}

int snap_clones(struct snap_bench *bench, const struct snap_case *c, unsigned round,
		struct snap_pair *out)
{
	const struct bench_job job = {.cpus = 1,
				      .serial = 1,
				      .write = 1,
				      .touches = SNAP_TOUCHED,
				      .base = SNAP_TOUCHED_BASE,
				      .clone = 1,
				      .clone_writes = 10};
	char group[BENCH_GROUP_PATH];
	pid_t template;
	int r = snap_template(bench, "many", &job, "auto", "0", &template);

	(void)round;
	if (r)
		return r;
	count_in(group, template);
	r = weigh_clones(bench, group, out);
	snap_end_template(bench, "many");
	bench_group_remove(group);
	return r ? r : weigh_bare(bench, c->mib, out);
}
