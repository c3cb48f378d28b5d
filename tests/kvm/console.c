/* The guest's serial line as foal's terminal, and as its pipes. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

/* The echo guest on a new terminal, ready for input. */
static void start_on_terminal(struct run *run, struct termios *before)
{
	struct run_how how = {.terminal = true};

	run_start(run, &how, ARGS("--kernel", guest_path("echo.elf")));
	run_until(run, "ready\n");
	/* A terminal's modes, as they were made: what is checked at the end. */
	struct run fresh = {.terminal = -1};
	struct run_how plain = {.terminal = true, .plain = true};
	run_start(&fresh, &plain, ARGS("help"));
	tcgetattr(fresh.terminal, before);
	run_wait(&fresh);
	run_free(&fresh);
}

static bool is_raw(const struct run *run)
{
	struct termios now;

	ck_assert_int_eq(tcgetattr(run->terminal, &now), 0);
	return !(now.c_lflag & (ICANON | ECHO | ISIG)) && !(now.c_oflag & OPOST);
}

static void check_restored(const struct run *run, const struct termios *before)
{
	ck_assert_uint_eq(run->modes.c_iflag, before->c_iflag);
	ck_assert_uint_eq(run->modes.c_oflag, before->c_oflag);
	ck_assert_uint_eq(run->modes.c_cflag, before->c_cflag);
	ck_assert_uint_eq(run->modes.c_lflag, before->c_lflag);
	ck_assert_int_eq(memcmp(run->modes.c_cc, before->c_cc, sizeof(before->c_cc)), 0);
}

START_TEST(quit_by_key)
{
	struct run run;
	struct termios before;

	start_on_terminal(&run, &before);
	ck_assert(is_raw(&run));
	run_type(&run, _i ? "\1X" : "\1x", 2);
	run_wait(&run);
	ck_assert_int_eq(run.status, 109);
	ck_assert_ptr_nonnull(strstr(run.out_text, "ended from the console"));
	check_restored(&run, &before);
	run_free(&run);
}
END_TEST

/* Every key reaches the guest as it is typed, Ctrl-C and Ctrl-Z too; Ctrl-A by Ctrl-A Ctrl-A. */
START_TEST(typed)
{
	struct run run;
	struct termios before;
	/* Ctrl-A z is no command, and nothing is typed by it. */
	static const char keys[] = "a\3\32\r\n\1\1\1zb";

	start_on_terminal(&run, &before);
	run_type(&run, keys, sizeof(keys) - 1);
	run_until(&run, "<61><03><1a><0d><0a><01><62>");
	run_type(&run, "q", 1);
	run_wait(&run);
	ck_assert_int_eq(run.status, 7);
	check_restored(&run, &before);
	run_free(&run);
}
END_TEST

static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGSEGV, SIGABRT};

/* Whatever ends foal, a crash of its own too, the terminal is as it was. */
START_TEST(restored_after_signal)
{
	struct run run;
	struct termios before;
	bool crash = signals[_i] == SIGSEGV || signals[_i] == SIGABRT;

	start_on_terminal(&run, &before);
	kill(run.pid, signals[_i]);
	run_wait(&run);
	ck_assert_int_eq(run.status, crash ? -signals[_i] : 128 + signals[_i]);
	check_restored(&run, &before);
	run_free(&run);
}
END_TEST

/* In a pipe no key is special. */
START_TEST(piped)
{
	struct run run;

	run_start(&run, NULL, ARGS("--kernel", guest_path("echo.elf")));
	run_type(&run, "ab\1\1x\3q", 7);
	run_wait(&run);
	ck_assert_int_eq(run.status, 7);
	ck_assert_str_eq(run.out_text, "ready\n<61><62><01><01><78><03>");
	run_free(&run);
}
END_TEST

/* More than any buffer on the way holds, before the guest reads: all comes, in order. */
START_TEST(piped_much)
{
	enum { COUNT = 9000 };
	struct run run;
	char keys[COUNT], code[8];

	for (int i = 0; i < COUNT; i++)
		keys[i] = (char)('A' + i % 23);
	keys[COUNT - 1] = 'q';
	run_start(&run, NULL, ARGS("--kernel", guest_path("echo.elf")));
	run_type(&run, keys, COUNT);
	run_wait(&run);
	ck_assert_int_eq(run.status, 7);
	ck_assert_uint_eq(run.out_len, 6 + (COUNT - 1) * 4);
	for (int i = 0; i < COUNT - 1; i++) {
		snprintf(code, sizeof(code), "<%02x>", keys[i]);
		ck_assert_msg(!memcmp(run.out_text + 6 + i * 4, code, 4), "character %d", i);
	}
	run_free(&run);
}
END_TEST

/* The end of the input is not the end of the run. */
START_TEST(input_ends)
{
	struct run run;

	run_start(&run, NULL, ARGS("--kernel", guest_path("echo.elf")));
	run_type(&run, "a", 1);
	close(run.in);
	run.in = -1;
	run_until(&run, "ready\n<61>");
	kill(run.pid, SIGTERM);
	run_wait(&run);
	ck_assert_int_eq(run.status, 128 + SIGTERM);
	run_free(&run);
}
END_TEST

