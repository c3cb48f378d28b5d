/*
 * VMs that go back to their reset points, by command and by their bell: what comes back finds
 * its memory, registers, devices and files as they were, whatever happened since, and
 * what is brought back is what was written.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/kvm/snapshot_rig.h"
#include "tests/kvm/suites.h"

#define RESET "{\"command\":\"reset\"}"
#define HERE  "{\"command\":\"reset\",\"here\":true}"

/* No two tests' VMs have one. */
static const char *name_of(const char *what, int i)
{
	static char name[32];

	snprintf(name, sizeof(name), "%s%d", what, i);
	return name;
}

static uint64_t reset_number(const struct run *run, const char *key)
{
	return stats_number(run, "reset", key);
}

/* --- by the bell --------------------------------------------------------------------------- */

static const struct {
	const char *engine, *append;
	unsigned rounds;
} bells[] = {
    {"auto", "", 1000},
    {"handler", "", 100},
    {"kernel", "", 100},
    {"auto", "controls=1", 100},
};

/* Each round it has changed everything, and checks everything. */
START_TEST(bell)
{
	unsigned rounds = rounds_here(bells[_i].rounds);
	char append[40];
	struct run run;

	snprintf(append, sizeof(append), "rounds=%u %s", rounds, bells[_i].append);
	run_foal(&run,
		 ARGS("--kernel", guest_path("reset.elf"), "--reset-port", "on", "--fault-engine",
		      bells[_i].engine, "--append", append, "--time-limit", GUEST_LIMIT));
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	ck_assert_uint_eq(reset_number(&run, "points"), 1);
	ck_assert_uint_eq(reset_number(&run, "resets"), rounds);
	run_free(&run);
}
END_TEST

/* Pages brought back by ten resets of a guest that writes @pages. */
static uint64_t brought_back(const char *pages, const char *huge, const char *memory,
			     unsigned stride)
{
	char append[80];
	struct run run;
	uint64_t n;

	snprintf(append, sizeof(append), "bare=1 same=1 move=1 rounds=10 stride=%u pages=%s",
		 stride, pages);
	run_foal(&run, ARGS("--kernel", guest_path("reset.elf"), "--reset-port", "on", "--huge",
			    huge, "--memory", memory, "--append", append));
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	n = reset_number(&run, "pages");
	run_free(&run);
	return n;
}

/*
 * What was written since, other pages in each round, and no more: also where the host has 2 MiB
 * pages.
 */
START_TEST(counts)
{
	const char *huge = _i ? "always" : "never";

	ck_assert_uint_eq(
	    brought_back("512", huge, "256M", 3) - brought_back("12", huge, "256M", 3), 5000);
}
END_TEST

/* Of pages so far apart that KVM's log of them is cleared in parts. */
START_TEST(counts_apart)
{
	ck_assert_uint_eq(brought_back("12", "never", "1G", 17000) -
			      brought_back("2", "never", "1G", 17000),
			  100);
}
END_TEST

/* --- by command ------------------------------------------------------------------------------ */

static void waiting_guest(const char *name)
{
	background(name, ARGS("--kernel", guest_path("reset.elf"), "--reset-port", "on", "--append",
			      "wait=1"));
}

START_TEST(commands)
{
	const char *name = name_of("back", _i);

	waiting_guest(name);
	int fd = control_connect(name), console = control_console(fd);

	read_until(console, "ready\n");
	control_refused(fd, RESET, "state");
	expect_command(ARGS("reset", name), 113, "it has no reset point");
	if (_i == 0)
		expect_command(ARGS("reset", name, "--here"), 0, "its reset point is here");
	else
		control_number(fd, "{\"command\":\"reset\",\"here\":true,\"clock\":\"jump\"}",
			       "paused_ns");
	for (uint64_t i = 1; i <= 20; i++) {
		/* The page of its counter, those that it changed, its stack. */
		uint64_t pages = control_number(fd, RESET, "pages");

		ck_assert_msg(pages >= (i > 1 ? 64 : 0) && pages < 100, "%lu pages",
			      (unsigned long)pages);
		read_until(console, "changed\n");
	}
	expect_command(ARGS("reset", name), 0, "back at its reset point");
	close(console);
	close(fd);
}
END_TEST

START_TEST(paused)
{
	waiting_guest("paused");
	int fd = control_connect("paused"), console = control_console(fd);

	read_until(console, "ready\n");
	control_number(fd, HERE, "took_ns");
	control_number(fd, RESET, "took_ns");
	read_until(console, "changed\n");
	control_number(fd, "{\"command\":\"pause\"}", "took_ns");
	control_number(fd, RESET, "took_ns");
	expect_command(ARGS("ps"), 0, " paused ");
	control_number(fd, RESET, "took_ns");
	control_number(fd, "{\"command\":\"resume\"}", "paused_ns");
	read_until(console, "changed\n");
	close(console);
	close(fd);
}
END_TEST

START_TEST(refused)
{
	const char *pmem = make_pmem("shared.img", 16);
	char option[600];

	snprintf(option, sizeof(option), "%s,mode=shared", pmem);
	background("shared", ARGS(MEMORY_GUEST, "--pmem", option));
	expect_command(ARGS("reset", "shared", "--here"), 113, "no reset point");
	expect_command(ARGS("reset", "shared", "--clock", "jump"), 100, "--here");
	expect_command(ARGS("reset", "shared", "--here", "--clock", "back"), 100, "freeze or jump");
	expect_refusal(
	    ARGS("--kernel", guest_path("loop.elf"), "--reset-port", "on", "--pmem", option), 100,
	    "--reset-port: no reset point: the guest writes");
}
END_TEST

