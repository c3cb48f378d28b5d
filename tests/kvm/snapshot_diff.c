/*
 * Snapshots that are differences, compressed ones, and chains made one: what comes back from any of
 * them goes on where it was, and checks its own memory and files.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/kvm/snapshot_rig.h"
#include "tests/kvm/suites.h"

static pid_t restored(const char *dir, const char *name)
{
	static unsigned lives;
	struct run run;
	char *line;
	int pid;

	foal_command(&run, ARGS("restore", dir, "-d", "--time-limit", GUEST_LIMIT, "--name", name,
				lives++ % 3 ? "--lazy" : "--eager"));
	line = strstr(run.out_text, ": running, pid ");
	ck_assert_msg(run.status == 0 && line && sscanf(line, ": running, pid %d", &pid) == 1,
		      "%s: %d: %s%s", dir, run.status, run.out_text, run.err_text);
	run_free(&run);
	return pid;
}

static void end(pid_t pid)
{
	ck_assert_msg(kill(pid, SIGKILL) == 0, "the guest had ended");
	while (kill(pid, 0) == 0)
		usleep(200);
}

/* --- chains --------------------------------------------------------------------------------- */

#define CHAIN 6

/* Full, then differences to the last, to the first, compressed or not; each stands for itself. */
START_TEST(chains)
{
	const char *first = scratch("chain-0");
	char dirs[CHAIN][256];
	pid_t pid = background("links", ARGS(MEMORY_GUEST));

	snapshot("links", first);
	for (int i = 0; i < CHAIN; i++) {
		snprintf(dirs[i], sizeof(dirs[i]), "%s", scratch("chain-%d", i + 1));
		some_moment(30000);
		if (i == 3) /* across a life: what it was restored from is the last one */
			end(pid), pid = restored(dirs[2], "links");
		if (i % 2)
			expect_command(
			    ARGS("snapshot", "links", dirs[i], "--diff", "--compress", "zstd"), 0,
			    i ? dirs[i - 1] : first);
		else if (i == 4)
			expect_command(ARGS("snapshot", "links", dirs[i], "--diff", first), 0,
				       "more than");
		else
			expect_command(ARGS("snapshot", "links", "--diff", dirs[i], "--json"), 0,
				       "\"parent\"");
	}
	end(pid);
	for (int i = CHAIN - 1; i >= 0; i--) {
		expect_command(ARGS("verify", dirs[i]), 0, "whole");
		pid = restored(dirs[i], "links");
		some_moment(60000);
		end(pid);
	}
	/* In the middle: what lies over it does not notice. */
	expect_command(ARGS("snapshot", "merge", dirs[2], "--compress", "zstd"), 0, "made of 4");
	expect_command(ARGS("snapshot", "merge", dirs[3], scratch("alone")), 0, "made of 2");
	ck_assert_int_eq(rename(first, scratch("away")), 0);
	expect_command(ARGS("verify", scratch("alone")), 0, "whole");
	expect_command(ARGS("verify", dirs[3]), 0, "whole");
	expect_command(ARGS("verify", dirs[4]), 114,
		       "manifest.json: what it is the difference to: ");
	pid = restored(scratch("alone"), "links");
	some_moment(60000);
	end(pid);
}
END_TEST

static void expect_broken(const char *dir, const char *words)
{
	expect_command(ARGS("verify", dir), 114, words);
	expect_command(ARGS("restore", dir), 114, words);
	expect_command(ARGS("snapshot", "merge", dir, scratch("of-broken")), 114, words);
	ck_assert(!exists(scratch("of-broken")) && leftovers(scratch("of-broken")) == 0);
}

