/*
 * Running VMs that become more VMs: what one writes no other sees, whichever writes first; each
 * goes on, whoever else ends.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/kvm/snapshot_rig.h"
#include "tests/kvm/suites.h"
#include "tests/kvm/told.h"

/* Ways in which memory is held. */
static const char *const ways[][5] = {
    {"--fault-engine", "auto"},
    {"--fault-engine", "handler"},
    {"--huge", "always"},
    {"--fault-engine", "handler", "--huge", "always"},
    {"--cpus", "2", "--huge", "never"},
};

/* Parent, children and a child's child each write, in turns; each finds its own. */
START_TEST(nonces)
{
	struct told parent, a, b, c, grandchild;
	/* Each round its own: a process that was killed has its name for a moment longer. */
	const char *name = in_round("n%d", _i), *deep = in_round("deep%d", _i);
	char id[4][33];

	if (strstr(ways[_i][1], "handler") && !have_userfaultfd())
		skip("no userfaultfd");
	pid_t pid = start_told(name, ways[_i]);
	parent = tell_to(name);
	tell(&parent, "h1");
	json_decref(forks_of(ARGS("fork", name, "-n", "3", "--json")));
	a = tell_to(in_round("n%d.1", _i));
	b = tell_to(in_round("n%d.2", _i));
	c = tell_to(in_round("n%d.3", _i));
	tell(&parent, "w9"); /* the parent first */
	tell(&a, "e1");
	tell(&a, "w2");
	tell(&parent, "a9");
	json_decref(forks_of(ARGS("fork", in_round("n%d.1", _i), "--name", deep, "--json")));
	grandchild = tell_to(deep);
	tell(&grandchild, "w4"); /* the child first */
	tell(&a, "a2");
	tell(&a, "w3");
	tell(&grandchild, "a4");
	tell(&b, "e1");
	generation(&parent, id[0]);
	generation(&a, id[1]);
	generation(&b, id[2]);
	generation(&grandchild, id[3]);
	for (int i = 0; i < 4; i++)
		for (int k = 0; k < i; k++)
			ck_assert_str_ne(id[i], id[k]);
	kill_and_wait(pid); /* nobody needs it */
	tell(&c, "e1");
	tell(&c, "w5");
	tell(&a, "a3");
	hang_up(&parent);
	hang_up(&a);
	hang_up(&b);
	hang_up(&c);
	hang_up(&grandchild);
}
END_TEST

/* The same of a space that gives pages away, to a file of its own. */
START_TEST(under_a_limit)
{
	char swap[256], pattern[256];
	struct told parent, child;

	if (!have_userfaultfd())
		skip("no userfaultfd");
	snprintf(swap, sizeof(swap), "%s", scratch("fork.swap"));
	snprintf(pattern, sizeof(pattern), "%s", scratch("fork-%%.swap"));
	background("lim", ARGS("--kernel", guest_path("nonces.elf"), "--memory", "64M", "--pmem",
			       make_pmem("limited.pmem", TOLD_PAGES), "--memory-limit", "16M",
			       "--swap", swap));
	parent = tell_to("lim");
	tell(&parent, "h1");
	expect_command(ARGS("fork", "lim"), 113, "each VM needs a swap file of its own");
	expect_command(ARGS("fork", "lim", "--swap", pattern), 0, "it was paused for");
	child = tell_to("lim.1");
	tell(&parent, "w2");
	tell(&child, "e1");
	tell(&child, "w3");
	tell(&parent, "a2");
	hang_up(&parent);
	hang_up(&child);
}
END_TEST

