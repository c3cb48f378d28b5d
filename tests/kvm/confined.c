/* The sandbox of a run, seen from outside: in /proc, while its guest waits for input. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

#define MAX_THREADS 16

/* What the kernel says of one thread. */
struct thread {
	char name[16];
	long no_new_privs, seccomp, uid, gid;
	unsigned long cap_eff, blocked, caught;
};

static void read_thread(const char *path, struct thread *t)
{
	FILE *f = fopen(path, "re");
	char line[256];

	ck_assert_msg(f != NULL, "%s", path);
	*t = (struct thread){.seccomp = -1, .cap_eff = ~0UL, .blocked = ~0UL};
	while (fgets(line, sizeof(line), f)) {
		sscanf(line, "Name: %15s", t->name);
		sscanf(line, "NoNewPrivs: %ld", &t->no_new_privs);
		sscanf(line, "Seccomp: %ld", &t->seccomp);
		sscanf(line, "Uid: %ld", &t->uid);
		sscanf(line, "Gid: %ld", &t->gid);
		sscanf(line, "CapEff: %lx", &t->cap_eff);
		sscanf(line, "SigBlk: %lx", &t->blocked);
		sscanf(line, "SigCgt: %lx", &t->caught);
	}
	fclose(f);
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
		read_thread(path, &threads[n++]);
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

/*
 * A device's thread may still be on its way into the sandbox, which is the
 * first thing it does, when the guest already runs: until all are as the first.
 */
static unsigned read_settled(pid_t pid, struct thread threads[MAX_THREADS])
{
	struct timespec pause = {.tv_nsec = 10000000};
	unsigned n = 0, alike = 0;

	for (int tries = 0; tries < 500 && (!n || alike < n); tries++) {
		n = read_threads(pid, threads);
		for (alike = 0; alike < n && threads[alike].seccomp == threads[0].seccomp;)
			alike++;
		if (alike < n)
			nanosleep(&pause, NULL);
	}
	return n;
}

/* The echo guest with two vCPUs and a disk, waiting; ended by its status 7. */
static unsigned look(const char *option, const char *value, struct thread threads[MAX_THREADS],
		     struct run *run)
{
	const char *disk = make_pmem("confined.disk", 4);

	run_start(
	    run, NULL,
	    ARGS("--kernel", guest_path("echo.elf"), "--cpus", "2", "--disk", disk, option, value));
	run_until(run, "ready\n");
	unsigned n = read_settled(run->pid, threads);
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
	ck_assert(!have_userfaultfd() || has_thread(threads, n, "foal-fault/0"));
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

Suite *confined_suite(void)
{
	Suite *suite = suite_create("confined");
	TCase *tc = tcase_create("confined");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_test(tc, every_thread);
	tcase_add_test(tc, off);
	tcase_add_test(tc, bus_errors_are_caught);
	tcase_add_test(tc, another_user);
	suite_add_tcase(suite, tc);
	return suite;
}