/* --- two processors, at any moment -------------------------------------------------------- */

/* They check all that they set, as do those that never went back. */
START_TEST(processors)
{
	char append[24];
	struct run run;

	snprintf(append, sizeof(append), "rounds=%u", rounds_here(400));
	run_start(&run, NULL,
		  ARGS("--name", "lives", "--kernel", guest_path("lives.elf"), "--cpus", "2",
		       "--memory", "32M", "--time-limit", GUEST_LIMIT, "--append", append));
	int fd = control_connect_soon("lives");
	for (int i = 0; i < 30; i++) {
		some_moment(5000);
		control_number(fd, i % 5 ? RESET : HERE, "took_ns");
	}
	run_wait(&run);
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	close(fd);
	run_free(&run);
}
END_TEST

/*
 * One that waits for a page when it is taken back, halted by KVM until it is there, goes on all
 * the same: it hears what is typed.
 */
START_TEST(waits_for_pages)
{
	struct run run;

	run_start(&run, NULL,
		  ARGS("--name", "waits", "--kernel", guest_path("waits.elf"), "--memory", "64M",
		       "--memory-limit", "16M", "--swap", scratch("reset-swap"), "--time-limit",
		       GUEST_LIMIT));
	run_until(&run, "ready\n");
	int fd = control_connect_soon("waits");
	for (unsigned i = 0; i < rounds_here(60); i++) {
		some_moment(5000);
		control_number(fd, i ? RESET : HERE, "took_ns");
	}
	run_type(&run, "q", 1);
	run_wait(&run);
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	close(fd);
	run_free(&run);
}
END_TEST

/* --- a kernel, its programs, its disk ------------------------------------------------------- */

/* False: it has ended instead. */
static bool did(int fd, const char *request)
{
	json_t *reply = NULL;
	bool ok;

	if (send(fd, request, strlen(request), MSG_NOSIGNAL) > 0)
		reply = control_line(fd);
	ok = json_is_true(json_object_get(reply, "ok"));
	json_decref(reply);
	return ok;
}

static bool has_kernel(void)
{
	return access(image_path("kernel.elf"), R_OK) == 0 &&
	       access(image_path("disk.img"), R_OK) == 0;
}

static const char *const checks[] = {"init=/bin/check", "init=/bin/main"};

/*
 * Programs with memory of every kind, and files: set back again and again, from wherever they are,
 * they end well. With a limit their memory is in the swap file.
 */
START_TEST(programs)
{
	const char *swap = scratch("reset-swap");
	struct run run;
	const char *name = name_of("programs", _i);
	char line[128];

	if (!has_kernel())
		skip("no guest kernel or images here");
	snprintf(line, sizeof(line), "quiet root=/dev/vda %s", checks[_i % 2]);
	run_start(&run, NULL,
		  ARGS("--name", name, "--kernel", image_path("kernel.elf"), "--disk",
		       copy_file(image_path("disk.img"), "reset-disk.img"), "--memory", "64M",
		       "--append", line, "--time-limit", GUEST_LIMIT,
		       _i < 2 ? "--fault-engine" : "--memory-limit", _i < 2 ? "auto" : "24M",
		       _i < 2 ? "--halt" : "--swap", _i < 2 ? "auto" : swap));
	int fd = control_connect_soon(name);
	some_moment(100000);
	/* One that is fast ends meanwhile. */
	for (int i = 0; i < 12 && did(fd, i % 6 ? RESET "\n" : HERE "\n"); i++)
		some_moment(40000);
	close(fd);
	run_wait(&run);
	ck_assert_msg(run.status == 0, "status %d: %s%s", run.status, run.out_text, run.err_text);
	run_free(&run);
}
END_TEST

/* --- with snapshots --------------------------------------------------------------------------- */

/* A guest that checks its memory for ever, restored: its start is its point. */
START_TEST(restored)
{
	const char *dir = scratch("reset-snapshot");

	background("source", ARGS(MEMORY_GUEST));
	some_moment(100000);
	snapshot("source", dir);
	expect_command(ARGS("restore", dir, "--reset-point", "-d", "--name", "copy", "--time-limit",
			    GUEST_LIMIT),
		       0, "running");
	int fd = control_connect("copy");
	for (int i = 0; i < 12; i++) {
		some_moment(50000);
		if (i == 6) /* one that has a point is frozen as any other, and keeps it */
			expect_command(ARGS("snapshot", "copy", scratch("reset-again")), 0,
				       "paused for");
		control_number(fd, RESET, "took_ns");
	}
	some_moment(100000);
	ck_assert_uint_eq(control_number(fd, "{\"command\":\"status\"}", "paused_for_ns"), 0);
	close(fd);
	expect_command(ARGS("restore", scratch("reset-again"), "-d", "--name", "again",
			    "--time-limit", GUEST_LIMIT),
		       0, "running");
	expect_command(ARGS("reset", "again"), 113, "it has no reset point");
}
END_TEST

Suite *reset_suite(void)
{
	Suite *s = suite_create("reset");
	TCase *t = tcase_create("reset");

	tcase_set_timeout(t, TEST_LIMIT);
	tcase_add_checked_fixture(t, NULL, end_all);
	tcase_add_loop_test(t, bell, 0, 4);
	tcase_add_loop_test(t, counts, 0, 2);
	tcase_add_test(t, counts_apart);
	tcase_add_loop_test(t, commands, 0, 2);
	tcase_add_test(t, paused);
	tcase_add_test(t, refused);
	tcase_add_test(t, processors);
	tcase_add_test(t, waits_for_pages);
	tcase_add_loop_test(t, programs, 0, 4);
	tcase_add_test(t, restored);
	suite_add_tcase(s, t);
	return s;
}