START_TEST(broken_chains)
{
	const char *base = scratch("below"), *top = scratch("above"), *other = scratch("other");

	background("broken", ARGS(MEMORY_GUEST));
	expect_command(ARGS("snapshot", "broken", top, "--diff"), 113, "say which one");
	ck_assert(!exists(top) && leftovers(top) == 0);
	expect_command(ARGS("snapshot", "broken", top, "--diff", base), 114, "No such file");
	expect_command(ARGS("snapshot", "broken", top, "--compress", "lz4"), 100, "give zstd");
	expect_command(ARGS("snapshot", "broken", top, base), 100, "not taken");
	snapshot("broken", base);
	expect_command(ARGS("snapshot", "broken", base, "--diff"), 114, "which it would replace");
	expect_command(ARGS("snapshot", "broken", scratch("below//")), 0, "paused for");
	expect_command(ARGS("snapshot", "broken", top, "--diff"), 0, "more than");
	expect_command(ARGS("snapshot", "merge", top, base), 114, "give another name");
	expect_command(ARGS("snapshot", "merge"), 100, "give one DIR");
	expect_command(ARGS("verify", top), 0, "whole");

	/* Moved together they are what they were. */
	const char *to = scratch("moved/above");
	ck_assert_int_eq(mkdir(scratch("moved"), 0700), 0);
	ck_assert_int_eq(rename(base, scratch("moved/below")), 0);
	expect_broken(top, "No such file");
	ck_assert_int_eq(rename(top, to), 0);
	expect_command(ARGS("verify", to), 0, "whole");
	ck_assert_int_eq(rename(to, top), 0);

	/* Another one is there now: of the same VM, and of another machine. */
	snapshot("broken", base);
	expect_broken(top, "another snapshot than");
	background("else", ARGS("--kernel", guest_path("working-set.elf"), "--append",
				"pages=40 passes=100000000", "--memory", "24M"));
	snapshot("else", other);
	expect_command(ARGS("snapshot", "broken", top, "--diff", other), 114, "another machine");
	expect_command(ARGS("stop", "broken", "--kill"), 0, "gone, status 109");
	expect_command(ARGS("stop", "else", "--kill"), 0, "gone, status 109");
}
END_TEST

/* As many as are read; one more is refused when it is to be taken. */
START_TEST(long_chain)
{
	char dir[256];

	background("long", ARGS("--kernel", guest_path("working-set.elf"), "--append",
				"pages=40 passes=100000000", "--memory", "24M"));
	snapshot("long", scratch("long-0"));
	for (int i = 1; i < 64; i++)
		expect_command(ARGS("snapshot", "long", scratch("long-%d", i), "--diff"), 0,
			       "more than");
	expect_command(ARGS("snapshot", "long", scratch("long-64"), "--diff"), 114,
		       "merge it first");
	expect_command(ARGS("stop", "long", "--kill"), 0, "gone, status 109");
	snprintf(dir, sizeof(dir), "%s", scratch("long-63"));
	expect_command(ARGS("verify", dir), 0, "whole");
	end(restored(dir, "long"));
	expect_command(ARGS("snapshot", "merge", dir), 0, "made of 64");
	end(restored(dir, "long"));
}
END_TEST

/* --- rounds, with programs and files ------------------------------------------------------ */

struct life {
	pid_t pid;
	int fd; /* its control socket: where its end is told */
	const char *dir;
	unsigned lives;
};

/* Whoever never asks is not listened to for long. */
static int listen_to(const char *name)
{
	int fd = control_connect(name);

	json_decref(control_ask(fd, "{\"command\":\"status\"}"));
	return fd;
}

static void begin(struct life *life, unsigned which)
{
	char line[128];

	snprintf(line, sizeof(line), "quiet root=/dev/vda init=/bin/%s",
		 which % 2 ? "check" : "main");
	life->pid = background("files", ARGS("--kernel", image_path("kernel.elf"), "--disk",
					     copy_file(image_path("disk.img"), "files.img"),
					     "--memory", "64M", "--append", line));
	life->fd = listen_to("files");
	life->lives = 1;
}

/* Its programs found all as it was, to the last. */
static void expect_good_end(struct life *life)
{
	json_t *said = control_line(life->fd);

	ck_assert_msg(said != NULL, "killed, after %u lives", life->lives);
	ck_assert_msg(json_is_integer(json_object_get(said, "status")) &&
			  json_integer_value(json_object_get(said, "status")) == 0,
		      "after %u lives: %s", life->lives, json_dumps(said, 0));
	json_decref(said);
	close(life->fd);
}

