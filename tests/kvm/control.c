/* VMs with a name: in the background, listed, stopped, killed, their consoles. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/kvm/control_rig.h"
#include "tests/kvm/suites.h"

#define ECHO_GUEST "--kernel", guest_path("echo.elf")
#define LOOP_GUEST "--kernel", guest_path("loop.elf"), "--append", "how=halt"

static bool exists(const char *name)
{
	return access(scratch("run/%s", name), F_OK) == 0;
}

/* --- beginning and end --------------------------------------------------------------- */

START_TEST(in_the_background)
{
	struct run run;
	pid_t pid = background("one", ARGS(ECHO_GUEST));
	char row[64];

	ck_assert_int_eq(getsid(pid), pid);
	foal_command(&run, ARGS("ps"));
	snprintf(row, sizeof(row), "%-16s %8d running", "one", pid);
	ck_assert_int_eq(run.status, 0);
	ck_assert_msg(strstr(run.out_text, row) != NULL, "no \"%s\" in %s", row, run.out_text);
	run_free(&run);
	expect_command(ARGS("stop", "one", "--timeout", "0"), 0, "one: gone, status 109");
	/* Gone is gone: the name is free. What it said at the end can be read. */
	ck_assert(!exists("one.lock") && !exists("one.sock") && exists("one.log"));
	expect_command(ARGS("ps"), 0, "no VM with a name runs");
	expect_command(ARGS("stop", "one"), 112, "/one.log");
}
END_TEST

/* Without a name it gets one. */
START_TEST(nameless)
{
	struct run run;
	char name[64];
	int pid;

	foal_command(&run, ARGS("run", "-d", "--time-limit", GUEST_LIMIT, LOOP_GUEST));
	ck_assert_int_eq(run.status, 0);
	ck_assert_int_eq(sscanf(run.out_text, "%63[^:]: running, pid %d", name, &pid), 2);
	run_free(&run);
	expect_command(ARGS("stop", name, "--kill"), 0, "gone");
}
END_TEST

START_TEST(start_that_fails)
{
	struct run run;

	foal_command(&run, ARGS("run", "-d", "--name", "bad", "--kernel", "/nowhere"));
	expect_end(&run, 102, "/nowhere");
	ck_assert_uint_eq(run.out_len, 0);
	run_free(&run);
	/* The name is free. */
	background("bad", ARGS(LOOP_GUEST));
	expect_command(ARGS("run", "-d", "--stats", "json", LOOP_GUEST), 100, "--stats-file");
	expect_command(ARGS("run", "-d", "--name", "-x", LOOP_GUEST), 100, "begins with a letter");
}
END_TEST

/* What the caller had open (a lock, the end of a pipe) is let go. */
START_TEST(lets_go)
{
	int ends[2];
	char byte;

	ck_assert_int_eq(pipe(ends), 0);
	pid_t pid = background("free", ARGS(LOOP_GUEST));
	close(ends[1]);
	struct pollfd pfd = {.fd = ends[0], .events = POLLIN};
	ck_assert_int_eq(poll(&pfd, 1, 0), 1);
	ck_assert_int_eq(read(ends[0], &byte, 1), 0);
	ck_assert_int_eq(kill(pid, 0), 0);
	close(ends[0]);
}
END_TEST

