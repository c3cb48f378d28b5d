/*
 * Whoever is killed while VMs are forked or cloned, at whatever moment: the source goes on, and its
 * snapshots are good, unless it is the one; what was said to run does, and lives on; who asked gets
 * one line.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/kvm/slow_file.h"
#include "tests/kvm/snapshot_rig.h"
#include "tests/kvm/suites.h"
#include "tests/kvm/told.h"

/* The last two are of clones: their template, and one of the pool, or one that begins. */
enum victim { COMMAND, SOURCE, FROZEN, FORKED, TEMPLATE, POOLED, VICTIMS };

#define COPIES	   3
#define FILE_PAGES 5120U /* of a VM that swaps */

static const char *const names[VICTIMS] = {"foal fork",	   "the VM",	   "its frozen child",
					   "a fork of it", "the template", "a clone ahead"};

/* What all begin from. */
struct source {
	const char *dir; /* a snapshot of it */
	char name[32];
	pid_t pid;
	unsigned count; /* sources so far */
	bool swaps;
	const char *all; /* what its guest and its copies' are told to look for */
};

/* With 20 MiB that cannot be compressed, of which the limit leaves 16. */
static pid_t start_swapping(const char *name)
{
	char append[32];

	if (!have_userfaultfd())
		skip("no userfaultfd");
	if (emulated_host())
		skip("a swap file takes minutes on an emulated host");
	snprintf(append, sizeof(append), "file=%u", FILE_PAGES);
	pid_t pid = background(name, ARGS("--kernel", guest_path("nonces.elf"), "--memory", "64M",
					  "--append", append, "--pmem",
					  make_random_pmem("swapping.pmem", FILE_PAGES),
					  "--memory-limit", "16M", "--swap", scratch("its.swap")));
	tell_once(name, "w1");
	return pid;
}

static pid_t pid_in(const char *text, const char *name)
{
	char line[64];
	int pid = 0;

	snprintf(line, sizeof(line), "%s: running, pid %%d", name);
	return text && sscanf(text, line, &pid) == 1 ? pid : 0;
}

/* One that is restored is as the first was. */
static void bring_back(struct source *s)
{
	struct run run;

	snprintf(s->name, sizeof(s->name), "source%u", ++s->count);
	foal_command(&run,
		     ARGS("restore", s->dir, "-d", "--name", s->name, "--time-limit", GUEST_LIMIT,
			  "--prefetch", "off", s->swaps ? "--memory-limit" : NULL, "16M", "--swap",
			  scratch("its.swap")));
	s->pid = pid_in(run.out_text, s->name);
	ck_assert_msg(s->pid, "%d: %s", run.status, run.err_text);
	run_free(&run);
}

static void kill_it(enum victim who, const struct source *s, const struct run *run, pid_t template)
{
	pid_t pid = 0;

	if (who == COMMAND)
		pid = run->pid;
	else if (who == SOURCE)
		pid = s->pid;
	else if (who == TEMPLATE)
		pid = template;
	else if (who == POOLED)
		pid = child_of(template);
	else
		pid = child_of(s->pid);
	if (pid && who == FORKED)
		pid = child_of(pid);
	if (pid)
		kill(pid, SIGKILL);
}

/* Those of whom it was said that they run, do; then they are ended. */
static unsigned look_at_copies(const struct source *s, const struct run *run, unsigned round,
			       enum victim who)
{
	unsigned n = 0;

	for (unsigned i = 1; i <= COPIES; i++) {
		char name[32];
		const char *at;
		pid_t pid;

		snprintf(name, sizeof(name), "r%u-%u", round, i);
		at = strstr(run->out_text, name);
		pid = at ? pid_in(at, name) : 0;
		if (!pid)
			continue;
		/* A fork that was killed may have been this one, right after it was said. */
		if (who != FORKED && who != POOLED)
			tell_once(name, s->all);
		if (alive(pid))
			kill(pid, SIGKILL);
		n++;
	}
	return n;
}

/* With a pool and without one by turns, whoever is killed. */
static pid_t make_template(const struct source *s, unsigned round)
{
	const char *pool = round / VICTIMS % 2 ? "0" : "2";
	char name[32];
	pid_t pid;

	snprintf(name, sizeof(name), "t%u", round);
	json_t *reply =
	    forks_of(ARGS("template", s->name, "--name", name, "--pool", pool, "--json"));
	pid = fork_pid(reply, 0);
	json_decref(reply);
	return pid;
}

