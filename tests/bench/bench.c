/*
 * make bench: what a start costs, beside the plain alternative in the same
 * run. Writes a table to stdout, and its rows (vmm/series.h), behind those of
 * `foal bench faults`, `foal bench snapshots`, `foal bench exits` and fault_log, to the file
 * named last.
 *
 *   bench FOAL BARE_KVM EXIT_GUEST KERNEL DISK PMEM FAULTS.json SNAPSHOTS.json EXITS.json LOG.json
 *	   OUT.json
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/series.h"

#define ROUNDS	    41
#define MAIN_ROUNDS 3
#define MAX_OUTPUT  (1 << 20)

static volatile uint64_t exec_ns_of_child;

/*
 * Start argv with its stdout into @fds. vfork shares our memory, so the child
 * can leave the moment of its exec in a variable of ours.
 */
static pid_t spawn(char *const argv[], const int fds[2])
{
	fflush(stdout);
	/* NOLINTBEGIN(clang-analyzer-*fork): what the child does is what vfork is here for */
	pid_t pid = vfork();
	if (pid == 0) {
		dup2(fds[1], STDOUT_FILENO);
		int null = open("/dev/null", O_RDWR);
		dup2(null, STDIN_FILENO);
		dup2(null, STDERR_FILENO);
		close(fds[0]);
		close(fds[1]);
		exec_ns_of_child = now_ns();
		execv(argv[0], argv);
		_exit(127);
	}
	/* NOLINTEND(clang-analyzer-*fork) */
	return pid;
}

/* Run argv to its end, its stdout into @out; returns the moment of exec. */
static uint64_t run(char *const argv[], char *out, size_t size, int *status)
{
	int fds[2];
	size_t used = 0;
	ssize_t n;

	if (pipe(fds))
		die("pipe");
	pid_t pid = spawn(argv, fds);
	if (pid < 0)
		die("vfork");
	close(fds[1]);
	while (used < size - 1 && (n = read(fds[0], out + used, size - 1 - used)) > 0)
		used += (size_t)n;
	out[used] = 0;
	close(fds[0]);
	waitpid(pid, status, 0);
	return exec_ns_of_child;
}

static double number(json_t *root, const char *object, const char *field)
{
	json_t *v = json_object_get(json_object_get(root, object), field);

	if (!json_is_number(v))
		die("foal's JSON lacks a field");
	return json_number_value(v);
}

/* One foal run with JSON statistics; the caller frees the result. */
static json_t *run_foal(char *const argv[], uint64_t *exec_ns)
{
	static char out[MAX_OUTPUT];
	json_error_t error;
	int status;

	*exec_ns = run(argv, out, sizeof(out), &status);
	json_t *root = json_loads(out, 0, &error);
	if (!root || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		die("a foal run failed; try its command by hand");
	return root;
}

static void start_foal(char *foal, char *guest, char *memory, struct series *us,
		       struct series *resident)
{
	char *argv[] = {foal,	"run",	   "--kernel", guest, "--memory",
			memory, "--stats", "json",     NULL};
	uint64_t exec_ns;
	json_t *root = run_foal(argv, &exec_ns);

	series_add(us, (number(root, "start", "first_run_ns") - (double)exec_ns) / 1000);
	series_add(resident, number(root, "resident", "monitor") / 1024);
	json_decref(root);
}

static void start_bare(char *bare, char *mebibytes, struct series *us)
{
	char *argv[] = {bare, mebibytes, NULL};
	char out[64];
	int status;
	uint64_t exec_ns = run(argv, out, sizeof(out), &status);

	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		die("bare_kvm failed");
	series_add(us, ((double)strtoull(out, NULL, 10) - (double)exec_ns) / 1000);
}

static void bench_start(char **args, json_t *rows)
{
	struct series ours[2] = {0}, bare[2] = {0}, resident[2] = {0};

	for (int i = 0; i < ROUNDS; i++) {
		start_foal(args[0], args[2], "256M", &ours[0], &resident[0]);
		start_bare(args[1], "256", &bare[0]);
		start_foal(args[0], args[2], "4G", &ours[1], &resident[1]);
		start_bare(args[1], "4096", &bare[1]);
	}
	series_row(rows, "start.256M", "us", &ours[0], &bare[0], "ours <= 2000");
	series_row(rows, "start.256M.vs_bare", "us", &ours[0], &bare[0], "ratio <= 1.5");
	series_row(rows, "start.4G.vs_bare", "us", &ours[1], &bare[1], "ratio <= 1.5");
	series_row(rows, "resident.monitor.256M", "KiB", &resident[0], NULL, "ours <= 4096");
	series_row(rows, "resident.monitor.4G", "KiB", &resident[1], NULL, "ours <= 4096");
}

static void bench_main_job(char **args, json_t *rows)
{
	char *argv[] = {args[0], "run",	     "--kernel", args[3],   "--disk", args[4], "--pmem",
			args[5], "--append", "quiet",	 "--stats", "json",   NULL};
	struct series seconds = {0}, resident = {0};

	for (int i = 0; i < MAIN_ROUNDS; i++) {
		uint64_t exec_ns;
		json_t *root = run_foal(argv, &exec_ns);
		series_add(&seconds, (number(root, "start", "end_ns") - (double)exec_ns) / 1e9);
		series_add(&resident, number(root, "resident", "monitor") / 1024);
		json_decref(root);
	}
	series_row(rows, "main_job", "s", &seconds, NULL, "ours <= 20");
	series_row(rows, "resident.monitor.main_job", "KiB", &resident, NULL, "ours <= 4096");
}

static json_t *rows_of(const char *path)
{
	json_t *root = json_load_file(path, 0, NULL);
	json_t *rows = json_incref(json_object_get(root, "rows"));

	if (!json_is_array(rows))
		die("%s: no rows of foal bench", path);
	json_decref(root);
	return rows;
}

int main(int argc, char **argv)
{
	if (argc != 13)
		die("usage: bench FOAL BARE_KVM EXIT_GUEST KERNEL DISK PMEM FAULTS.json "
		    "SNAPSHOTS.json EXITS.json LOG.json REPLAY.json OUT.json");
	json_t *rows = rows_of(argv[7]);
	for (int i = 8; i < 12; i++) {
		json_t *more = rows_of(argv[i]);

		json_array_extend(rows, more);
		json_decref(more);
	}
	bench_start(argv + 1, rows);
	bench_main_job(argv + 1, rows);
	series_write(rows, argv[12]);
	return 0;
}
