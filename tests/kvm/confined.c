/* The sandbox of a run, seen from outside: in /proc, while its guest waits for input. */
#include <dirent.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"
#include "vmm/error.h"

#define MAX_THREADS 16

/* What the kernel says of one thread. */
struct thread {
	char name[16];
	long no_new_privs, seccomp, uid, gid;
	unsigned long cap_eff, blocked, caught;
};

/* False: it has ended, as the kernel's own in the process do at any time. */
static bool read_thread(const char *path, struct thread *t)
{
	FILE *f = fopen(path, "re");
	bool there = false;
	char line[256];

	if (!f)
		return false;
	*t = (struct thread){.seccomp = -1, .cap_eff = ~0UL, .blocked = ~0UL};
	while (fgets(line, sizeof(line), f)) {
		sscanf(line, "Name: %15s", t->name);
		sscanf(line, "NoNewPrivs: %ld", &t->no_new_privs);
		sscanf(line, "Seccomp: %ld", &t->seccomp);
		sscanf(line, "Uid: %ld", &t->uid);
		sscanf(line, "Gid: %ld", &t->gid);
		sscanf(line, "CapEff: %lx", &t->cap_eff);
		sscanf(line, "SigBlk: %lx", &t->blocked);
		there |= sscanf(line, "SigCgt: %lx", &t->caught) == 1;
	}
	fclose(f);
	return there;
}

/* Every thread of @pid; how many. */
static unsigned read_threads(pid_t pid, struct thread threads[MAX_THREADS])
{
	char path[320];
	unsigned n = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *dir = opendir(path);
	ck_assert_ptr_nonnull(dir);
	for (struct dirent *e; (e = readdir(dir));) {
		if (e->d_name[0] == '.')
			continue;
		ck_assert_uint_lt(n, MAX_THREADS);
		snprintf(path, sizeof(path), "/proc/%d/task/%s/status", (int)pid, e->d_name);
		n += read_thread(path, &threads[n]);
	}
	closedir(dir);
	return n;
}

static bool has_thread(const struct thread *threads, unsigned count, const char *name)
{
	for (unsigned i = 0; i < count; i++)
		if (strcmp(threads[i].name, name) == 0)
			return true;
	return false;
}

/* The echo guest with two vCPUs and a disk, waiting; ended by its status 7. */
static unsigned look(const char *option, const char *value, struct thread threads[MAX_THREADS],
		     struct run *run)
{
	const char *disk = make_pmem("confined.disk", 4);
	char pmem[600]; /* shared, so that the handlers have it; RAM and kernel are the host's */

	snprintf(pmem, sizeof(pmem), "%s,mode=shared", make_pmem("confined.pmem", 4));

	run_start(run, NULL,
		  ARGS("--name", "confined", "--kernel", guest_path("echo.elf"), "--cpus", "2",
		       "--disk", disk, "--pmem", pmem, option, value));
	run_until(run, "ready\n");
	/* The guest runs, so every thread is where it is to be. */
	unsigned n = read_threads(run->pid, threads);
	run_type(run, "q", 1);
	run_wait(run);
	ck_assert_msg(run->status == 7, "status %d: %s", run->status, run->err_text);
	return n;
}

START_TEST(every_thread)
{
	struct thread threads[MAX_THREADS];
	struct run run;
	unsigned n = look("--sandbox", "on", threads, &run);

	for (unsigned i = 0; i < n; i++) {
		const struct thread *t = &threads[i];
		ck_assert_msg(t->no_new_privs == 1, "%s: NoNewPrivs %ld", t->name, t->no_new_privs);
		ck_assert_msg(t->seccomp == 2, "%s: Seccomp %ld", t->name, t->seccomp);
		ck_assert_msg(t->cap_eff == 0, "%s: CapEff %lx", t->name, t->cap_eff);
		ck_assert_msg(t->uid == (long)geteuid(), "%s: Uid %ld", t->name, t->uid);
	}
	ck_assert(has_thread(threads, n, "foal"));
	ck_assert(has_thread(threads, n, "foal-vcpu/0"));
	ck_assert(has_thread(threads, n, "foal-vcpu/1"));
	ck_assert(has_thread(threads, n, "foal-blk/0"));
	ck_assert(has_thread(threads, n, "foal-control"));
	ck_assert(has_thread(threads, n, "foal-files"));
	ck_assert(has_thread(threads, n, "foal-governor"));
	ck_assert(!have_userfaultfd() || has_thread(threads, n, "foal-fault/0"));
	ck_assert(!have_userfaultfd() || has_thread(threads, n, "foal-read"));
	run_free(&run);
}
END_TEST

START_TEST(off)
{
	struct thread threads[MAX_THREADS];
	struct run run;
	unsigned n = look("--sandbox", "off", threads, &run);

	for (unsigned i = 0; i < n; i++) {
		ck_assert_int_eq(threads[i].seccomp, 0);
		ck_assert_int_eq(threads[i].no_new_privs, 0);
	}
	run_free(&run);
}
END_TEST