/* --stats json: standard output is JSON and nothing else, the console is on standard error. */
START_TEST(json_alone)
{
	struct run run;
	struct run_how how = {.plain = true};

	run_start(&run, &how,
		  ARGS("run", "--kernel", guest_path("flood.elf"), "--append", "bytes=640",
		       "--stats", "json", "--name", "flood"));
	run_wait(&run);
	ck_assert_int_eq(run.status, 0);
	json_t *stats = json_loads(run.out_text, JSON_REJECT_DUPLICATES, NULL);
	ck_assert_msg(stats != NULL, "no JSON: %s", run.out_text);
	ck_assert_str_eq(json_string_value(json_object_get(stats, "vm")), "flood");
	ck_assert_int_eq(json_integer_value(json_object_get(stats, "status")), 0);
	json_decref(stats);
	ck_assert_uint_eq(run.err_len, 640);
	run_free(&run);
}
END_TEST

/* The table goes to standard error: standard output is the guest's alone. */
START_TEST(table_beside_console)
{
	struct run run;
	struct run_how how = {.plain = true};

	run_start(&run, &how,
		  ARGS("run", "--kernel", guest_path("flood.elf"), "--append", "bytes=640"));
	run_wait(&run);
	ck_assert_int_eq(run.status, 0);
	ck_assert_uint_eq(run.out_len, 640);
	ck_assert_ptr_nonnull(strstr(run.err_text, "first KVM_RUN after"));
	run_free(&run);
}
END_TEST

/* A column stands there if it says something; with all of it a line fits a terminal. */
static void check_table(const struct run *run, bool granted)
{
	const char *head = strstr(run->err_text, "\narea "), *line;
	size_t wide;

	ck_assert_ptr_nonnull(head);
	wide = strcspn(++head, "\n");
	ck_assert_uint_le(wide, 120);
	line = strstr(head, "granted");
	ck_assert_int_eq(line && line < head + wide, granted);
	for (line = head; strncmp(line, "all ", 4) != 0; line += wide + 1)
		ck_assert_msg(strcspn(line, "\n") == wide, "not as wide as its head: %.160s", line);
}

START_TEST(table_says_no_more)
{
	struct run_how how = {.plain = true};
	const char *pmem = make_pmem("work", 512);
	struct run run;

	run_start(&run, &how,
		  ARGS("run", "--kernel", guest_path("pmem.elf"), "--append", "mode=rw pages=400",
		       "--fault-engine", "handler", "--pmem", pmem));
	run_wait(&run);
	ck_assert_int_eq(run.status, 0);
	check_table(&run, true);
	run_free(&run);
	run_start(&run, &how,
		  ARGS("run", "--kernel", guest_path("pmem.elf"), "--append", "mode=r pages=400",
		       "--fault-engine", "handler", "--pmem", pmem));
	run_wait(&run);
	check_table(&run, false);
	run_free(&run);
}
END_TEST

START_TEST(flood)
{
	struct run run;

	run_guest(&run, "flood.elf", "bytes=65536", NULL, NULL, NULL, NULL);
	ck_assert_uint_eq(run.out_len, 65536);
	for (size_t i = 0; i < run.out_len; i++)
		ck_assert_int_eq(run.out_text[i], i % 64 == 63 ? '\n' : (char)('0' + i % 64));
	run_free(&run);
}
END_TEST

static void close_some(void *which)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++) {
		if (*(int *)which >> fd & 1)
			close(fd);
	}
}

/* A closed descriptor is not taken for another: the run ends, the disk's bytes stay. */
START_TEST(closed_descriptors)
{
	int which = _i;
	struct run run;
	const char *before = make_pmem("before", 16), *file = make_pmem("closed", 16);
	char disk[256];
	struct run_how how = {.prepare = close_some, .arg = &which};

	snprintf(disk, sizeof(disk), "%s,mode=shared", file);
	run_start(&run, &how,
		  ARGS("--kernel", guest_path("exit.elf"), "--append", "status=7", "--disk", disk));
	run_wait(&run);
	ck_assert_int_eq(run.status, 7);
	ck_assert(same_files(file, before));
	run_free(&run);
}
END_TEST

Suite *console_suite(void)
{
	Suite *suite = suite_create("console");
	TCase *tc = tcase_create("console");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_loop_test(tc, quit_by_key, 0, 2);
	tcase_add_test(tc, typed);
	tcase_add_loop_test(tc, restored_after_signal, 0, sizeof(signals) / sizeof(signals[0]));
	tcase_add_loop_test(tc, closed_descriptors, 1, 8);
	tcase_add_test(tc, piped);
	tcase_add_test(tc, piped_much);
	tcase_add_test(tc, input_ends);
	tcase_add_test(tc, json_alone);
	tcase_add_test(tc, table_beside_console);
	tcase_add_test(tc, table_says_no_more);
	tcase_add_test(tc, flood);
	suite_add_tcase(suite, tc);
	return suite;
}
