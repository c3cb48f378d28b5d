/* foal bench snapshots: the rows, the samples in turn, the result. */
#include "vmm/bench_snapshots.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/pre_fault.h"
#include "vmm/series.h"
#include "vmm/vm.h"

#define TOUCHED_MIB 1024

/* --- what is measured ------------------------------------------------------------------ */

static const struct snap_case restore_small = {.measure = snap_restore, .mib = 256, .times = 3};
static const struct snap_case restore_large = {.measure = snap_restore, .mib = 4096, .times = 3};
static const struct snap_case touch_set_cold = {
    .measure = snap_touch, .mib = TOUCHED_MIB, .flags = SNAP_SET | SNAP_COLD};
static const struct snap_case touch_set_warm = {
    .measure = snap_touch, .mib = TOUCHED_MIB, .flags = SNAP_SET};
static const struct snap_case touch_set_huge = {
    .measure = snap_touch, .mib = TOUCHED_MIB, .flags = SNAP_SET | SNAP_HUGE};
static const struct snap_case touch_cold = {
    .measure = snap_touch, .mib = TOUCHED_MIB, .flags = SNAP_ALL | SNAP_COLD};
static const struct snap_case touch_warm = {
    .measure = snap_touch, .mib = TOUCHED_MIB, .flags = SNAP_ALL};
static const struct snap_case lazy_cold = {
    .measure = snap_touch, .mib = TOUCHED_MIB, .flags = SNAP_COLD, .shared = 4};
static const struct snap_case lazy_warm = {.measure = snap_touch, .mib = TOUCHED_MIB, .shared = 4};
static const struct snap_case pause_full = {.measure = snap_pause, .mib = 192};
static const struct snap_case clone_pool = {.measure = snap_clone, .mib = 256, .flags = SNAP_POOL};
static const struct snap_case clone_plain = {.measure = snap_clone, .mib = 256};
static const struct snap_case clone_touch = {.measure = snap_clone_touch, .mib = 256};
static const struct snap_case clone_touch_huge = {
    .measure = snap_clone_touch, .mib = 256, .flags = SNAP_HUGE};
static const struct snap_case clones = {.measure = snap_clones, .mib = 256, .shared = 5};
static const struct snap_case fork_huge = {
    .measure = snap_fork, .mib = TOUCHED_MIB, .shared = 3, .flags = SNAP_HUGE};
static const struct snap_case fork_again = {
    .measure = snap_fork, .mib = TOUCHED_MIB, .shared = 3, .flags = SNAP_HUGE | SNAP_AGAIN};
static const struct snap_case fork_small = {.measure = snap_fork, .mib = TOUCHED_MIB, .shared = 3};
static const struct snap_case reset_few = {.measure = snap_reset, .pages = 8};
static const struct snap_case reset_all = {.measure = snap_reset, .pages = 8, .flags = SNAP_ALL};
static const struct snap_case reset_512 = {.measure = snap_reset, .pages = 512};
static const struct snap_case reset_4096 = {.measure = snap_reset, .pages = 4096};

/*
 * What is to be no more; ALSO: the pair's other value; OWN: its third; CHARGED: its fourth, of
 * which nothing is.
 */
enum bar { NONE, OURS, RATIO, ALSO, OWN, CHARGED };