/* How many copies it is said to have made. */
static unsigned one_round(struct source *s, enum victim who, unsigned round)
{
	struct run_how how = {.plain = true};
	bool clones = who == TEMPLATE || who == POOLED;
	pid_t template = clones ? make_template(s, round) : 0;
	char pattern[32], name[32];
	struct run run;
	unsigned n;

	snprintf(pattern, sizeof(pattern), "r%u-%%", round);
	snprintf(name, sizeof(name), "t%u", round);
	run_start(&run, &how,
		  ARGS(clones ? "clone" : "fork", clones ? name : s->name, "-n", "3", "--name",
		       pattern, s->swaps ? "--swap" : NULL, scratch("copy-%%.swap")));
	some_moment(random_below(3) ? 15000 : 5000);
	kill_it(who, s, &run, template);
	run_wait(&run);
	ck_assert_msg(who == COMMAND || run.status == 0 ||
			  ((run.status == 112 || run.status == 113) && foal_lines(&run) == 1),
		      "%s was killed: status %d: %s", names[who], run.status, run.err_text);
	n = look_at_copies(s, &run, round, who);
	run_free(&run);
	if (template && alive(template))
		kill(template, SIGKILL);
	return n;
}

/* 1: of a VM that swaps, which is no template; each copy takes a second. */
START_TEST(whoever_at_whatever_moment)
{
	unsigned victims = _i ? TEMPLATE : VICTIMS;
	unsigned rounds = times("FOAL_FORK_KILLS", 18) / (_i ? 3 : 1),
		 seed = times("FOAL_SEED", (unsigned)time(NULL)), ran = 0;
	struct source s = {
	    .dir = scratch("source"), .name = "source", .swaps = _i, .all = _i ? "a1" : "e1"};

	if (!have_userfaultfd())
		skip("no userfaultfd");
	printf("FOAL_SEED=%u FOAL_FORK_KILLS=%u\n", seed, rounds);
	fflush(stdout);
	random_from(seed);
	if (s.swaps) {
		s.pid = start_swapping(s.name);
	} else {
		s.pid = start_told(s.name, ARGS("--halt", "exit"));
		tell_once(s.name, "h1");
	}
	snapshot(s.name, s.dir);
	for (unsigned i = 0; i < rounds; i++) {
		enum victim who = (enum victim)(i % victims);

		ran += one_round(&s, who, i);
		if (who == SOURCE)
			bring_back(&s);
		tell_once(s.name, s.all);
		if (i % 6 == 0)
			expect_command(ARGS("verify", s.dir), 0, "whole");
	}
	printf("%u of %u copies ran\n", ran, rounds * COPIES);
	expect_command(ARGS("verify", s.dir), 0, "whole");
	expect_command(
	    ARGS("fork", s.name, "--name", "last", s.swaps ? "--swap" : NULL, scratch("last.swap")),
	    0, "last: running");
	tell_once("last", s.all);
}
END_TEST

/*
 * Killed while the VM to be copies what is swapped: nothing keeps that as it was from there on, so
 * it does not run.
 */
START_TEST(frozen_child_while_it_copies)
{
	struct run_how how = {.plain = true};
	int begun[2], go[2];
	struct run run;
	char byte = 0;

	if (!is_root())
		skip("only root can mount a file system");
	pid_t pid = start_swapping("swaps");
	ck_assert_int_eq(pipe2(begun, O_CLOEXEC) | pipe2(go, O_CLOEXEC), 0);
	pid_t server = waiting_file_serve(scratch("slow"), 0, begun[1], go[0]);
	if (!server)
		skip("this host has no FUSE");
	run_start(&run, &how,
		  ARGS("fork", "swaps", "--name", "late", "--swap", scratch("slow/slow.img")));
	ck_assert_int_eq(read(begun[0], &byte, 1), 1);
	pid_t frozen = child_of(pid);
	ck_assert_int_gt(frozen, 0);
	ck_assert_int_eq(kill(frozen, SIGKILL), 0);
	while (kill(frozen, 0) == 0) /* also while nobody has heard of its end */
		usleep(1000);
	ck_assert_int_eq(write(go[1], &byte, 1), 1);
	run_wait(&run);
	expect_end(
	    &run, 113,
	    "late: not started: who forks it was killed while its swapped memory was copied");
	run_free(&run);
	slow_file_end(server);
	tell_once("swaps", "a1");
	expect_command(ARGS("fork", "swaps", "--name", "well", "--swap", scratch("well.swap")), 0,
		       "well: running");
	tell_once("well", "a1");
}
END_TEST

Suite *fork_kills_suite(void)
{
	Suite *suite = suite_create("fork_kills");
	TCase *tc = tcase_create("fork_kills");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, NULL, end_all);
	tcase_add_loop_test(tc, whoever_at_whatever_moment, 0, 2);
	tcase_add_test(tc, frozen_child_while_it_copies);
	suite_add_tcase(suite, tc);
	return suite;
}
