/*
 * Running VMs frozen into directories and brought back: what comes back goes on where it was,
 * and checks its own memory and files; what goes wrong leaves nothing half done.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/fd_passing.h"
#include "tests/kvm/snapshot_rig.h"
#include "tests/kvm/suites.h"
#include "tests/kvm/told.h"

/* --- what comes back ------------------------------------------------------------------- */

#define COPIES 3

static const char *const checks[] = {"init=/bin/check", "init=/bin/main"};

static void start_checks(struct run *run, const char *append)
{
	char line[128];

	if (access(image_path("kernel.elf"), R_OK) || access(image_path("disk.img"), R_OK))
		skip("no guest kernel or images here");
	snprintf(line, sizeof(line), "quiet root=/dev/vda %s", append);
	run_start(run, &(struct run_how){0},
		  ARGS("--name", "source", "--kernel", image_path("kernel.elf"), "--disk",
		       copy_file(image_path("disk.img"), "disk.img"), "--memory", "64M", "--append",
		       line, "--time-limit", GUEST_LIMIT));
}

/* Programs with memory of every kind, and files: each copy, and the source, finds all as it was. */
START_TEST(programs)
{
	const char *dir = scratch("programs");
	struct run source, copy[COPIES];
	struct run_how how = {.plain = true};

	start_checks(&source, checks[_i % 2]);
	close(control_connect_soon("source"));
	some_moment(300000);
	snapshot("source", dir);
	for (int i = 0; i < COPIES; i++)
		run_start(&copy[i], &how, ARGS("restore", dir, "--stats", "off"));
	run_wait(&source);
	ck_assert_msg(source.status == 0, "the source: %d: %s%s", source.status, source.out_text,
		      source.err_text);
	for (int i = 0; i < COPIES; i++) {
		run_wait(&copy[i]);
		ck_assert_msg(copy[i].status == 0 && strstr(copy[i].out_text, ", 0 not given back"),
			      "copy %d: %d: %s%s", i, copy[i].status, copy[i].out_text,
			      copy[i].err_text);
		run_free(&copy[i]);
	}
	/* What one asked for, the next brings in before: the first left it there. */
	ck_assert(exists(scratch("programs/working-set")));
	run_free(&source);
	run_start(&copy[0], &how,
		  ARGS("restore", dir, "--eager", "--clock", "jump", "--stats", "off"));
	run_wait(&copy[0]);
	ck_assert_msg(copy[0].status == 0, "%d: %s", copy[0].status, copy[0].err_text);
	run_free(&copy[0]);
}
END_TEST

/* Faults of vCPUs that were answered from the snapshot. */
static uint64_t asked(const json_t *root)
{
	json_t *area, *kase;
	uint64_t sum = 0;
	size_t i, k;

	json_array_foreach(json_object_get(root, "areas"), i, area)
	{
		json_array_foreach(json_object_get(area, "cases"), k, kase)
		{
			const char *name = json_string_value(json_object_get(kase, "case"));
			json_t *by = json_object_get(kase, "by_origin");
			if (strncmp(name, "snap_", 5) == 0 || strcmp(name, "file_huge") == 0)
				sum += (uint64_t)json_integer_value(json_object_get(by, "vcpu")) +
				       (uint64_t)json_integer_value(json_object_get(by, "kvm"));
		}
	}
	return sum;
}

/* The same of a restore that ran for so many seconds. */
static uint64_t asked_by_restore(const char *dir, const char *when, const char *huge,
				 unsigned seconds)
{
	struct run_how how = {.plain = true};
	struct run run;
	char limit[16];

	snprintf(limit, sizeof(limit), "%u", seconds);
	run_start(&run, &how,
		  ARGS("restore", dir, when, "--prefetch", "off", "--huge", huge, "--stats", "json",
		       "--time-limit", limit));
	run_wait(&run);
	json_t *root = json_loads(run.out_text, 0, NULL);
	ck_assert_msg(root, "%d: %s%s", run.status, run.out_text, run.err_text);
	uint64_t sum = asked(root);
	json_decref(root);
	run_free(&run);
	return sum;
}