/* What a VM says is as hostile as its guest. @says: to whoever connects, before it hears. */
static pid_t false_vm(const char *name, const char *says, int *lock)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	mkdir(scratch("run"), 0700);
	*lock = open(scratch("run/%s.lock", name), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_eq(flock(*lock, LOCK_EX | LOCK_NB), 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", scratch("run/%s.sock", name));
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	pid_t pid = fork();
	if (pid == 0) {
		char buf[256];
		int client = accept(fd, NULL, NULL);

		if (send(client, says, strlen(says), MSG_NOSIGNAL) < 0)
			_exit(1);
		while (recv(client, buf, sizeof(buf), 0) > 0)
			;
		_exit(0);
	}
	close(fd);
	return pid;
}

#define GREETING  "{\"foal\":\"control\",\"version\":1,\"name\":\"x\",\"pid\":1}\n"

#define NO_LOG	  "{\"ok\":false,\"error\":{\"message\":\"no log\"}}\n"
#define NO_FAULTS "{\"ok\":true,\"state\":\"\\u001b[31m\",\"stats\":{\"cases\":[]}}\n"

#define THE_END	  "{\"event\":\"end\",\"status\":7,\"message\":\"\\u001bc\"}\n"

static const struct {
	const char *command, *says;
	int status;
	const char *words;
} false_vms[] = {
    {"ps", "hello\n", 113, "no VM of foal's"},
    {"ps", GREETING "{\"ok\":true,\"state\":\"\\u001b[31m\\u009b1m\"}\n", 0, " ?[31m??1m "},
    {"stop", GREETING "{\"ok\":false,\"error\":{\"message\":\"no\"}}\n", 113, "x: no"},
    {"trace", GREETING "{\"ok\":true,\"areas\":[]}\n", 113, "did not come with its answer"},
    {"top", GREETING NO_LOG NO_FAULTS "{\"ok\":true,\"cell\":1}\n", 113, "its map of what is"},
    {"top", GREETING NO_LOG "{\"ok\":true}\n{\"ok\":true}\n", 113, "its cases cannot be"},
    {"top", GREETING NO_LOG NO_FAULTS "{\"ok\":true,\"cell\":4096,\"spans\":[]}\n", 0,
     "x: ?[31m, 0 vCPUs"},
    {"top", GREETING THE_END NO_LOG, 0, "the VM has ended, status 7: ?c"},
    {"stop", GREETING THE_END THE_END, 113, "x: it ends more than once"},
};

/* It is listed if it can be, and never taken for none. */
START_TEST(hostile_vm)
{
	struct run run;
	int lock, status;
	pid_t pid = false_vm("x", false_vms[_i].says, &lock);

	foal_command(&run, strcmp(false_vms[_i].command, "top") == 0
			       ? ARGS("top", "x", "-b", "-n", "1")
			       : ARGS(false_vms[_i].command, _i >= 2 ? "x" : NULL));
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	close(lock);
	ck_assert_int_eq(run.status, false_vms[_i].status);
	ck_assert_msg(strstr(run.out_text, false_vms[_i].words) ||
			  strstr(run.err_text, false_vms[_i].words),
		      "%s%s", run.out_text, run.err_text);
	ck_assert_ptr_null(strstr(run.out_text, "no VM with a name"));
	run_free(&run);
}
END_TEST

START_TEST(name_taken)
{
	background("two", ARGS(LOOP_GUEST));
	for (int detached = 0; detached < 2; detached++) {
		struct run run;
		foal_command(&run, ARGS("run", "--name", "two", LOOP_GUEST, "--time-limit",
					GUEST_LIMIT, detached ? "-d" : NULL));
		expect_end(&run, 112, "a VM of this name runs already");
		run_free(&run);
	}
	/* The first goes on. */
	int fd = control_connect("two");
	ck_assert_uint_eq(control_number(fd, "{\"command\":\"status\"}", "vcpus"), 1);
	close(fd);
}
END_TEST

/* What it leaves does not count, and goes. */
START_TEST(killed)
{
	pid_t pid = background("dead", ARGS(LOOP_GUEST));
	int fd = control_connect("dead");

	kill(pid, SIGKILL);
	ck_assert_ptr_null(control_line(fd));
	close(fd);
	/* The lock may outlive the connection by a moment. */
	int lock = open(scratch("run/dead.lock"), O_RDWR | O_CLOEXEC);
	ck_assert_int_eq(flock(lock, LOCK_EX), 0);
	close(lock);
	if (_i)
		expect_command(ARGS("ps"), 0, "no VM with a name runs");
	ck_assert(_i ? !exists("dead.sock") && !exists("dead.lock") : exists("dead.sock"));
	expect_command(ARGS("pause", "dead"), 112, "no running VM");
	background("dead", ARGS(LOOP_GUEST));
	expect_command(ARGS("ps"), 0, "dead ");
}
END_TEST

/* Many at once want one name: one gets it. */
START_TEST(name_race)
{
	enum { RACERS = 6 };
	struct run run[RACERS];
	struct run_how how = {.plain = true};
	int won = 0;

	for (int i = 0; i < RACERS; i++)
		run_start(
		    &run[i], &how,
		    ARGS("run", "-d", "--name", "race", "--time-limit", GUEST_LIMIT, LOOP_GUEST));
	for (int i = 0; i < RACERS; i++) {
		run_wait(&run[i]);
		ck_assert_msg(run[i].status == 0 || run[i].status == 112, "%d: %s", run[i].status,
			      run[i].err_text);
		won += run[i].status == 0;
		run_free(&run[i]);
	}
	ck_assert_int_eq(won, 1);
}
END_TEST

START_TEST(directory_of_others)
{
	const char *open_to_all = scratch("open");

	mkdir(open_to_all, 0755);
	chmod(open_to_all, 0755);
	expect_command(ARGS("run", "-d", "--name", "x", "--run-dir", open_to_all, LOOP_GUEST), 101,
		       "it is open to other users");
	expect_command(ARGS("ps", "--run-dir", open_to_all), 101, "it is open to other users");
	expect_command(ARGS("ps", "--run-dir", scratch("none")), 0, "no VM");
	if (!is_root())
		return;
	chmod(open_to_all, 0700);
	ck_assert_int_eq(chown(open_to_all, 12345, 12345), 0);
	expect_command(ARGS("run", "-d", "--name", "x", "--run-dir", open_to_all, LOOP_GUEST), 101,
		       "it belongs to another user");
}
END_TEST

/* --- stop ------------------------------------------------------------------------------ */

/* A guest that listens switches off by itself; the client hears with which status. */
START_TEST(stop_by_button)
{
	background("button", ARGS("--kernel", guest_path("platform.elf"), "--append", "do=button"));
	if (_i)
		expect_command(ARGS("pause", "button"), 0, "paused");
	expect_command(ARGS("stop", "button", "--json", "--timeout", "100"), 0,
		       "\"button_taken\": true,\n  \"status\": 0");
}
END_TEST

START_TEST(stop_by_force)
{
	background("deaf", ARGS(LOOP_GUEST));
	if (_i)
		expect_command(ARGS("pause", "deaf"), 0, "paused");
	int bystander = control_connect("deaf");
	expect_command(ARGS("stop", "deaf", "--json", _i ? "--kill" : "--timeout", _i ? NULL : "0"),
		       0, "\"status\": 109");
	json_t *event = control_line(bystander);
	ck_assert_str_eq(json_string_value(json_object_get(event, "event")), "end");
	json_decref(event);
	ck_assert_ptr_null(control_line(bystander));
	close(bystander);
}
END_TEST

/* --- the foreground ----------------------------------------------------------------------- */

START_TEST(in_the_foreground)
{
	struct run run;

	run_start(&run, NULL, ARGS("--name", "fore", ECHO_GUEST));
	run_until(&run, "ready\n");
	int fd = control_connect("fore"), console = control_console(fd);
	read_until(console, "ready\n");
	/* Both type, both hear. */
	run_type(&run, "a", 1);
	read_until(console, "<61>");
	ck_assert_int_eq(send(console, "b", 1, 0), 1);
	run_until(&run, "<62>");
	expect_command(ARGS("stop", "fore", "--kill"), 0, "gone, status 109");
	run_wait(&run);
	expect_end(&run, 109, "fore: ended by foal stop");
	ck_assert_str_eq(run.out_text, "ready\n<61><62>");
	run_free(&run);
	close(console);
	close(fd);
}
END_TEST

/* --- console -------------------------------------------------------------------------------- */

START_TEST(console_both_ways)
{
	background("con", ARGS(ECHO_GUEST));
	int fd = control_connect("con");
	int first = control_console(fd), second = control_console(fd);

	read_until(first, "ready\n");
	read_until(second, "ready\n");
	ck_assert_int_eq(send(first, "x", 1, 0), 1);
	read_until(first, "<78>");
	read_until(second, "<78>");
	close(first);
	/* Without a descriptor the connection becomes the console; what follows is typed. */
	control_send(fd, "{\"command\":\"console\"}\nyz");
	read_until(fd, "\"ok\":true");
	read_until(fd, "ready\n<78><79><7a>");
	read_until(second, "<79><7a>");
	ck_assert_int_eq(send(fd, "q", 1, 0), 1);
	/* Its end is the end of all. */
	char byte;
	ck_assert_int_eq(recv(second, &byte, 1, 0), 0);
	close(second);
	close(fd);
}
END_TEST

/* What follows such a request is typed, however much came with it. */
START_TEST(console_typed_ahead)
{
	char text[1200] = "{\"command\":\"console\"}\n";

	background("con", ARGS(ECHO_GUEST));
	int fd = control_connect("con");
	memset(text + strlen(text), 'y', 1000);
	text[strlen(text)] = 'z';
	control_send(fd, text);
	read_until(fd, "<79><7a>");
	close(fd);
}
END_TEST

START_TEST(console_command)
{
	struct run run;
	struct run_how how = {.plain = true, .terminal = true};

	background("con", ARGS(ECHO_GUEST));
	run_start(&run, &how, ARGS("console", "con"));
	run_until(&run, "ready\n");
	run_type(&run, "\3", 1);
	run_until(&run, "<03>");
	run_type(&run, "\35", 1);
	run_wait(&run);
	ck_assert_int_eq(run.status, 0);
	ck_assert_ptr_nonnull(strstr(run.out_text, "left the console"));
	ck_assert(run.modes.c_lflag & ICANON);
	run_free(&run);
	/* The VM goes on, and from a pipe the end of the input does not leave. */
	how.terminal = false;
	run_start(&run, &how, ARGS("console", "con"));
	run_until(&run, "<03>");
	run_type(&run, "q", 1);
	run_wait(&run);
	ck_assert_int_eq(run.status, 0);
	run_free(&run);
}
END_TEST

/* A guest that takes nothing does not keep who types: a signal ends it. */
START_TEST(console_unheard)
{
	static const char text[4096] = {0};
	struct run run;
	struct run_how how = {.plain = true};
	struct pollfd pfd = {.events = POLLOUT};

	background("con", ARGS(ECHO_GUEST));
	run_start(&run, &how, ARGS("console", "con"));
	run_until(&run, "ready\n");
	expect_command(ARGS("pause", "con"), 0, "paused");
	pfd.fd = run.in;
	ck_assert_int_eq(fcntl(run.in, F_SETFL, O_NONBLOCK), 0);
	while (poll(&pfd, 1, 500) == 1)
		ck_assert_int_gt(write(run.in, text, sizeof(text)), 0);
	kill(run.pid, SIGINT);
	run_wait(&run);
	ck_assert_int_eq(run.status, 0);
	run_free(&run);
}
END_TEST

/* The last 64 KiB, and what was lost between is said. */
START_TEST(console_history)
{
	/*
	 * One console that nobody reads until the guest has said more than the log and the
	 * socket hold; that it has, another one tells.
	 */
	background("flood",
		   ARGS("--kernel", guest_path("flood.elf"), "--append", "bytes=0xfffffff"));
	int fd = control_connect("flood");
	int console = control_console(fd), watch = control_console(fd);

	skip_heard(watch, 512 << 10);
	close(watch);
	read_until(console, " bytes lost]\r\n");
	close(console);
	ck_assert_uint_eq(control_number(fd, "{\"command\":\"console\"}", "history"), 65536);
	close(fd);
}
END_TEST

START_TEST(console_refusals)
{
	int consoles[8];

	background("con", ARGS(ECHO_GUEST));
	int fd = control_connect("con");
	for (int i = 0; i < 8; i++)
		consoles[i] = control_console(fd);
	control_refused(fd, "{\"command\":\"console\"}", "unavailable");
	for (int i = 0; i < 8; i++)
		close(consoles[i]);
	close(fd);
}
END_TEST

static Suite *add(Suite *suite, TCase *tc)
{
	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, end_all, end_all);
	suite_add_tcase(suite, tc);
	return suite;
}

Suite *control_suite(void)
{
	Suite *suite = suite_create("control");
	TCase *life = tcase_create("life"), *con = tcase_create("console of a name");

	tcase_add_test(life, in_the_background);
	tcase_add_test(life, nameless);
	tcase_add_test(life, start_that_fails);
	tcase_add_test(life, lets_go);
	tcase_add_loop_test(life, hostile_vm, 0, (int)(sizeof(false_vms) / sizeof(false_vms[0])));
	tcase_add_test(life, name_taken);
	tcase_add_loop_test(life, killed, 0, 2);
	tcase_add_test(life, name_race);
	tcase_add_test(life, directory_of_others);
	tcase_add_loop_test(life, stop_by_button, 0, 2);
	tcase_add_loop_test(life, stop_by_force, 0, 2);
	tcase_add_test(life, in_the_foreground);
	add(suite, life);
	tcase_add_test(con, console_both_ways);
	tcase_add_test(con, console_typed_ahead);
	tcase_add_test(con, console_command);
	tcase_add_test(con, console_unheard);
	tcase_add_test(con, console_history);
	tcase_add_test(con, console_refusals);
	return add(suite, con);
}
