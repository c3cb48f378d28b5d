/* The samples in turn, and where the result goes. */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/bench.h"
#include "vmm/kvm.h"
#include "vmm/run.h"
#include "vmm/vm.h"

bool bench_chosen(const struct bench_options *opt, const struct bench_case *c)
{
	if (c->exits != opt->exits || c->replayed)
		return false;
	if (opt->only && fnmatch(opt->only, c->name, 0))
		return false;
	return !c->detail || opt->detail || opt->only;
}

struct bench {
	const struct bench_options *opt;
	struct bench_report *report;
	struct bench_swap swap;
	struct bench_warm warm;
	int file, long_file; /* -1: no case needs it */
	int swap_file;
};

static bool in_long_file(const struct bench_case *c)
{
	return c->backing != BENCH_ANON && c->mib > BENCH_FILE_MIB;
}

static void run_side(struct bench *bench, struct bench_sample *sample, struct bench_result *result)
{
	bool swaps = sample->c->other == BENCH_HOST_SWAP && !sample->ours;

	bench_warm(&bench->warm, sample);
	sample->group = swaps ? bench->swap.group : "";
	if (sample->c->other == BENCH_ONE_VM) {
		bench_many_run(sample, result);
	} else if (swaps && bench->swap.why[0]) {
		*result = (struct bench_result){.status = FOAL_EXIT_HOST};
		snprintf(result->why, sizeof(result->why), "%s", bench->swap.why);
	} else {
		bench_sample_run(sample, result);
	}
}

/* The other side of the case as a sample. */
static struct bench_sample other_side(struct bench_sample ours)
{
	if (ours.c->other == BENCH_ONE_CPU)
		ours.cpus = 1;
	else if (ours.c->other == BENCH_NO_LOG)
		ours.unlogged = true;
	else
		ours.ours = false;
	return ours;
}

static void run_case(struct bench *bench, const struct bench_case *c, unsigned round)
{
	struct bench_sample ours = {.c = c,
				    .ours = !c->plain,
				    .cpus = c->cpus,
				    .trace = "",
				    .file = in_long_file(c) ? bench->long_file : bench->file,
				    .swap = bench->swap_file,
				    .limit = bench->opt->pages};
	struct bench_sample other = other_side(ours);
	struct bench_result result = {0}, other_result = {0};

	if (c->other == BENCH_NOBODY) {
		run_side(bench, &ours, &result);
		bench_report_add(bench->report, c, &result, NULL);
		return;
	}
	/* Who goes first changes, and a side that cannot be measured spares the other. */
	if (round % 2)
		run_side(bench, &other, &other_result);
	if (!other_result.status)
		run_side(bench, &ours, &result);
	if (!(round % 2) && !result.status)
		run_side(bench, &other, &other_result);
	bench_report_add(bench->report, c, &result, &other_result);
}

void bench_progress(unsigned round, unsigned rounds, const char *name)
{
	if (!isatty(STDERR_FILENO))
		return;
	if (name)
		fprintf(stderr, "\r\033[Kround %u of %u: %s", round + 1, rounds, name);
	else
		fputs("\r\033[K", stderr);
}

sigset_t bench_signals(void)
{
	sigset_t set = ending_signals();

	sigaddset(&set, SIGUSR1); /* a run's own */
	return set;
}

int bench_signal_came(void)
{
	const struct timespec at_once = {0};
	sigset_t set = bench_signals();
	int signal = sigtimedwait(&set, NULL, &at_once);

	return signal > 0 ? signal : 0;
}

/* 0, or the signal that ended it early. */
static int run_all(struct bench *bench)
{
	const struct bench_options *opt = bench->opt;
	unsigned detail_rounds = (opt->rounds + BENCH_DETAIL_SHARE - 1) / BENCH_DETAIL_SHARE;
	int signal = 0;

	for (unsigned round = 0; round < opt->rounds && !signal; round++) {
		if (!opt->pages) /* else it is a quick look */
			bench_warm_look(&bench->warm);
		for (size_t i = 0; i < bench_case_count && !signal; i++) {
			const struct bench_case *c = &bench_cases[i];
			if (!bench_chosen(opt, c) || (c->detail && round >= detail_rounds))
				continue;
			bench_progress(round, opt->rounds, c->name);
			unsigned times = c->pairs ? c->pairs : 1;
			for (unsigned n = 0; n < times && !signal; n++) {
				run_case(bench, c, round + n);
				signal = bench_signal_came();
			}
		}
	}
	bench_progress(0, 0, NULL);
	return signal;
}

/* --- the result ------------------------------------------------------------------------------- */

int bench_open_json(const char *path, FILE **out, struct foal_error *err)
{
	int fd = path[0] ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666) : -1;

	*out = !path[0] ? stdout : fd < 0 ? NULL : fdopen(fd, "w");
	return *out
		   ? 0
		   : error_set(err, FOAL_EXIT_DISK, -errno, "bench: %s: %s", path, strerror(errno));
}

