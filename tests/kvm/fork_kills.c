/*
 * Whoever is killed while VMs are forked or cloned, at whatever moment: the source goes on, and its
 * snapshots are good, unless it is the one; what was said to run does, and lives on; who asked gets
 * one line.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/kvm/snapshot_rig.h"
#include "tests/kvm/suites.h"
#include "tests/kvm/told.h"

/* The last two are of clones: their template, and one of the pool, or one that begins. */
enum victim { COMMAND, SOURCE, FROZEN, FORKED, TEMPLATE, POOLED, VICTIMS };

#define COPIES 3

static const char *const names[VICTIMS] = {"foal fork",	   "the VM",	   "its frozen child",
					   "a fork of it", "the template", "a clone ahead"};

/* What all begin from. */
struct source {
	const char *dir; /* a snapshot of it */
	char name[32];
	pid_t pid;
	unsigned count; /* sources so far */
};

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
	foal_command(&run, ARGS("restore", s->dir, "-d", "--name", s->name, "--time-limit",
				GUEST_LIMIT, "--prefetch", "off"));
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
static unsigned look_at_copies(const struct run *run, unsigned round, enum victim who)
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
			tell_once(name, "e1");
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
	run_start(
	    &run, &how,
	    ARGS(clones ? "clone" : "fork", clones ? name : s->name, "-n", "3", "--name", pattern));
	some_moment(random_below(3) ? 15000 : 5000);
	kill_it(who, s, &run, template);
	run_wait(&run);
	ck_assert_msg(who == COMMAND || run.status == 0 ||
			  ((run.status == 112 || run.status == 113) && foal_lines(&run) == 1),
		      "%s was killed: status %d: %s", names[who], run.status, run.err_text);
	n = look_at_copies(&run, round, who);
	run_free(&run);
	if (template && alive(template))
		kill(template, SIGKILL);
	return n;
}

START_TEST(whoever_at_whatever_moment)
{
	unsigned rounds = times("FOAL_FORK_KILLS", 18),
		 seed = times("FOAL_SEED", (unsigned)time(NULL)), ran = 0;
	struct source s = {.dir = scratch("source"), .name = "source"};

	if (!have_userfaultfd())
		skip("no userfaultfd");
	printf("FOAL_SEED=%u FOAL_FORK_KILLS=%u\n", seed, rounds);
	fflush(stdout);
	random_from(seed);
	s.pid = start_told(s.name, ARGS("--halt", "exit"));
	tell_once(s.name, "h1");
	snapshot(s.name, s.dir);
	for (unsigned i = 0; i < rounds; i++) {
		enum victim who = (enum victim)(i % VICTIMS);

		ran += one_round(&s, who, i);
		if (who == SOURCE)
			bring_back(&s);
		tell_once(s.name, "e1");
		if (i % 6 == 0)
			expect_command(ARGS("verify", s.dir), 0, "whole");
	}
	printf("%u of %u copies ran\n", ran, rounds * COPIES);
	expect_command(ARGS("verify", s.dir), 0, "whole");
	expect_command(ARGS("fork", s.name, "--name", "last"), 0, "last: running");
	tell_once("last", "e1");
}
END_TEST

Suite *fork_kills_suite(void)
{
	Suite *suite = suite_create("fork_kills");
	TCase *tc = tcase_create("fork_kills");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, NULL, end_all);
	tcase_add_test(tc, whoever_at_whatever_moment);
	suite_add_tcase(suite, tc);
	return suite;
}