/* With --eager nothing is left to be asked for; without, a guest that has run long enough asks. */
START_TEST(eager_leaves_no_fault)
{
	const char *dir = scratch("eager"), *huge = _i ? "always" : "never";
	unsigned seconds = 1;

	background("eager", ARGS(MEMORY_GUEST));
	some_moment(60000);
	snapshot("eager", dir);
	while (asked_by_restore(dir, "--lazy", huge, seconds) == 0)
		ck_assert_uint_lt(seconds *= 2, 100);
	ck_assert_uint_eq(asked_by_restore(dir, "--eager", huge, 2 * seconds), 0);
	expect_command(ARGS("stop", "eager", "--kill"), 0, "gone, status 109");
}
END_TEST

/* A paused VM stays paused; and is none the worse for many. */
START_TEST(of_a_paused_vm)
{
	background("still", ARGS(MEMORY_GUEST));
	expect_command(ARGS("pause", "still"), 0, "paused");
	expect_command(ARGS("snapshot", "still", scratch("still")), 0, "was paused, and is");
	expect_command(ARGS("snapshot", "still", scratch("still"), "--json"), 0,
		       "\"was_paused\": true");
	expect_command(ARGS("resume", "still"), 0, "goes on");
	expect_command(ARGS("verify", scratch("still")), 0, "whole");
	expect_command(ARGS("stop", "still", "--kill"), 0, "gone, status 109");
}
END_TEST

#define GENERATIONS 4

/*
 * Taken while the restored one's memory is still on its way: of what nobody asked for yet, of what
 * is being read, and with a limit under which it leaves again. All of it is in the next one.
 */
START_TEST(during_a_lazy_restore)
{
	const char *dir = scratch("lazy-0"), *swap = scratch("lazy.swap");
	struct told vm;
	pid_t pid;

	if (!have_userfaultfd())
		skip("no userfaultfd");
	pid = start_told("lz", ARGS("--halt", "exit"));
	tell_once("lz", "h1");
	snapshot("lz", dir);
	kill_and_wait(pid);
	for (int i = 1; i <= GENERATIONS; i++) {
		const char *next = scratch_keep(scratch("lazy-%d", i));
		struct run run;
		const char *line;
		int got = 0;

		foal_command(&run,
			     ARGS("restore", dir, "-d", "--name", "lz", "--time-limit", GUEST_LIMIT,
				  "--prefetch", "off", "--huge", i % 2 ? "never" : "auto",
				  i > 2 ? "--memory-limit" : "--stats", i > 2 ? "16M" : "off",
				  i > 2 ? "--swap" : "--stats", i > 2 ? swap : "off"));
		line = strstr(run.out_text, "pid ");
		ck_assert_msg(line && sscanf(line, "pid %d", &got) == 1, "%d: %s", run.status,
			      run.err_text);
		run_free(&run);
		vm = tell_to("lz");
		if (i > 1) /* while it looks */
			ck_assert_int_eq(send(vm.console, "e1", 2, MSG_NOSIGNAL), 2);
		expect_command(ARGS("snapshot", "lz", next, i % 2 ? "--json" : "--diff"), 0,
			       "paused");
		tell(&vm, "e1");
		hang_up(&vm);
		expect_command(ARGS("verify", next), 0, "whole");
		kill_and_wait(got);
		dir = next;
	}
	expect_command(ARGS("restore", dir, "-d", "--name", "lz", "--time-limit", GUEST_LIMIT), 0,
		       "running");
	tell_once("lz", "e1");
	tell_once("lz", "e1"); /* it may have said that it is done with what it looked at before */
	tell_once("lz", "w2");
	tell_once("lz", "a2");
}
END_TEST

/* --- what goes wrong ---------------------------------------------------------------------- */