/* Of a VM whose memory is not there yet. */
START_TEST(of_a_lazy_restore)
{
	const char *dir = scratch("lazy-fork");
	struct told vm;

	if (!have_userfaultfd())
		skip("no userfaultfd");
	start_told("frozen", ways[0]);
	vm = tell_to("frozen");
	tell(&vm, "h1");
	hang_up(&vm);
	expect_command(ARGS("snapshot", "frozen", dir), 0, "the guest was paused for");
	expect_command(ARGS("restore", dir, "-d", "--name", "lazy", "--time-limit", GUEST_LIMIT), 0,
		       "running");
	expect_command(ARGS("fork", "lazy", "-n", "2"), 0, "lazy.2: running");
	vm = tell_to("lazy");
	tell(&vm, "w7");
	hang_up(&vm);
	vm = tell_to("lazy.1");
	tell(&vm, "e1");
	tell(&vm, "w8");
	hang_up(&vm);
	vm = tell_to("lazy.2");
	tell(&vm, "e1");
	hang_up(&vm);
	/* It records, and they do not: once it is gone another may. */
	int set = open(scratch("lazy-fork/working-set"), O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(set, 0);
	ck_assert_int_eq(flock(set, LOCK_EX | LOCK_NB), -1);
	expect_command(ARGS("stop", "lazy", "--kill"), 0, "gone");
	while (flock(set, LOCK_EX | LOCK_NB)) /* its name may be free before it is all gone */
		usleep(1000);
	close(set);
}
END_TEST

/* One that went back to its start: it is still of its snapshot, and has recorded what it read. */
START_TEST(after_a_reset)
{
	const char *dir = scratch("again"), *set = scratch("again/working-set");
	struct stat st;

	if (!have_userfaultfd())
		skip("no userfaultfd");
	start_told("first", ways[0]);
	tell_once("first", "h1");
	snapshot("first", dir);
	expect_command(ARGS("restore", dir, "-d", "--name", "back", "--time-limit", GUEST_LIMIT,
			    "--reset-point"),
		       0, "running");
	tell_once("back", "w7");
	expect_command(ARGS("reset", "back"), 0, "back");
	tell_once("back", "e1");
	expect_command(ARGS("fork", "back"), 0, "back.1: running");
	tell_once("back.1", "e1");
	expect_command(ARGS("snapshot", "back.1", scratch("again-diff"), "--diff"), 0, "more than");
	expect_command(ARGS("stop", "back", "--kill"), 0, "gone");
	ck_assert_int_eq(stat(set, &st), 0);
	ck_assert_int_gt(st.st_size, 4096);
}
END_TEST

/* --- programs ------------------------------------------------------------------------------ */

static const char *const checks[] = {"init=/bin/check", "init=/bin/main"};

#define COPIES 3

static const char *const copies[COPIES] = {"prog%d.1", "prog%d.2", "prog%d.1.1"};

/* Programs that check their memory and files, with requests of the disk under way. */
START_TEST(programs)
{
	const char *source = in_round("prog%d", _i), *first = in_round("prog%d.1", _i);
	char line[128];
	int fds[COPIES + 1];

	if (access(image_path("kernel.elf"), R_OK) || access(image_path("disk.img"), R_OK))
		skip("no guest kernel or images here");
	snprintf(line, sizeof(line), "quiet root=/dev/vda %s", checks[_i % 2]);
	background(source,
		   ARGS("--kernel", image_path("kernel.elf"), "--disk",
			copy_file(image_path("disk.img"), "prog.img"), "--memory", "64M",
			"--append", line, "--stats", "off", _i < 2 ? "--halt" : "--fault-engine",
			_i < 2		     ? "exit"
			: have_userfaultfd() ? "handler"
					     : "auto"));
	fds[COPIES] = control_listen(source);
	usleep(20000 * (unsigned)(_i + 1)); /* somewhere in its work */
	for (int i = 0; i < COPIES; i++) {
		expect_command(ARGS("fork", i == 2 ? first : source), 0, "it was paused for");
		fds[i] = control_listen(in_round(copies[i], _i));
	}
	for (int i = 0; i <= COPIES; i++)
		ck_assert_int_eq(control_end(fds[i]), 0);
}
END_TEST

/* --- who ends, and what is left -------------------------------------------------------------- */

/* Nothing of the ones before is kept by the ones after, and nothing is left in the first. */
START_TEST(generations)
{
	char name[64] = "gen";
	pid_t first = background(name, ARGS(MEMORY_GUEST));
	unsigned had = descriptors_of(first), own = 0;

	for (int i = 0; i < 4; i++) {
		json_t *reply = forks_of(ARGS("fork", name, "--json"));
		pid_t pid = fork_pid(reply, 0);

		json_decref(reply);
		snprintf(name + strlen(name), sizeof(name) - strlen(name), ".1");
		if (i > 0)
			descriptors_fall(pid, own);
		own = descriptors_of(pid);
	}
	descriptors_fall(first, had);
}
END_TEST

/* Whoever is killed, whenever: the others run, and what was told to run does. */
START_TEST(killed)
{
	pid_t parent = background("k", ARGS(MEMORY_GUEST));
	struct run_how how = {.plain = true};
	json_t *reply = forks_of(ARGS("fork", "k", "-n", "2", "--json"));
	pid_t a = fork_pid(reply, 0), b = fork_pid(reply, 1);

	json_decref(reply);
	kill_and_wait(a);
	expect_command(ARGS("fork", "k", "--name", "after"), 0, "after: running");
	for (unsigned i = 0; i < 12; i++) {
		struct run run;

		run_start(&run, &how, ARGS("fork", "k", "-n", "4", "--name", "some-%"));
		usleep(i * 900);
		kill(run.pid, SIGKILL);
		run_wait(&run);
		run_free(&run);
		ck_assert(alive(parent) && alive(b));
	}
	expect_command(ARGS("fork", "k", "--name", "still"), 0, "still: running");
	kill_and_wait(parent);
	ck_assert(alive(b));
	expect_command(ARGS("fork", "k.2", "--name", "orphan"), 0, "orphan: running");
	expect_command(ARGS("stop", "orphan", "--kill"), 0, "gone, status 109");
	expect_command(ARGS("stop", "k.2", "--kill"), 0, "gone, status 109");
}
END_TEST

/* One that was paused stays so, and its forks run. */
START_TEST(of_a_paused_vm)
{
	background("held", ARGS(MEMORY_GUEST));
	expect_command(ARGS("pause", "held"), 0, "paused");
	expect_command(ARGS("fork", "held", "-n", "2", "--clock", "jump"), 0, "was paused, and is");
	expect_command(ARGS("pause", "held.1"), 0, "paused, within");
	expect_command(ARGS("resume", "held"), 0, "goes on");
}
END_TEST

START_TEST(many)
{
	const char *count = emulated_host() ? "6" : "40";
	struct run run;
	unsigned n = 0;

	background("many", ARGS(MEMORY_GUEST));
	expect_command(ARGS("fork", "many", "-n", count, "--name", "m%"), 0, "it was paused for");
	foal_command(&run, ARGS("ps", "--json"));
	json_t *list = json_loads(run.out_text, 0, NULL);
	n = (unsigned)json_array_size(list);
	json_decref(list);
	run_free(&run);
	ck_assert_uint_eq(n, 1 + strtoul(count, NULL, 10));
}
END_TEST

/* --- what is not done ----------------------------------------------------------------------- */

START_TEST(refused)
{
	char option[256];

	make_pmem("forked.img", 16);
	snprintf(option, sizeof(option), "%s,mode=shared", scratch("forked.img"));
	background("shares", ARGS(MEMORY_GUEST, "--pmem", option));
	expect_command(ARGS("fork", "shares"), 113, "mode=shared");
	expect_command(ARGS("stop", "shares", "--kill"), 0, "gone");
	snprintf(option, sizeof(option), "cid=7,path=%s", scratch("vsock"));
	background("talks", ARGS(MEMORY_GUEST, "--vsock", option));
	expect_command(ARGS("fork", "talks"), 113, "no fork: --vsock");
	expect_command(ARGS("stop", "talks", "--kill"), 0, "gone");

	background("plain", ARGS(MEMORY_GUEST));
	expect_command(ARGS("fork", "plain", "--name", "plain"), 112, "runs already");
	expect_command(ARGS("fork", "plain", "-n", "2", "--name", "two"), 100, "a pattern with %");
	expect_command(ARGS("fork", "plain", "-n", "0"), 100, "give a whole number");
	expect_command(ARGS("fork", "plain", "--name", "a/%"), 100, "no VM's name");
	expect_command(ARGS("fork", "plain", "--clock", "slow"), 100, "freeze or jump");
	expect_command(ARGS("fork", "plain", "--swap", scratch("no.swap")), 113,
		       "has no swap file");
	expect_command(ARGS("fork", "nobody"), 112, "no running VM");
	int fd = control_connect("plain");
	control_refused(fd, "{\"command\":\"fork\"}", "bad-request");
	control_refused(fd, "{\"command\":\"fork\",\"count\":0}", "bad-request");
	control_refused(fd, "{\"command\":\"fork\",\"clock\":1}", "bad-request");
	close(fd);
}
END_TEST

/* A name with too few files, or none at all: said, and nothing comes of it. */
START_TEST(hostile_orders)
{
	char text[512];
	int ends[2];

	background("plain", ARGS(MEMORY_GUEST));
	int fd = control_connect("plain");
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	ck_assert_int_eq(send(ends[0], "good", 4, 0), 4);
	ck_assert_int_eq(send(ends[0], "../../bad", 9, 0), 9);
	control_pass(fd, "{\"command\":\"fork\",\"count\":2}\n", ends[1], 1);
	close(ends[1]);
	json_t *reply = control_line(fd);
	ck_assert(json_is_true(json_object_get(reply, "ok")));
	json_decref(reply);
	for (int i = 0; i < 2; i++) {
		ssize_t n = recv(ends[0], text, sizeof(text) - 1, 0);
		ck_assert_int_gt(n, 0);
		text[n] = 0;
		ck_assert_msg(strstr(text, "no name with its files"), "%s", text);
	}
	ck_assert_int_eq(recv(ends[0], text, sizeof(text), 0), 0);
	close(ends[0]);
	ck_assert_uint_eq(control_number(fd, "{\"command\":\"status\"}", "vcpus"), 1);
	close(fd);
}
END_TEST

Suite *fork_suite(void)
{
	Suite *suite = suite_create("fork");
	TCase *tc = tcase_create("fork");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, NULL, end_all);
	tcase_add_loop_test(tc, nonces, 0, (int)(sizeof(ways) / sizeof(ways[0])));
	tcase_add_test(tc, under_a_limit);
	tcase_add_test(tc, of_a_lazy_restore);
	tcase_add_test(tc, after_a_reset);
	tcase_add_loop_test(tc, programs, 0, 4);
	tcase_add_test(tc, generations);
	tcase_add_test(tc, killed);
	tcase_add_test(tc, of_a_paused_vm);
	tcase_add_test(tc, many);
	tcase_add_test(tc, refused);
	tcase_add_test(tc, hostile_orders);
	suite_add_tcase(suite, tc);
	return suite;
}
