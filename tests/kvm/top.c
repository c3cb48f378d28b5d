/* foal top of running VMs: what it shows is what foal stat says, and the terminal comes back. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/kvm/snapshot_rig.h"
#include "tests/kvm/suites.h"

#define PAGE	4096U
#define HANDLER "--fault-engine", "handler"

static json_t *stats_of(const char *name)
{
	int fd = control_connect(name);
	json_t *reply = control_ask(fd, "{\"command\":\"stat\"}");
	json_t *stats = json_incref(json_object_get(reply, "stats"));

	json_decref(reply);
	close(fd);
	return stats;
}

static uint64_t number(const json_t *object, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(object, key));
}

static uint64_t sum_of(const json_t *list, const char *key)
{
	uint64_t sum = 0;
	const json_t *one;
	size_t i;

	json_array_foreach(list, i, one)
	{
		sum += number(one, key);
	}
	return sum;
}

/* The number behind @words in @text. */
static uint64_t number_behind(const char *text, const char *words)
{
	const char *at = strstr(text, words);

	ck_assert_msg(at != NULL, "no \"%s\" in\n%s", words, text);
	return strtoull(at + strlen(words), NULL, 10);
}

/* A VM that stands still, and has counted all that it did. */
static void still(const char *name, const char *engine)
{
	background(name, ARGS(MEMORY_GUEST, "--fault-engine", engine));
	wait_for_memory(name, MEMORY_GUEST_BYTES);
	expect_command(ARGS("pause", name), 0, "paused");
	wait_for_counts(name);
}

/* What @text says is what @stats say. */
static void expect_same(const char *text, const json_t *stats)
{
	const json_t *cases = json_object_get(stats, "cases"), *one;
	char words[64];
	size_t i;

	ck_assert_uint_eq(number_behind(text, "faults   "), sum_of(cases, "faults"));
	ck_assert_uint_eq(number_behind(text, "; pages "), sum_of(cases, "installed"));
	ck_assert_uint_eq(number_behind(text, "map      "),
			  sum_of(json_object_get(stats, "areas"), "resident") / PAGE);
	json_array_foreach(cases, i, one)
	{
		snprintf(words, sizeof(words), "\n%-14s ",
			 json_string_value(json_object_get(one, "case")));
		ck_assert_uint_eq(number_behind(text, words), number(one, "faults"));
	}
}

static const char *const engines[] = {"handler", "kernel"};

START_TEST(lines)
{
	struct run run;

	if (_i == 0 && !have_userfaultfd())
		skip("no userfaultfd here");
	still("one", engines[_i]);
	foal_command(&run, ARGS("top", "one", "-b", "-n", "2", "-d", "0.1"));
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	json_t *stats = stats_of("one");
	expect_same(run.out_text, stats);
	const char *second = strstr(run.out_text + 1, "one: paused");
	ck_assert_ptr_nonnull(second);
	expect_same(second, stats);
	ck_assert_uint_eq(number_behind(second, "/s; pages "),
			  number_behind(run.out_text, "/s; pages "));
	json_decref(stats);
	run_free(&run);
}
END_TEST

/* However many cells: all that is resident is in them, and none has more than it can. */
START_TEST(cells)
{
	static const unsigned most[] = {16, 100, 1024, 4096};
	char request[64];

	if (_i == 0 && !have_userfaultfd())
		skip("no userfaultfd here");
	still("one", engines[_i]);
	json_t *stats = stats_of("one");
	uint64_t resident = sum_of(json_object_get(stats, "areas"), "resident") / PAGE;
	uint64_t size = sum_of(json_object_get(stats, "areas"), "size") / PAGE;
	int fd = control_connect("one");
	ck_assert_uint_ge(resident, MEMORY_GUEST_BYTES / PAGE);
	for (unsigned i = 0; i < 4; i++) {
		uint64_t pages = 0, there = 0, count = 0, cell;
		const json_t *span, *value;
		size_t j, k;

		snprintf(request, sizeof(request), "{\"command\":\"residency\",\"cells\":%u}",
			 most[i]);
		json_t *reply = control_ask(fd, request);
		cell = number(reply, "cell") / PAGE;
		json_array_foreach(json_object_get(reply, "spans"), j, span)
		{
			json_array_foreach(json_object_get(span, "pages"), k, value)
			{
				const json_t *in =
				    json_array_get(json_object_get(span, "there"), k);

				ck_assert_int_le(json_integer_value(in), json_integer_value(value));
				ck_assert_uint_le(json_integer_value(value), cell);
				pages += (uint64_t)json_integer_value(value);
				there += (uint64_t)json_integer_value(in);
				count++;
			}
		}
		ck_assert_uint_eq(there, resident);
		ck_assert_uint_eq(pages, size);
		ck_assert(count <= most[i] && count > most[i] / 8);
		json_decref(reply);
	}
	close(fd);
	json_decref(stats);
}
END_TEST