/* Guest memory that is gone is a SIGBUS to whoever touches it: none may end by it. */
START_TEST(bus_errors_are_caught)
{
	const unsigned long bit = 1UL << (SIGBUS - 1);
	struct thread threads[MAX_THREADS];
	struct run run;
	unsigned n = look("--sandbox", "on", threads, &run);

	for (unsigned i = 0; i < n; i++) {
		if (strncmp(threads[i].name, "foal", 4) != 0)
			continue; /* KVM's own */
		ck_assert_msg(threads[i].caught & bit, "%s", threads[i].name);
		ck_assert_msg(!(threads[i].blocked & bit), "%s", threads[i].name);
	}
	run_free(&run);
}
END_TEST

/* From root to somebody: all threads, and the report is written nevertheless. */
START_TEST(another_user)
{
	struct thread threads[MAX_THREADS];
	struct run run;

	if (!is_root())
		skip("only root can become another user");
	unsigned n = look("--user", "4711:4712", threads, &run);
	for (unsigned i = 0; i < n; i++) {
		ck_assert_msg(threads[i].uid == 4711, "%s: Uid %ld", threads[i].name,
			      threads[i].uid);
		ck_assert_msg(threads[i].gid == 4712, "%s: Gid %ld", threads[i].name,
			      threads[i].gid);
		ck_assert_uint_eq(threads[i].cap_eff, 0);
	}
	ck_assert_ptr_nonnull(run.stats);
	ck_assert_int_gt(
	    json_integer_value(json_object_get(json_object_get(run.stats, "resident"), "monitor")),
	    0);
	run_free(&run);
}
END_TEST

/* --- a thread that cannot enter ------------------------------------------------------- */

#define LONG_FILTERS 8
#define LONG_FILTER  4000
#define TOO_LONG     640 /* itself fits; then not even the shortest of foal's does */

/* @length instructions that let everything through. */
static void install_filler(unsigned length)
{
	static struct sock_filter code[LONG_FILTER];
	struct sock_fprog program = {.len = (unsigned short)length, .filter = code};

	for (unsigned i = 0; i < length; i++)
		code[i] = (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 0);
	code[0] = code[length - 1] =
	    (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
		_exit(126);
}

/*
 * A thread's filters may have 32768 instructions together (seccomp(2), ENOMEM),
 * and it inherits those of its parent: the last filler decides which of foal's
 * own still fit.
 */
static void leave_little_room(void *last)
{
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	for (unsigned i = 0; i < LONG_FILTERS; i++)
		install_filler(LONG_FILTER);
	install_filler(*(unsigned *)last);
}

/* Whether the run came about; if it did not, it said so and the guest said nothing. */
static bool runs_with(unsigned last, char *said, size_t size)
{
	const struct run_how how = {.prepare = leave_little_room, .arg = &last};
	const char *disk = make_pmem("confined.disk", 4);
	struct run run;

	run_start(&run, &how,
		  ARGS("--sandbox", "on", "--kernel", guest_path("exit.elf"), "--append",
		       "say=cmdline status=7", "--cpus", "2", "--disk", disk));
	run_wait(&run);
	bool ran = run.status == 7;
	if (!ran) {
		expect_end(&run, FOAL_EXIT_HOST, "seccomp filter");
		ck_assert_msg(run.out_len == 0, "the guest ran: %s", run.out_text);
	}
	snprintf(said, size, "%s", run.err_text);
	run_free(&run);
	return ran;
}

/*
 * The shortest filler with which there is no run leaves room for all filters but
 * the longest: that of the device's thread, which no vCPU needs to get going.
 */
START_TEST(one_cannot_enter)
{
	unsigned runs = 2, fails = TOO_LONG;
	char said[512], last_said[512] = "";

	ck_assert(runs_with(runs, said, sizeof(said)));
	ck_assert(!runs_with(fails, said, sizeof(said)));
	while (fails - runs > 1) {
		unsigned middle = (runs + fails) / 2;
		if (runs_with(middle, said, sizeof(said))) {
			runs = middle;
		} else {
			fails = middle;
			memcpy(last_said, said, sizeof(said));
		}
	}
	ck_assert_msg(strstr(last_said, "foal-blk/0: sandbox: seccomp filter: "), "%s", last_said);
}
END_TEST

Suite *confined_suite(void)
{
	Suite *suite = suite_create("confined");
	TCase *tc = tcase_create("confined");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_test(tc, every_thread);
	tcase_add_test(tc, off);
	tcase_add_test(tc, bus_errors_are_caught);
	tcase_add_test(tc, another_user);
	tcase_add_test(tc, one_cannot_enter);
	suite_add_tcase(suite, tc);
	return suite;
}