/* False: the guest has ended before. */
static bool next_life(struct life *life, unsigned round)
{
	char last[256];
	struct run run;

	snprintf(last, sizeof(last), "%s", life->dir ? life->dir : "");
	life->dir = scratch("files-%u", round);
	if (life->lives > 1 && round % 5)
		foal_command(&run, ARGS("snapshot", "files", life->dir, "--diff",
					round % 3 ? "--json" : "--compress=zstd"));
	else
		foal_command(&run, ARGS("snapshot", "files", life->dir));
	int status = run.status;
	ck_assert_msg(status == 0 || status == 112 || status == 113, "%d: %s", status,
		      run.err_text);
	run_free(&run);
	if (status)
		return false;
	some_moment(20000);
	kill(life->pid, SIGKILL);
	while (kill(life->pid, 0) == 0)
		usleep(200);
	close(life->fd);
	if (round % 7 == 3)
		expect_command(ARGS("snapshot", "merge", life->dir), 0, "stands alone");
	life->pid = restored(life->dir, "files");
	life->fd = listen_to("files");
	life->lives++;
	return true;
}

START_TEST(rounds_with_files)
{
	unsigned n = times("FOAL_SNAPSHOT_ROUNDS", 20), guests = 0;
	struct life life = {0};

	if (access(image_path("kernel.elf"), R_OK) || access(image_path("disk.img"), R_OK))
		skip("no guest kernel or images here");
	begin(&life, guests);
	for (unsigned i = 0; i < n; i++) {
		some_moment(60000);
		if (next_life(&life, i))
			continue;
		expect_good_end(&life);
		begin(&life, ++guests);
	}
	expect_good_end(&life);
	printf("%u rounds of %u guests\n", n, guests + 1);
}
END_TEST

/* --- layers of disks ------------------------------------------------------------------------ */

static unsigned overlays_of(const char *vm, pid_t pid)
{
	char path[320], name[256];
	const struct dirent *entry;
	unsigned n = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	DIR *list = opendir(path);
	if (!list) { /* it says why it ended */
		int error = errno;
		size_t len;
		const char *log = read_file(scratch("run/%s.log", vm), &len);
		ck_abort_msg("%s: %s: %s", path, strerror(error), log);
	}
	while ((entry = readdir(list))) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)pid, entry->d_name);
		ssize_t len = readlink(path, name, sizeof(name) - 1);
		name[len > 0 ? len : 0] = 0;
		n += strstr(name, "foal-overlay") != NULL;
	}
	closedir(list);
	return n;
}

static const char *empty_disk(const char *name)
{
	const char *path = scratch("%s", name);

	write_file(path, "", 0);
	ck_assert_int_eq(truncate(path, 4 << 20), 0);
	return path;
}

/* Reads and writes a disk all the time, and checks what it reads. */
#define DISK_GUEST(disk) \
	"--kernel", guest_path("disk.elf"), "--append", "blocks=512 passes=100000000", "--memory", \
	    "32M", "--disk", disk

/*
 * However many snapshots: what is being written, what was frozen last, and the rest as one. With
 * I/O in flight, as always here: what comes back finds its disk as its memory says.
 */
START_TEST(layers_do_not_pile_up)
{
	unsigned most = 0;
	pid_t pid = background("writes", ARGS(DISK_GUEST(empty_disk("written.img"))));

	snapshot("writes", scratch("piled-0"));
	for (unsigned i = 1; i <= 30; i++) {
		const char *dir = scratch("piled-%u", i);

		some_moment(20000);
		expect_command(ARGS("snapshot", "writes", dir, "--diff"), 0, "more than");
		unsigned n = overlays_of("writes", pid);
		most = n > most ? n : most;
		if (i % 10)
			continue;
		end(pid);
		if (i == 20)
			expect_command(ARGS("snapshot", "merge", dir), 0, "made of 21");
		pid = restored(dir, "writes");
	}
	ck_assert_uint_le(most, 3);
	ck_assert_uint_ge(most, 2);
	some_moment(50000);
	end(pid);
	expect_command(ARGS("verify", scratch("piled-30")), 0, "whole");
}
END_TEST

Suite *snapshot_diff_suite(void)
{
	Suite *suite = suite_create("snapshot_diff");
	TCase *tc = tcase_create("snapshot_diff");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, NULL, end_all);
	tcase_add_test(tc, chains);
	tcase_add_test(tc, broken_chains);
	tcase_add_test(tc, long_chain);
	tcase_add_test(tc, rounds_with_files);
	tcase_add_test(tc, layers_do_not_pile_up);
	suite_add_tcase(suite, tc);
	return suite;
}