/* --- a terminal ------------------------------------------------------------------------------ */

#define TMUX "tmux", "-f", "/dev/null", "-S", scratch("tmux")

static const char *const sizes[][2] = {{"80", "24"}, {"120", "40"}};

/* A terminal of size @size where foal top @what runs, and afterwards says how it ended. */
static void open_terminal(const char *what, const char *const size[2])
{
	char command[2048];

	snprintf(command, sizeof(command),
		 "stty -g >%s; FOAL_RUN_DIR=%s %s top %s -d 0.1; echo status $?; stty -g >%s; "
		 ">%s; exec sleep " GUEST_LIMIT,
		 scratch("before"), scratch("run"), foal_path(), what, scratch("after"),
		 scratch("done"));
	int status =
	    run_tool(NULL, ARGS(TMUX, "new-session", "-d", "-x", size[0], "-y", size[1], command));
	if (status == 127)
		skip("no tmux here");
	ck_assert_int_eq(status, 0);
}

/* What stands on it; free() it. */
static char *screen_now(void)
{
	size_t len;

	ck_assert_int_eq(run_tool(scratch("screen"), ARGS(TMUX, "capture-pane", "-p", "-t", "0")),
			 0);
	return read_file(scratch("screen"), &len);
}

/* The same, once @words do. */
static char *screen_with(const char *words)
{
	for (;;) {
		char *text = screen_now();

		if (strstr(text, words))
			return text;
		free(text);
		usleep(10000);
	}
}

static void type(const char *keys)
{
	ck_assert_int_eq(run_tool(NULL, ARGS(TMUX, "send-keys", "-t", "0", keys)), 0);
}

/* Choose the VM: one that does not answer at once is not shown, and asked for again. */
static void enter(const char *words)
{
	for (bool there = false; !there;) {
		type("Enter");
		for (int i = 0; i < 100 && !there; i++) {
			char *text = screen_now();

			there = strstr(text, words) != NULL;
			free(text);
			usleep(10000);
		}
	}
}

/* As it was before, with its modes, its cursor and what stood on it. */
static void expect_given_back(const char *status)
{
	size_t len;
	char *text = screen_with(status);

	ck_assert_ptr_null(strstr(text, "p99 now"));
	free(text);
	while (!exists(scratch("done")))
		usleep(1000);
	ck_assert(same_files(scratch("before"), scratch("after")));
	ck_assert_int_eq(run_tool(scratch("flags"), ARGS(TMUX, "display", "-p", "-t", "0",
							 "#{alternate_on} #{cursor_flag}")),
			 0);
	text = read_file(scratch("flags"), &len);
	ck_assert(len >= 3 && memcmp(text, "0 1", 3) == 0);
	free(text);
	run_tool(NULL, ARGS(TMUX, "kill-server"));
}

