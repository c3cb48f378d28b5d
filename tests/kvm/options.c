/* Command lines that are wrong: a status, and one line that says what. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

/* Arguments of `foal run`; words that begin with '@' are made by make_argument(). */
static const struct {
	const char *args[8];
	int status;
	const char *words;
} lines[] = {
    {{NULL}, 100, "--kernel FILE is needed"},
    {{"--kernel", "@exit", "extra"}, 100, "extra: not an option"},
    {{"--kernel", "@exit", "--nonsense"}, 100, "--nonsense: no such option"},
    {{"--kernel", "@exit", "-x"}, 100, "-x: no such option"},
    {{"--kernel", "@exit", "--memory", "0"}, 100, "--memory 0: give a whole number and a unit"},
    {{"--kernel", "@exit", "--memory", "0M"}, 100, "--memory 0M: a guest needs memory"},
    {{"--kernel", "@exit", "--memory", "256"}, 100, "give a whole number and a unit"},
    {{"--kernel", "@exit", "--memory", "-1M"}, 100, "give a whole number and a unit"},
    {{"--kernel", "@exit", "--memory", ""}, 100, "give a whole number and a unit"},
    {{"--kernel", "@exit", "--memory", "1MM"}, 100, "give a whole number and a unit"},
    {{"--kernel", "@exit", "--memory", "99999999999999999999M"}, 100, "give a whole number"},
    {{"--kernel", "@exit", "--memory", "5K"}, 100, "give a multiple of 4K"},
    {{"--kernel", "@exit", "--memory", "1M"}, 104, "a guest needs more than 1M"},
    {{"--kernel", "@exit", "--memory", "1000T"}, 100, "more than guest-physical addresses"},
    {{"--kernel", "@exit", "--memory", "200T"}, 104, "more than this machine has"},
    {{"--kernel", "@exit", "--cpus", "0"}, 100, "--cpus 0: give a whole number from 1 to 64"},
    {{"--kernel", "@exit", "--cpus", "65"}, 100, "--cpus 65: give a whole number from 1 to 64"},
    {{"--kernel", "@exit", "--cpus", "two"}, 100, "--cpus two"},
    {{"--kernel", "@exit", "--fault-around", "3"}, 100, "give a power of two"},
    {{"--kernel", "@exit", "--fault-around", "1024"}, 100, "from 1 to 512"},
    {{"--kernel", "@exit", "--fault-engine", "magic"}, 100, "one of auto, handler, kernel"},
    {{"--kernel", "@exit", "--halt", "now"}, 100, "one of guest, exit"},
    {{"--kernel", "@exit", "--time-limit", "0"}, 100, "--time-limit 0"},
    {{"--kernel", "@exit", "--name", ""}, 100, "give 1 to 63 characters"},
    {{"--kernel", "@exit", "--name", "a\nb"}, 100, "letters, digits"},
    {{"--kernel", "@exit", "--disk", ""}, 100, "give a file"},
    {{"--kernel", "@exit", "--disk", ",mode=ro"}, 100, "give a file"},
    {{"--kernel", "@exit", "--disk", "@disk,mode=rw"}, 100, "mode is ro, cow or shared"},
    {{"--kernel", "@missing"}, 102, "missing: No such file"},
    {{"--kernel", "/"}, 102, "kernel /: not a regular file"},
    {{"--kernel", "/dev/null"}, 102, "kernel /dev/null: not a regular file"},
    {{"--kernel", "@fifo"}, 102, "not a regular file"},
    {{"--kernel", "@empty"}, 102, "cut short"},
    {{"--kernel", "@exit", "--initrd", "@missing"}, 102, "initrd "},
    {{"--kernel", "@exit", "--initrd", "@empty"}, 102, "empty, or not a regular file"},
    {{"--kernel", "@exit", "--initrd", "/"}, 102, "empty, or not a regular file"},
    {{"--kernel", "@exit", "--initrd", "@big", "--memory", "8M"}, 104, "does not fit"},
    {{"--kernel", "@exit", "--disk", "@missing"}, 103, "missing: No such file"},
    {{"--kernel", "@exit", "--disk", "@empty"}, 103, "empty file"},
    {{"--kernel", "@exit", "--disk", "@odd"}, 103, "no multiple of 512"},
    {{"--kernel", "@exit", "--disk", "/"}, 103, "neither a regular file nor a block device"},
    {{"--kernel", "@exit", "--disk", "/dev/null"}, 103, "neither a regular file"},
    {{"--kernel", "@exit", "--disk", "@fifo"}, 103, "neither a regular file"},
    {{"--kernel", "@exit", "--pmem", "@missing"}, 103, "missing: No such file"},
    {{"--kernel", "@exit", "--pmem", "@empty"}, 103, "empty file"},
    {{"--kernel", "@exit", "--pmem", "@odd"}, 103, "no multiple of 512"},
    {{"--kernel", "@exit", "--pmem", "/"}, 103, "neither a regular file nor a block device"},
    {{"--kernel", "@exit", "--disk", "@disk,mode=shared", "--disk", "@disk,mode=shared"},
     103,
     "in use by another VM"},
    {{"--kernel", "@exit", "--disk", "@disk,mode=shared", "--pmem", "@disk,mode=ro"},
     103,
     "in use by a VM that writes it"},
    {{"--kernel", "@exit", "--disk", "@disk", "--pmem", "@disk,mode=shared"},
     103,
     "in use by another VM"},
    {{"--kernel", "@exit", "--disk", "@escape"}, 103, "?[31m: No such file"},
};

