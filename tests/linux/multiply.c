/*
 * A stock Linux guest of which more are made: a fork, and clones of a template, of which one goes
 * back to where it began. In each all processes go on with their memory, open files and disk as
 * they were, none sees what another one writes, clocks do not go back, and random numbers differ.
 * The guest's part is jobs/multiply.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/kvm/told.h"
#include "tests/linux/suites.h"

/* Seconds: they share a processor that is emulated. */
#define LONG "600"

/* What a guest says to `look`. */
struct seen {
	char drawn[33];	     /* random bytes */
	char file[64];	     /* the words in its file */
	unsigned reseeded;   /* so often it was told that it is another VM */
	unsigned long clock; /* hundredths of a second since its boot */
	unsigned cpus;
	unsigned long host[2]; /* the host's, when it was asked and when it had said so */
};

static unsigned long hundredths(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (unsigned long)now.tv_sec * 100 + (unsigned long)now.tv_nsec / 10000000;
}

/* Have @name's guest do @what; what it said, free() it. */
static char *order(const char *name, const char *what, const char *more)
{
	struct told vm = tell_to(name);
	char line[64], end[64];

	snprintf(line, sizeof(line), "%s %s\n", what, more);
	snprintf(end, sizeof(end), "guest: %s done\n", what);
	ck_assert_int_eq(send(vm.console, line, strlen(line), MSG_NOSIGNAL), (ssize_t)strlen(line));
	char *heard = heard_until(vm.console, end);
	ck_assert_msg(!strstr(heard, "guest: wrong"), "%s: %s", name, heard);
	hang_up(&vm);
	return heard;
}

/* It writes @word, to memory and disk. */
static void have_written(const char *name, const char *word)
{
	free(order(name, "write", word));
}

/* All is well with @name, whose file has these @words. */
static struct seen look(const char *name, const char *reseeded, const char *words)
{
	struct seen seen = {.host = {hundredths()}};
	char *heard = order(name, "look", reseeded);
	const char *said = strstr(heard, "guest: drawn ");

	ck_assert_msg(said && sscanf(said,
				     "guest: drawn %32s guest: reseeded %u guest: file %63[^\n] "
				     "guest: clock %lu, CPUs %u",
				     seen.drawn, &seen.reseeded, seen.file, &seen.clock,
				     &seen.cpus) == 5,
		      "%s: %s", name, heard);
	ck_assert_msg(strcmp(seen.file, words) == 0, "%s: \"%s\", not \"%s\"", name, seen.file,
		      words);
	ck_assert_msg(seen.reseeded == strtoul(reseeded, NULL, 10), "%s: %s", name, heard);
	free(heard);
	seen.host[1] = hundredths();
	return seen;
}

/* Of one guest at two moments, or of its copy at the second. What it was frozen is not counted. */
static void expect_later(const struct seen *first, const struct seen *then)
{
	unsigned long passed = then->host[1] - first->host[0];

	ck_assert_uint_ge(then->clock, first->clock);
	ck_assert_uint_le(then->clock - first->clock, passed + passed / 4 + 200);
	ck_assert_uint_eq(then->cpus, first->cpus);
	ck_assert_str_ne(then->drawn, first->drawn);
}

/* Its last order: its disk is whole, and has these words. */
static void expect_whole(const char *name, const char *words)
{
	const char *dir = scratch("%s-at-rest", name), *image;
	size_t len;
	char *heard = order(name, "rest", "");

	ck_assert_msg(strstr(heard, "guest: log: clean"), "%s: %s", name, heard);
	free(heard);
	expect_command(ARGS("snapshot", name, dir), 0, "the guest was paused for");
	image = copy_file(linux_path("root.img"), "laid-over");
	lay_over(image, dir);
	expect_fs_clean(image);
	char *file = (char *)file_in_image(image, "/file", &len);
	ck_assert_msg(len == strlen(words) && memcmp(file, words, len) == 0, "%s: %.*s", name,
		      (int)len, file);
	free(file);
	expect_command(ARGS("stop", name, "--kill"), 0, "gone");
}