START_TEST(screen)
{
	const char *const *size = sizes[_i];
	unsigned long columns = strtoul(size[0], NULL, 10);

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	still("one", "handler");
	open_terminal("one", size);
	char *text = screen_with("\nmap  ");
	json_t *stats = stats_of("one");
	expect_same(text, stats);
	json_decref(stats);
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		ck_assert_uint_le(strlen(line), columns);
		for (const char *at = line; *at; at++)
			ck_assert_msg(*at >= ' ' && *at < 0x7f, "%s", line);
	}
	free(text);
	type("s");
	free(screen_with(", by rate"));
	type("Left");
	free(screen_with(", by faults"));
	type("d");
	free(screen_with("seconds between two looks:"));
	type("0.25");
	type("Enter");
	free(screen_with("every 0.25 s"));
	ck_assert_int_eq(
	    run_tool(NULL, ARGS(TMUX, "resize-window", "-t", "0", "-x", "60", "-y", "20")), 0);
	free(screen_with("60 columns: 80 are needed"));
	type("q");
	expect_given_back("status 0");
}
END_TEST

/* However it ends. */
START_TEST(given_back)
{
	static const char *const words[] = {"the VM has ended, status 109", "status 113",
					    "status 0"};

	background("one", ARGS(MEMORY_GUEST));
	open_terminal("one", sizes[0]);
	free(screen_with("\nmap  "));
	int fd = control_connect("one");
	if (_i == 0)
		expect_command(ARGS("stop", "one", "--kill"), 0, "gone");
	else if (_i == 1)
		kill((pid_t)control_number(fd, "{\"command\":\"status\"}", "pid"), SIGKILL);
	else
		type("C-c");
	expect_given_back(words[_i]);
	close(fd);
}
END_TEST

/* --- all VMs ---------------------------------------------------------------------------------- */

/*
 * Until it has said both: who is slow to answer is silent in between. @stopped: a process that
 * stands still meanwhile; 0: none.
 */
static void expect_lines(pid_t stopped, const char *words, const char *more)
{
	const struct run_how how = {.plain = true};
	struct run run;

	if (stopped)
		kill(stopped, SIGSTOP);
	run_start(&run, &how, ARGS("top", "-b", "-d", "0.1"));
	run_until(&run, words);
	run_until(&run, more);
	if (stopped)
		kill(stopped, SIGCONT);
	kill(run.pid, SIGTERM);
	run_wait(&run);
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	run_free(&run);
}

/* A line each says what foal stat does; one that does not answer is silent, until it does. */
START_TEST(all_lines)
{
	char line[128];

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	expect_lines(0, "0 VMs; every 0.1 s\n", "name");
	still("one", "handler");
	pid_t pid = background("two", ARGS(MEMORY_GUEST, "--memory-limit", "32M"));
	json_t *stats = stats_of("one");
	snprintf(line, sizeof(line), "\n%-22s paused   %10lu       0 ", "one",
		 (unsigned long)sum_of(json_object_get(stats, "cases"), "faults"));
	json_decref(stats);
	expect_lines(0, "2 VMs;", line);
	expect_lines(0, "\ntwo                    running ", "  32.0 MiB ");
	expect_lines(pid, "\ntwo                    silent ", line);
	expect_lines(0, "\ntwo                    running ", line);
}
END_TEST

/* Connections to @name until it has no room for more who wait. */
static unsigned fill(const char *name, int fds[64])
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	unsigned n = 0;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", scratch("run/%s.sock", name));
	for (; n < 64; n++) {
		fds[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (connect(fds[n], (struct sockaddr *)&addr, sizeof(addr)))
			break;
	}
	ck_assert_int_eq(errno, EAGAIN);
	return n + 1;
}

/* Nobody waits for one that stands still and lets nobody in: not its row, not the others'. */
START_TEST(full_and_stopped)
{
	int fds[64];

	background("one", ARGS(MEMORY_GUEST));
	pid_t pid = background("two", ARGS(MEMORY_GUEST));
	kill(pid, SIGSTOP);
	unsigned n = fill("two", fds);
	expect_lines(0, "\ntwo                    silent ", "\none                    running ");
	expect_command(ARGS("trace", "two", "-o", scratch("two.csv"), "--for", "0"), 113,
		       "two: the VM does not answer");
	expect_command(ARGS("ps"), 113, "two: the VM does not answer");
	kill(pid, SIGCONT);
	while (n > 0)
		close(fds[--n]);
	expect_lines(0, "\ntwo                    running ", "\none                    running ");
}
END_TEST