/* Make the file that @word names and return the argument to give. */
static const char *make_argument(const char *word)
{
	const char *path = scratch("%s", word + 1);

	if (word[0] != '@')
		return word;
	if (strcmp(word, "@exit") == 0)
		return guest_path("exit.elf");
	if (strcmp(word, "@escape") == 0)
		return "\33[31m";
	if (strcmp(word, "@empty") == 0)
		write_file(path, "", 0);
	else if (strcmp(word, "@odd") == 0)
		write_file(path, "some bytes", 10);
	else if (strcmp(word, "@fifo") == 0)
		mkfifo(path, 0600);
	else if (strcmp(word, "@big") == 0)
		make_pmem("big", 2048);
	else if (strncmp(word, "@disk", 5) == 0)
		make_pmem("disk", 4);
	return path;
}

START_TEST(wrong_line)
{
	struct run run;
	const char *args[9] = {NULL};

	for (int i = 0; lines[_i].args[i]; i++)
		args[i] = make_argument(lines[_i].args[i]);
	run_foal(&run, args);
	expect_end(&run, lines[_i].status, lines[_i].words);
	ck_assert_uint_eq(run.out_len, 0);
	run_free(&run);
}
END_TEST

/* A value that is missing at the very end: nothing may stand behind it. */
START_TEST(missing_value)
{
	struct run run;
	struct run_how how = {.plain = true};

	run_start(&run, &how, ARGS("run", "--kernel"));
	run_wait(&run);
	expect_end(&run, 100, "--kernel needs a value");
	run_free(&run);
}
END_TEST

static const struct {
	const char *args[3];
	const char *words;
} commands[] = {
    {{NULL}, "a command is needed"},
    {{"walk"}, "walk: no such command"},
    {{""}, ": no such command"},
    {{"doctor", "now"}, "doctor: takes no arguments"},
};

START_TEST(wrong_command)
{
	struct run run;
	struct run_how how = {.plain = true};

	run_start(&run, &how, commands[_i].args);
	run_wait(&run);
	expect_end(&run, 100, commands[_i].words);
	run_free(&run);
}
END_TEST

START_TEST(too_many_files)
{
	struct run run;
	struct run_how how = {.plain = true};
	const char *args[3 + 2 * 33 + 1] = {"run", "--kernel", guest_path("exit.elf")};

	for (unsigned i = 0; i < 33; i++) {
		args[3 + 2 * i] = i % 2 ? "--disk" : "--pmem";
		args[4 + 2 * i] = "file";
	}
	run_start(&run, &how, args);
	run_wait(&run);
	expect_end(&run, 100, "at most 32 disks and pmems together");
	run_free(&run);
}
END_TEST

/* A file stays locked for as long as its VM runs, and not longer. */
START_TEST(in_use_by_another_vm)
{
	struct run one, two;
	char shared[600];
	const char *path = make_pmem("disk", 4);
	int n = snprintf(shared, sizeof(shared), "%s,mode=shared", path);

	ck_assert_int_lt(n, sizeof(shared));
	run_start(
	    &one, NULL,
	    ARGS("--kernel", guest_path("loop.elf"), "--append", "how=halt", "--disk", shared));
	run_until(&one, "ready\n");
	run_foal(&two, ARGS("--kernel", guest_path("exit.elf"), "--disk", path));
	expect_end(&two, 103, "in use by a VM that writes it");
	run_free(&two);
	kill(one.pid, SIGTERM);
	run_wait(&one);
	run_free(&one);
	run_guest(&two, "exit.elf", "", "--disk", path, NULL, NULL);
	run_free(&two);
}
END_TEST

START_TEST(statistics_cannot_be_written)
{
	struct run run;
	struct run_how how = {.plain = true};

	run_start(&run, &how,
		  ARGS("run", "--kernel", guest_path("exit.elf"), "--stats", "json", "--stats-file",
		       _i ? "/dev/full" : "/nowhere/at/all"));
	run_wait(&run);
	expect_end(&run, _i ? 101 : 100, _i ? "No space left" : "--stats-file /nowhere/at/all");
	run_free(&run);
}
END_TEST

Suite *options_suite(void)
{
	Suite *suite = suite_create("options");
	TCase *tc = tcase_create("options");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, wrong_line, 0, sizeof(lines) / sizeof(lines[0]));
	tcase_add_test(tc, missing_value);
	tcase_add_loop_test(tc, wrong_command, 0, sizeof(commands) / sizeof(commands[0]));
	tcase_add_test(tc, too_many_files);
	tcase_add_test(tc, in_use_by_another_vm);
	tcase_add_loop_test(tc, statistics_cannot_be_written, 0, 2);
	suite_add_tcase(suite, tc);
	return suite;
}
