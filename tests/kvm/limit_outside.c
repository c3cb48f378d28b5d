/*
 * The memory limit as the host sees it: /proc of a VM that stands still, and not what foal
 * counts itself.
 */
#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

#define LIMIT  (16UL << 20)
#define PAGES  8192U /* 32 MiB */
#define PAGE   4096UL

/*
 * What grows with a guest and is not its memory (docs/reclaim.md): the mirror, the ring, a
 * byte a page of the swap file, the batch on its way there; stacks and what compressing needs.
 */
#define BESIDE (256UL << 10)

/* Bytes that only the process has. Huge pages among them are the monitor's: a guest has none. */
static uint64_t own_bytes(pid_t pid)
{
	char path[64], line[256];
	uint64_t own = 0, huge = 0, kib;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	f = fopen(path, "r");
	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "Anonymous: %lu", &kib) == 1)
			own = kib << 10;
		else if (sscanf(line, "AnonHugePages: %lu", &kib) == 1)
			huge = kib << 10;
	}
	fclose(f);
	ck_assert_uint_gt(own, huge);
	return own - huge;
}

/* Bytes of the page caches: of its memfds, each once. */
static uint64_t cache_bytes(pid_t pid)
{
	char dir[64], path[400], name[64];
	uint64_t bytes = 0;
	ino_t seen[16];
	unsigned count = 0;
	struct dirent *entry;
	struct stat st;
	DIR *fds;

	snprintf(dir, sizeof(dir), "/proc/%d/fd", pid);
	fds = opendir(dir);
	ck_assert_ptr_nonnull(fds);
	while ((entry = readdir(fds))) {
		bool known = false;

		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		ssize_t len = readlink(path, name, sizeof(name) - 1);
		if (len <= 0 || strncmp(name, "/memfd:", 7) != 0 || stat(path, &st))
			continue;
		for (unsigned i = 0; i < count; i++)
			known |= seen[i] == st.st_ino;
		if (known)
			continue;
		ck_assert_uint_lt(count, sizeof(seen) / sizeof(seen[0]));
		seen[count++] = st.st_ino;
		bytes += (uint64_t)st.st_blocks * 512;
	}
	closedir(fds);
	return bytes;
}

/*
 * Stop it. False: it has ended, or did not stop within a while: a vCPU may wait for a page
 * where no signal reaches it, and who brings that stands still already.
 */
static bool stand_still(pid_t pid)
{
	kill(pid, SIGSTOP);
	for (int i = 0; i < 50; i++) {
		siginfo_t info = {0};

		ck_assert_int_eq(
		    waitid(P_PID, (id_t)pid, &info, WSTOPPED | WEXITED | WNOHANG | WNOWAIT), 0);
		if (info.si_pid && info.si_code != CLD_STOPPED)
			return false;
		if (info.si_pid)
			return waitid(P_PID, (id_t)pid, &info, WSTOPPED) == 0;
		usleep(100);
	}
	return false;
}

/* Bytes of memory that it has, while nothing of it moves; 0: it does not stand still. */
static uint64_t taken(pid_t pid)
{
	uint64_t bytes = stand_still(pid) ? own_bytes(pid) + cache_bytes(pid) : 0;

	kill(pid, SIGCONT);
	return bytes;
}

static const struct {
	const char *append, *mode; /* mode NULL: RAM */
	bool swap;
} sets[] = {
    {"", NULL, true},
    {"where=pmem", "cow", true},
    {"where=pmem flush=1", "shared", false},
};

static void start(struct run *run, int set)
{
	char append[128], pmem[600];
	const char *args[16] = {
	    "--kernel", guest_path("working-set.elf"), "--append", append, "--memory-limit", "16M"};
	unsigned n = 6;

	snprintf(append, sizeof(append), "pages=%u passes=2 wait=1 %s", PAGES, sets[set].append);
	if (sets[set].mode) {
		snprintf(pmem, sizeof(pmem), "%s,mode=%s", make_pmem("pmem", PAGES),
			 sets[set].mode);
		args[n++] = "--pmem";
		args[n++] = pmem;
	}
	if (sets[set].swap) {
		args[n++] = "--swap";
		args[n++] = scratch("swap");
	}
	run_start(run, NULL, args);
	run_until(run, "ready\n");
}

START_TEST(never_above)
{
	uint64_t before, most = 0;
	unsigned samples = 0, above = 0;
	struct run run;

	if (!have_userfaultfd())
		skip("memory limit: no userfaultfd here");
	if (emulated_host())
		skip("memory limit: 50,000 faults take minutes on an emulated host");
	start(&run, _i);
	while (!(before = taken(run.pid)))
		;
	run_type(&run, "x", 1);
	/* Until it says that it is done. */
	while (poll(&(struct pollfd){.fd = run.out, .events = POLLIN}, 1, 30) == 0) {
		uint64_t now = taken(run.pid);

		samples += now != 0;
		above += now > before + LIMIT + LIMIT / 50 + BESIDE;
		most = now > most ? now : most;
	}
	run_until(&run, "done\n");
	run_type(&run, "x", 1);
	run_wait(&run);
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	printf("%u samples, at most %ld KiB beside the limit\n", samples,
	       ((long)most - (long)before - (long)LIMIT) / 1024);
	ck_assert_uint_eq(above, 0);
	ck_assert_uint_gt(samples, 0);
	run_free(&run);
}
END_TEST

Suite *limit_outside_suite(void)
{
	Suite *suite = suite_create("limit_outside");
	TCase *tc = tcase_create("limit outside");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_loop_test(tc, never_above, 0, sizeof(sets) / sizeof(sets[0]));
	suite_add_tcase(suite, tc);
	return suite;
}