/* One is chosen with the keys, shown, and left again; one that ends is in the list no more. */
START_TEST(all_on_a_terminal)
{
	background("one", ARGS(MEMORY_GUEST));
	background("two", ARGS(MEMORY_GUEST));
	open_terminal("", sizes[0]);
	free(screen_with("\ntwo  "));
	type("Down");
	type("Down");
	enter("two: running");
	type("Escape");
	free(screen_with("2 VMs; every"));
	type("Up");
	enter("one: running");
	expect_command(ARGS("stop", "one", "--kill"), 0, "gone");
	free(screen_with("1 VMs; every"));
	enter("two: running");
	if (_i)
		type("C-c");
	else
		type("q");
	expect_given_back("status 0");
}
END_TEST

/* --- without one ----------------------------------------------------------------------------- */

static void of_no_type(void *arg)
{
	(void)arg;
	setenv("TERM", "no-such-terminal", 1);
}

START_TEST(no_terminal)
{
	struct run_how how = {.plain = true, .terminal = true, .prepare = of_no_type};
	struct run run;

	background("one", ARGS(MEMORY_GUEST));
	expect_command(ARGS("top", "one"), 100, "no terminal to draw on; -b prints lines");
	run_start(&run, &how, ARGS("top", "one"));
	run_wait(&run);
	ck_assert_int_eq(run.status, 101);
	ck_assert_ptr_nonnull(strstr(run.out_text, "of type \"no-such-terminal\""));
	run_free(&run);
}
END_TEST

/* It says how the VM ended, or that it did not say. */
START_TEST(ends)
{
	struct run_how how = {.plain = true};
	struct run run;
	pid_t pid = background("one", ARGS(MEMORY_GUEST));

	run_start(&run, &how, ARGS("top", "one", "-b", "-d", "3600"));
	run_until(&run, "map ");
	if (_i)
		kill(pid, SIGKILL);
	else
		expect_command(ARGS("stop", "one", "--kill"), 0, "gone");
	run_wait(&run);
	ck_assert_int_eq(run.status, _i ? 113 : 0);
	ck_assert_ptr_nonnull(strstr(_i ? run.err_text : run.out_text,
				     _i ? "the VM is gone" : "the VM has ended, status 109"));
	run_free(&run);
}
END_TEST

static const struct {
	const char *args[5], *words;
} bad[] = {
    {{"top", "a", "b"}, "b: not taken"},
    {{"top", "a", "-d"}, "-d needs a value"},
    {{"top", "a", "-x"}, "no such option"},
    {{"top", "a", "-d", "0"}, "0.1 to 3600"},
    {{"top", "a", "-d", "nan"}, "0.1 to 3600"},
    {{"top", "a", "-d", "1s"}, "0.1 to 3600"},
    {{"top", "a", "-n", "0"}, "a whole number"},
    {{"top", "a", "-s", "size"}, "faults, rate, pages"},
    {{"top", "a b"}, "no VM's name"},
};

START_TEST(command_lines)
{
	const char *args[6] = {NULL};

	memcpy(args, bad[_i].args, sizeof(bad[_i].args));
	expect_command(args, 100, bad[_i].words);
}
END_TEST

Suite *top_suite(void)
{
	Suite *suite = suite_create("top");
	TCase *tc = tcase_create("top");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, NULL, end_all);
	tcase_add_loop_test(tc, lines, 0, 2);
	tcase_add_loop_test(tc, cells, 0, 2);
	tcase_add_loop_test(tc, screen, 0, 2);
	tcase_add_loop_test(tc, given_back, 0, 3);
	tcase_add_test(tc, all_lines);
	tcase_add_test(tc, full_and_stopped);
	tcase_add_loop_test(tc, all_on_a_terminal, 0, 2);
	tcase_add_test(tc, no_terminal);
	tcase_add_loop_test(tc, ends, 0, 2);
	tcase_add_loop_test(tc, command_lines, 0, sizeof(bad) / sizeof(bad[0]));
	suite_add_tcase(suite, tc);
	return suite;
}