/* They share one emulated processor: who is not asked stands still. */
static void stand_still(const char *name)
{
	expect_command(ARGS("pause", name, "--timeout", "60"), 0, "paused");
}

static void go_on(const char *name)
{
	expect_command(ARGS("resume", name), 0, "paused");
}

/* Until its guest listens. */
static void boot(const char *name, const char *cpus)
{
	char disk[300];

	snprintf(disk, sizeof(disk), "%s,mode=cow", linux_path("root.img"));
	background(name,
		   ARGS("--kernel", linux_path("vmlinuz"), "--initrd", linux_path("initrd.gz"),
			"--memory", "128M", "--cpus", cpus, "--disk", disk, "--append",
			"console=ttyS0 panic=-1 quiet job=multiply", "--time-limit", LONG));
	int control = control_connect(name), console = control_console(control);
	read_until(console, "guest: listening\n");
	close(console);
	close(control);
}

/* Both go on from one moment, each on its own. */
static struct seen fork_it(const struct seen *before)
{
	expect_command(ARGS("fork", "linux"), 0, "linux.1: running");
	have_written("linux", "parent");
	stand_still("linux");
	struct seen child = look("linux.1", "1", "before ");
	have_written("linux.1", "child");
	stand_still("linux.1");
	go_on("linux");
	struct seen parent = look("linux", "0", "before parent ");
	stand_still("linux");
	go_on("linux.1");
	expect_later(before, &child);
	expect_later(before, &parent);
	ck_assert_str_ne(parent.drawn, child.drawn);
	expect_whole("linux.1", "before\nchild\n");
	go_on("linux");
	return parent;
}

/* Two clones, of which the second goes back to where it began. */
static void clone_it(const struct seen *kept)
{
	expect_command(ARGS("clone", "kept", "--name", "one"), 0, "one: running");
	expect_command(ARGS("clone", "kept", "--name", "two", "--reset-point"), 0, "two: running");
	have_written("one", "first");
	stand_still("one");
	struct seen two = look("two", "1", "before parent ");
	have_written("two", "second");
	stand_still("two");
	go_on("one");
	struct seen one = look("one", "1", "before parent first ");
	expect_later(kept, &one);
	expect_later(kept, &two);
	ck_assert_str_ne(one.drawn, two.drawn);
	expect_whole("one", "before\nparent\nfirst\n");
	go_on("two");
	two = look("two", "1", "before parent second ");

	expect_command(ARGS("reset", "two"), 0, "back at its reset point");
	struct seen again = look("two", "1", "before parent ");
	expect_later(kept, &again);
	ck_assert_str_ne(again.drawn, two.drawn);
	ck_assert_str_ne(again.drawn, one.drawn);
	have_written("two", "third");
	expect_whole("two", "before\nparent\nthird\n");
}

/* With one vCPU the template is made of a snapshot, with two of the running VM, with a pool. */
START_TEST(more_of_one)
{
	const char *dir = scratch("frozen");

	boot("linux", _i ? "2" : "1");
	have_written("linux", "before");
	struct seen before = look("linux", "0", "before ");
	ck_assert_uint_eq(before.cpus, _i ? 2 : 1);
	struct seen parent = fork_it(&before);
	if (_i) {
		expect_command(ARGS("template", "linux", "--name", "kept", "--pool", "1"), 0,
			       "kept: template");
	} else {
		expect_command(ARGS("snapshot", "linux", dir), 0, "the guest was paused for");
		expect_command(ARGS("template", dir, "--name", "kept", "--pool", "0"), 0,
			       "kept: template");
	}
	have_written("linux", "alone");
	expect_whole("linux", "before\nparent\nalone\n");
	clone_it(&parent);
}
END_TEST

Suite *multiply_suite(void)
{
	Suite *suite = suite_create("multiply");
	TCase *tc = tcase_create("multiply");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, NULL, end_all);
	tcase_add_loop_test(tc, more_of_one, 0, 2);
	suite_add_tcase(suite, tc);
	return suite;
}