START_TEST(refused)
{
	const char *file = make_pmem("shared.img", 16), *dir = scratch("refused");

	background("shares", ARGS(MEMORY_GUEST, "--pmem", scratch("shared.img")));
	expect_command(ARGS("snapshot", "shares", scratch("run")), 114, "is no snapshot");
	expect_command(ARGS("snapshot", "nobody", dir), 112, "no running VM");
	expect_command(ARGS("snapshot", "shares", ""), 100, "a name of its own");
	expect_command(ARGS("snapshot", "shares", scratch("..")), 100, "a name of its own");
	snapshot("shares", dir);
	expect_command(ARGS("snapshot", "shares", scratch("refused/.")), 100, "a name of its own");
	expect_command(ARGS("stop", "shares", "--kill"), 0, "gone");
	/* The file below is another one now. */
	write_file(file, "other", 5);
	expect_command(ARGS("restore", dir), 114, "not the file it was");
	unlink(file);
	expect_command(ARGS("restore", dir), 114, "No such file or directory; put the file back");
	expect_command(ARGS("restore", scratch("nowhere")), 114, "No such file");
	expect_command(ARGS("restore", scratch("run")), 114, "this is no snapshot");
	expect_command(ARGS("restore", dir, "--memory", "1G"), 100, "the memory is the snapshot's");
	expect_command(ARGS("restore", dir, "--cpus", "2"), 100, "--cpus: no such option");
	expect_command(ARGS("restore", dir, "--clock", "slow"), 100, "freeze or jump");
	/* What contradicts itself on the command line is not the snapshot's fault. */
	expect_command(ARGS("restore", dir, "--memory-limit", "15M"), 100,
		       "restore: --memory-limit");
	expect_command(ARGS("restore", dir, "--memory-limit", "24M", "--huge", "always"), 100,
		       "restore: --memory-limit: pages are reclaimed by 4 KiB");
	expect_command(ARGS("restore", dir, "--swap", "x"), 100, "restore: --swap");
	expect_command(ARGS("restore", dir, "-d", "--stats", "json"), 100, "restore: -d");
	expect_command(ARGS("verify"), 100, "give one DIR");
	expect_command(ARGS("verify", "--json"), 100, "no such option");
	expect_command(ARGS("snapshot", "merge", dir, "--compress"), 100, "needs a value");
	expect_command(ARGS("snapshot", "merge", "--diff", dir), 100,
		       "merge: --diff: no such option");

	make_pmem("written.img", 16);
	char option[256];
	snprintf(option, sizeof(option), "%s,mode=shared", scratch("written.img"));
	background("writes", ARGS(MEMORY_GUEST, "--pmem", option));
	expect_command(ARGS("snapshot", "writes", scratch("shared-refused")), 113, "mode=shared");
	ck_assert(!exists(scratch("shared-refused")) && leftovers(scratch("shared-refused")) == 0);
	expect_command(ARGS("stop", "writes", "--kill"), 0, "gone");
}
END_TEST

/* A link to a snapshot is not replaced: what it leads to would go with it. */
START_TEST(linked)
{
	char link[256];

	background("tied", ARGS(MEMORY_GUEST));
	snapshot("tied", scratch("linked-first"));
	snprintf(link, sizeof(link), "%s", scratch("latest"));
	ck_assert_int_eq(symlink("linked-first", link), 0);
	expect_command(ARGS("snapshot", "tied", link), 114, "is a symbolic link");
	expect_command(ARGS("snapshot", "tied", scratch("latest/")), 114, "is a symbolic link");
	expect_command(ARGS("verify", scratch("linked-first")), 0, "whole");
	expect_command(ARGS("stop", "tied", "--kill"), 0, "gone");
}
END_TEST

/* Whatever comes with the files, all of them are closed again. */
START_TEST(too_many_things)
{
	pid_t pid = background("given", ARGS(MEMORY_GUEST));
	int fd = control_connect("given"), ends[2], yes = 1;
	unsigned before = descriptors_of(pid);
	char request[] = "{\"command\":\"snapshot\"}\n";

	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
		ck_assert_int_eq(setsockopt(ends[1], SOL_SOCKET, SO_PASSCRED, &yes, sizeof(yes)),
				 0);
		ck_assert_int_gt(fd_send(ends[0], "x", 1, 0, STDERR_FILENO), 0);
		ck_assert_int_gt(fd_send(fd, request, strlen(request), 0, ends[1]), 0);
		json_t *reply = control_line(fd);
		ck_assert(json_is_false(json_object_get(reply, "ok")));
		json_decref(reply);
		close(ends[0]);
		close(ends[1]);
	}
	descriptors_fall(pid, before);
	close(fd);
}
END_TEST

Suite *snapshot_suite(void)
{
	Suite *suite = suite_create("snapshot");
	TCase *tc = tcase_create("snapshot");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, NULL, end_all);
	tcase_add_loop_test(tc, programs, 0, 4);
	tcase_add_loop_test(tc, eager_leaves_no_fault, 0, 2);
	tcase_add_test(tc, of_a_paused_vm);
	tcase_add_test(tc, during_a_lazy_restore);
	tcase_add_test(tc, refused);
	suite_add_tcase(suite, tc);
	tc = tcase_create("mistakes");
	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, NULL, end_all);
	tcase_add_test(tc, linked);
	tcase_add_test(tc, too_many_things);
	suite_add_tcase(suite, tc);
	return suite;
}