static const struct {
	const char *name, *unit;
	enum bar bar;
	double most;
	const struct snap_case *of;
} rows[] = {
    {"restore.256M", "us", OURS, 1500, &restore_small},
    {"restore.256M.vs_bare", "us", RATIO, 1.2, &restore_small},
    {"restore.4G.vs_bare", "us", RATIO, 1.2, &restore_large},
    {"restore.touch.set.cold", "ms", RATIO, 0.5, &touch_set_cold},
    {"restore.touch.set.warm", "ms", RATIO, 1.0, &touch_set_warm},
    {"restore.touch.set.warm.huge", "ms", RATIO, 0.5, &touch_set_huge},
    {"restore.touch.cold", "ms", RATIO, 1.0, &touch_cold},
    {"restore.touch.warm", "ms", RATIO, 1.0, &touch_warm},
    {"restore.touch.lazy.cold", "ms", NONE, 0, &lazy_cold},
    {"restore.touch.lazy.warm", "ms", NONE, 0, &lazy_warm},
    {"clone.pool.256M", "us", OURS, 250, &clone_pool},
    {"clone.256M.vs_bare", "us", RATIO, 1.1, &clone_plain},
    {"clone.touch", "us", OURS, 5000, &clone_touch},
    {"clone.touch.huge", "us", OURS, 2000, &clone_touch_huge},
    {"clones.1000.memory", "MiB", RATIO, 1.15, &clones},
    {"clones.1000.charged", "MiB", CHARGED, 0, &clones},
    {"clones.1000.time", "s", ALSO, 2, &clones},
    {"clone.own", "KiB", OWN, 300, &clones},
    {"fork.pause.huge", "ms", OURS, 2, &fork_huge},
    {"fork.pause.huge.again", "ms", OURS, 8, &fork_again},
    {"fork.pause.4K", "ms", RATIO, 1.1, &fork_small},
    {"reset.few", "us", OURS, 60, &reset_few},
    {"reset.few.all", "us", NONE, 0, &reset_all},
    {"reset.512", "us", OURS, 200, &reset_512},
    {"reset.4096", "us", OURS, 2200, &reset_4096},
    {"snapshot.pause", "ms", OURS, 10, &pause_full},
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

struct row {
	struct series ours, plain, cpu, cpu_plain;
	uint64_t faults, brought; /* of the last sample */
	char why[480];		  /* not measured */
};

static bool chosen(const struct bench_options *opt, size_t row)
{
	return !opt->only || fnmatch(opt->only, rows[row].name, 0) == 0;
}

static bool can_pre_fault(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	bool there = kvm >= 0 && pre_fault_can(kvm);

	if (kvm >= 0)
		close(kvm);
	return there;
}

/* Lower with nested paging, and where KVM_PRE_FAULT_MEMORY is. */
static double most(size_t row)
{
	if (rows[row].of == &touch_set_warm && can_pre_fault())
		return 0.5;
	if (rows[row].of == &clone_touch && !kvm_shadows())
		return 3000;
	return rows[row].most;
}

static bool has_bar(size_t row)
{
	return rows[row].bar != NONE && rows[row].bar != CHARGED;
}

static void bar_text(size_t row, char *buf, size_t size)
{
	static const char *const what[] = {
	    [OURS] = "ours", [RATIO] = "ratio", [ALSO] = "ours", [OWN] = "ours"};

	if (!has_bar(row))
		snprintf(buf, size, "none");
	else
		snprintf(buf, size, "%s <= %g", what[rows[row].bar], most(row));
}

int snap_cannot(struct snap_bench *bench, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(bench->why, sizeof(bench->why), fmt, args);
	va_end(args);
	return -1;
}

/* --- the samples -------------------------------------------------------------------------- */

static double value_of(const struct snap_pair *pair, enum bar bar)
{
	return bar == ALSO	? pair->also
	       : bar == OWN	? pair->own
	       : bar == CHARGED ? pair->charged
				: pair->ours;
}

static double plain_of(const struct snap_pair *pair, enum bar bar)
{
	return bar == ALSO	? pair->also_plain
	       : bar == OWN	? 0
	       : bar == CHARGED ? pair->charged_plain
				: pair->plain;
}

static void add_pair(struct row *all, const struct snap_bench *bench, const struct snap_case *c,
		     int r, const struct snap_pair *pair)
{
	for (size_t i = 0; i < ROWS; i++) {
		if (rows[i].of != c || !chosen(bench->opt, i))
			continue;
		if (r) {
			snprintf(all[i].why, sizeof(all[i].why), "%s", bench->why);
			continue;
		}
		if (rows[i].bar == CHARGED && pair->charged <= 0) {
			snprintf(all[i].why, sizeof(all[i].why),
				 "no memory cgroup can be made here");
			continue;
		}
		series_add(&all[i].ours, value_of(pair, rows[i].bar));
		if (plain_of(pair, rows[i].bar) > 0)
			series_add(&all[i].plain, plain_of(pair, rows[i].bar));
		if (pair->cpu > 0) {
			series_add(&all[i].cpu, pair->cpu);
			series_add(&all[i].cpu_plain, pair->cpu_plain);
		}
		all[i].faults = pair->faults;
		all[i].brought = pair->brought;
	}
}

/* Rows of one case stand together, and its first one that is chosen has it measured. */
static bool measures(const struct bench_options *opt, size_t row)
{
	return chosen(opt, row) &&
	       !(row && rows[row - 1].of == rows[row].of && chosen(opt, row - 1));
}

static void run_case(struct snap_bench *bench, struct row *all, size_t row, unsigned round)
{
	const struct snap_case *c = rows[row].of;
	struct snap_pair pair = {0};
	int r;

	if (c->shared && round % c->shared)
		return;
	r = c->measure(bench, c, round, &pair);
	add_pair(all, bench, c, r, &pair);
}

/* 0, or the signal that ended it early. */
static int run_all(struct snap_bench *bench, struct row *all)
{
	unsigned rounds = bench->opt->rounds;
	int signal = 0;

	for (unsigned round = 0; round < rounds && !signal; round++) {
		if (!bench->opt->pages) /* else it is a quick look */
			bench_warm_look(&bench->warm);
		for (size_t row = 0; row < ROWS && !signal; row++) {
			unsigned times = rows[row].of->times ? rows[row].of->times : 1;
			if (!measures(bench->opt, row) || all[row].why[0])
				continue;
			bench_progress(round, rounds, rows[row].name);
			for (unsigned n = 0; n < times && !signal && !all[row].why[0]; n++) {
				run_case(bench, all, row, round * times + n);
				signal = bench_signal_came();
			}
		}
	}
	bench_progress(0, 0, NULL);
	return signal;
}

/* --- the result ---------------------------------------------------------------------------- */

static bool measured(const struct row *row, size_t i)
{
	return row->ours.count && (rows[i].bar != RATIO || row->plain.count);
}

/* -1: there is no bar, or nothing was measured. */
static int holds(struct row *row, size_t i)
{
	double ours = series_at(&row->ours, 0.5), plain = series_at(&row->plain, 0.5);

	if (!measured(row, i) || !has_bar(i))
		return -1;
	return (rows[i].bar == RATIO ? ours / plain : ours) <= most(i);
}

static void print(struct row *all, const struct bench_options *opt)
{
	for (size_t i = 0; i < ROWS; i++) {
		char bar[32];
		int held = holds(&all[i], i);
		if (!chosen(opt, i))
			continue;
		bar_text(i, bar, sizeof(bar));
		if (!measured(&all[i], i)) {
			printf("%-39s not measured: %s; bar %s\n", rows[i].name,
			       all[i].why[0] ? all[i].why : "--bare FILE was not given", bar);
			continue;
		}
		series_print(stdout, rows[i].name, rows[i].unit, &all[i].ours, &all[i].plain, bar);
		if (all[i].cpu.count)
			printf(", of CPU time %.2f, %llu events",
			       series_at(&all[i].cpu, 0.5) / series_at(&all[i].cpu_plain, 0.5),
			       (unsigned long long)all[i].faults);
		puts(held < 0 ? "" : held ? ": holds" : ": does NOT hold");
	}
}

static json_t *to_json(struct row *all, const struct snap_bench *bench, double seconds)
{
	const struct bench_options *opt = bench->opt;
	json_t *list = json_array();

	for (size_t i = 0; i < ROWS; i++) {
		char bar[32];
		int held = holds(&all[i], i);
		if (!chosen(opt, i))
			continue;
		bar_text(i, bar, sizeof(bar));
		json_t *row =
		    series_json(rows[i].name, rows[i].unit, &all[i].ours, &all[i].plain, bar);
		json_object_set_new(row, "holds", held < 0 ? json_null() : json_boolean(held));
		json_object_set_new(row, "rounds", json_integer(all[i].ours.count));
		if (!measured(&all[i], i))
			json_object_set_new(
			    row, "not_measured",
			    json_string(all[i].why[0] ? all[i].why : "--bare FILE was not given"));
		if (all[i].cpu.count)
			json_object_update_new(
			    row,
			    json_pack("{s:f,s:f,s:I,s:I}", "cpu_ms", series_at(&all[i].cpu, 0.5),
				      "cpu_ms_plain", series_at(&all[i].cpu_plain, 0.5), "faults",
				      (json_int_t)all[i].faults, "brought",
				      (json_int_t)all[i].brought));
		json_array_append_new(list, row);
	}
	return json_pack("{s:o,s:f,s:o}", "rows", list, "seconds", seconds, "memory",
			 bench_warm_json(&bench->warm));
}

void bench_snapshots_list(const struct bench_options *opt)
{
	char bar[32];

	for (size_t i = 0; i < ROWS; i++) {
		if (!chosen(opt, i))
			continue;
		bar_text(i, bar, sizeof(bar));
		printf("%-39s %-4s bar %s\n", rows[i].name, rows[i].unit, bar);
	}
}

/* --- all ------------------------------------------------------------------------------------ */

static void close_all(const struct snap_bench *bench)
{
	const int fds[] = {bench->memory, bench->index, bench->set};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	snap_dir_remove(bench);
}

static int measure_and_tell(struct snap_bench *bench, struct row *all, FILE *json,
			    struct foal_error *err)
{
	const struct bench_options *opt = bench->opt;
	sigset_t ending = bench_signals();
	uint64_t start = now_ns();
	int r = 0, came;

	sigprocmask(SIG_BLOCK, &ending, NULL);
	came = run_all(bench, all);
	close_all(bench);
	sigprocmask(SIG_UNBLOCK, &ending, NULL);
	double seconds = (double)(now_ns() - start) / 1e9;
	if (json != stdout) {
		print(all, opt);
		printf("took %.0f s\n", seconds);
	}
	if (json)
		r = bench_write_json(to_json(all, bench, seconds), json, opt->json, err);
	return came && r == 0 ? bench_interrupted(came, err) : r;
}

static int prepare(struct snap_bench *bench, FILE **json, struct foal_error *err)
{
	bool any = false;
	int r;

	for (size_t i = 0; i < ROWS; i++)
		any |= chosen(bench->opt, i);
	if (!any)
		return error_set(err, FOAL_EXIT_USAGE, -EINVAL,
				 "bench: --only %s: no row has such a name; see --list",
				 bench->opt->only);
	r = bench_check_host(err);
	if (r == 0 && bench->opt->json)
		r = bench_open_json(bench->opt->json, json, err);
	return r ? r : snap_dir_make(bench, err);
}

int bench_snapshots_measure(const struct bench_options *opt, unsigned *broken,
			    struct foal_error *err)
{
	struct snap_bench bench = {.opt = opt, .memory = -1, .index = -1, .set = -1};
	struct row *all = calloc(ROWS, sizeof(*all));
	FILE *json = NULL;
	int r;

	if (!all)
		return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "bench: out of memory");
	signal(SIGXFSZ, SIG_IGN); /* a file may not grow: EFBIG */
	signal(SIGPIPE, SIG_IGN); /* a VM that ended does not read */
	r = prepare(&bench, &json, err);
	if (r == 0)
		r = measure_and_tell(&bench, all, json, err);
	for (size_t i = 0; i < ROWS && r == 0; i++)
		*broken += chosen(opt, i) && holds(&all[i], i) == 0;
	free(all);
	if (json && json != stdout && fclose(json) && r == 0)
		r = error_set(err, FOAL_EXIT_DISK, -errno, "bench: %s: %s", opt->json,
			      strerror(errno));
	return r;
}