int bench_write_json(json_t *root, FILE *out, const char *path, struct foal_error *err)
{
	bool file = out != stdout;
	/* EINVAL: a pipe or a device. */
	int r = file && ftruncate(fileno(out), 0) && errno != EINVAL;

	r = r || json_dumpf(root, out, JSON_INDENT(2));
	json_decref(root);
	if (r || fputc('\n', out) == EOF || fflush(out))
		return error_set(err, FOAL_EXIT_DISK, -EIO, "bench: %s: %s",
				 file ? path : "standard output", strerror(errno));
	return 0;
}

int bench_check_host(struct foal_error *err)
{
	return kvm_try(err);
}

static bool in_file(const struct bench_case *c)
{
	return c->backing != BENCH_ANON && !in_long_file(c);
}

static bool swaps(const struct bench_case *c)
{
	return c->other == BENCH_HOST_SWAP;
}

/* Is any case measured of which @is says so? NULL: any at all. */
static bool any_chosen(const struct bench_options *opt, bool (*is)(const struct bench_case *c))
{
	for (size_t i = 0; i < bench_case_count; i++)
		if (bench_chosen(opt, &bench_cases[i]) && (!is || is(&bench_cases[i])))
			return true;
	return false;
}

static int create_files(struct bench *bench, struct foal_error *err)
{
	const struct bench_options *opt = bench->opt;

	if (any_chosen(opt, in_file)) {
		bench->file = bench_file_create(opt->dir, BENCH_FILE_MIB, err);
		if (bench->file < 0)
			return -EIO;
	}
	if (any_chosen(opt, in_long_file)) {
		bench->long_file = bench_file_create(opt->dir, BENCH_LONG_FILE_MIB, err);
		if (bench->long_file < 0)
			return -EIO;
	}
	bench->swap_file = bench_file_empty(opt->dir, err);
	return bench->swap_file < 0 ? -EIO : 0;
}

/* Everything that may be missing is looked for before anything is measured. */
static int open_all(struct bench *bench, FILE **json, struct foal_error *err)
{
	const struct bench_options *opt = bench->opt;

	if (!any_chosen(opt, NULL))
		return error_set(err, FOAL_EXIT_USAGE, -EINVAL,
				 "bench: --only %s: no row has such a name; see --list%s",
				 opt->only, opt->exits ? "" : " --detail");
	int r = bench_check_host(err);
	if (r == 0 && opt->json)
		r = bench_open_json(opt->json, json, err);
	return r ? r : create_files(bench, err);
}

int bench_interrupted(int signal, struct foal_error *err)
{
	err->status = FOAL_EXIT_SIGNAL + signal;
	snprintf(err->text, sizeof(err->text),
		 "bench: ended by signal %d (%s), not all is measured", signal, strsignal(signal));
	return -EINTR;
}

static int measure_and_tell(struct bench *bench, FILE *json, struct foal_error *err)
{
	const struct bench_options *opt = bench->opt;
	sigset_t ending = bench_signals();
	uint64_t start = now_ns();
	int signal, r = 0;

	sigprocmask(SIG_BLOCK, &ending, NULL);
	if (any_chosen(opt, swaps))
		bench_swap_begin(&bench->swap, opt->dir, opt->host_swap,
				 (uint64_t)BENCH_LIMIT_MIB << 20);
	signal = run_all(bench);
	bench_swap_end(&bench->swap);
	bench_report_ended(bench->report, &bench->warm, (double)(now_ns() - start) / 1e9);
	sigprocmask(SIG_UNBLOCK, &ending, NULL);
	if (json != stdout)
		bench_report_print(bench->report);
	if (json)
		r = bench_write_json(bench_report_json(bench->report), json, opt->json, err);
	return signal && r == 0 ? bench_interrupted(signal, err) : r;
}

int bench_measure(const struct bench_options *opt, unsigned *broken, struct foal_error *err)
{
	struct bench bench = {.opt = opt, .file = -1, .long_file = -1, .swap_file = -1};
	FILE *json = NULL;

	signal(SIGXFSZ, SIG_IGN); /* a file may not grow: EFBIG */
	int r = open_all(&bench, &json, err);

	if (r == 0) {
		bench.report = bench_report_new();
		r = bench.report ? measure_and_tell(&bench, json, err)
				 : error_set(err, FOAL_EXIT_HOST, -ENOMEM, "bench: out of memory");
	}
	if (r == 0)
		*broken = bench_report_broken(bench.report);
	bench_report_free(bench.report);
	if (json && json != stdout && fclose(json) && r == 0)
		r = error_set(err, FOAL_EXIT_DISK, -errno, "bench: %s: %s", opt->json,
			      strerror(errno));
	if (bench.file >= 0)
		close(bench.file);
	if (bench.swap_file >= 0)
		close(bench.swap_file);
	if (bench.long_file >= 0)
		close(bench.long_file);
	return r;
}
