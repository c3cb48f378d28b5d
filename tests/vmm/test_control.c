/* The control socket without a VM: requests, connections and their limits, the console's log,
 * names. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/fd_passing.h"
#include "tests/scratch.h"
#include "tests/vmm/suites.h"
#include "vmm/console_log.h"
#include "vmm/control_conn.h"
#include "vmm/run_dir.h"

/* --- requests ---------------------------------------------------------------------------- */

static const struct {
	const char *line;
	int error; /* -1: it is good */
	const char *words;
} requests[] = {
    {"{\"command\":\"status\"}", -1, ""},
    {" {\"command\":\"pause\",\"timeout_ms\":0,\"id\":-7}\r", -1, ""},
    {"{\"command\":\"stop\",\"kill\":true,\"timeout_ms\":3600000,\"id\":\"\"}", -1, ""},
    {"{\"command\":\"stat\",\"format\":\"table\"}", -1, ""},
    {"{\"command\":\"balloon\",\"size\":4096}", -1, ""},
    {"{\"command\":\"residency\",\"cells\":16}", -1, ""},
    {"{\"command\":\"residency\",\"cells\":15}", CONTROL_ERROR_BAD_REQUEST, "cells:"},
    {"{\"command\":\"residency\",\"cells\":4097}", CONTROL_ERROR_BAD_REQUEST, "cells:"},
    {"{\"command\":\"residency\",\"cells\":16.5}", CONTROL_ERROR_BAD_REQUEST, "cells:"},
    {"{\"command\":\"stat\",\"cells\":16}", CONTROL_ERROR_BAD_REQUEST, "cells: no such member"},
    {"", CONTROL_ERROR_BAD_REQUEST, "no JSON"},
    {"{", CONTROL_ERROR_BAD_REQUEST, "no JSON"},
    {"{} {}", CONTROL_ERROR_BAD_REQUEST, "no JSON"},
    {"{}", CONTROL_ERROR_BAD_REQUEST, "command:"},
    {"[]", CONTROL_ERROR_BAD_REQUEST, "command:"},
    {"\"status\"", CONTROL_ERROR_BAD_REQUEST, "no JSON"},
    {"{\"command\":7}", CONTROL_ERROR_BAD_REQUEST, "command:"},
    {"{\"command\":\"status\",\"command\":\"stop\"}", CONTROL_ERROR_BAD_REQUEST, "duplicate"},
    {"{\"command\":\"sta\"}", CONTROL_ERROR_UNKNOWN_COMMAND, "sta:"},
    {"{\"command\":\"status\",\"id\":1.5}", CONTROL_ERROR_BAD_REQUEST, "id:"},
    {"{\"command\":\"status\",\"id\":[]}", CONTROL_ERROR_BAD_REQUEST, "id:"},
    {"{\"command\":\"status\",\"kill\":true}", CONTROL_ERROR_BAD_REQUEST, "kill: no such member"},
    {"{\"command\":\"stop\",\"kill\":1}", CONTROL_ERROR_BAD_REQUEST, "kill:"},
    {"{\"command\":\"pause\",\"timeout_ms\":-1}", CONTROL_ERROR_BAD_REQUEST, "timeout_ms:"},
    {"{\"command\":\"pause\",\"timeout_ms\":60001}", CONTROL_ERROR_BAD_REQUEST, "timeout_ms:"},
    {"{\"command\":\"stop\",\"timeout_ms\":3600001}", CONTROL_ERROR_BAD_REQUEST, "timeout_ms:"},
    {"{\"command\":\"pause\",\"timeout_ms\":99999999999999999999}", CONTROL_ERROR_BAD_REQUEST,
     "no JSON"},
    {"{\"command\":\"stat\",\"format\":\"xml\"}", CONTROL_ERROR_BAD_REQUEST, "format:"},
    {"{\"command\":\"balloon\"}", CONTROL_ERROR_BAD_REQUEST, "size:"},
    {"{\"command\":\"balloon\",\"size\":4097}", CONTROL_ERROR_BAD_REQUEST, "size:"},
    {"{\"command\":\"balloon\",\"size\":-4096}", CONTROL_ERROR_BAD_REQUEST, "size:"},
    {"{\"command\":\"sta\\u0000tus\"}", CONTROL_ERROR_BAD_REQUEST, "no JSON"},
    {"{\"command\":\"\xff\"}", CONTROL_ERROR_BAD_REQUEST, "no JSON"},
};

START_TEST(request)
{
	const char *line = requests[_i].line;
	struct control_request out;
	struct control_fault fault = {.text = ""};
	int r = control_request_parse(line, strlen(line), &out, &fault);

	ck_assert_msg(r == (requests[_i].error < 0 ? 0 : -EINVAL), "%s: %d %s", line, r,
		      fault.text);
	if (r) {
		ck_assert_int_eq((int)fault.code, requests[_i].error);
		ck_assert_msg(strstr(fault.text, requests[_i].words) != NULL, "%s: %s", line,
			      fault.text);
	}
	control_request_free(&out);
}
END_TEST

START_TEST(request_values)
{
	static const char stop[] =
	    "{\"id\":\"a\",\"command\":\"stop\",\"kill\":true,\"timeout_ms\":12}";
	static const char wrong[] = "{\"id\":12,\"command\":\"nope\"}";
	struct control_request out;
	struct control_fault fault;

	ck_assert_int_eq(control_request_parse(stop, sizeof(stop) - 1, &out, &fault), 0);
	ck_assert_int_eq(out.command, CONTROL_STOP);
	ck_assert(out.kill && out.has_timeout);
	ck_assert_uint_eq(out.timeout_ms, 12);
	ck_assert_str_eq(json_string_value(out.id), "a");
	control_request_free(&out);
	/* What is wrong is answered to as well. */
	ck_assert_int_eq(control_request_parse(wrong, sizeof(wrong) - 1, &out, &fault), -EINVAL);
	ck_assert_int_eq(json_integer_value(out.id), 12);
	control_request_free(&out);
}
END_TEST

/* --- connections: time is what the test says ----------------------------------------------- */

static int other; /* the client's end */
static struct conn conn;

static void connect_both(void)
{
	int ends[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
	other = ends[1];
	conn_open(&conn, ends[0], 0);
}

static void disconnect_both(void)
{
	conn_close(&conn);
	close(other);
}

static void client_says(const char *text)
{
	ck_assert_int_eq(send(other, text, strlen(text), 0), (ssize_t)strlen(text));
}

static const char *client_hears(void)
{
	static char text[8192];
	ssize_t n = recv(other, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = 0;
	return text;
}

/* A line that comes in pieces is one; two that come at once are two. */
START_TEST(lines)
{
	size_t len;

	client_says("{\"a\":");
	ck_assert(!conn_ready(&conn, POLLIN, 1, &len));
	client_says("1}\nsecond\nth");
	ck_assert(conn_ready(&conn, POLLIN, 2, &len));
	ck_assert_uint_eq(len, 7);
	ck_assert_int_eq(memcmp(conn.in, "{\"a\":1}\n", 8), 0);
	ck_assert(conn_next_line(&conn, &len, 3));
	ck_assert_int_eq(memcmp(conn.in, "second\n", 7), 0);
	ck_assert(!conn_next_line(&conn, &len, 4));
	client_says("ird\n");
	ck_assert(conn_ready(&conn, POLLIN, 5, &len));
	ck_assert_int_eq(memcmp(conn.in, "third\n", 6), 0);
}
END_TEST

START_TEST(longest_line)
{
	char line[CONTROL_LINE_MAX + 2];
	size_t len;

	memset(line, 'x', sizeof(line));
	line[CONTROL_LINE_MAX + (_i ? 1 : 0)] = 0;
	client_says(line);
	ck_assert(!conn_ready(&conn, POLLIN, 1, &len));
	if (_i) {
		ck_assert_ptr_nonnull(strstr(client_hears(), "\"too-long\""));
		ck_assert_int_eq(conn.fd, -1);
		return;
	}
	client_says("\n");
	ck_assert(conn_ready(&conn, POLLIN, 1, &len));
	ck_assert_uint_eq(len, CONTROL_LINE_MAX);
}
END_TEST

/* 0: says nothing at all; 1: half a line, trickling; 2: silent after a request. */
START_TEST(patience)
{
	uint64_t over = _i == 2 ? CONN_SILENCE_NS : CONN_PATIENCE_NS, at = 5;
	size_t len;

	if (_i == 1) {
		client_says("{");
		conn_ready(&conn, POLLIN, at, &len);
		client_says("\"");
		conn_ready(&conn, POLLIN, at + over / 2, &len);
	} else if (_i == 2) {
		client_says("{}\n");
		ck_assert(conn_ready(&conn, POLLIN, at, &len));
		conn_send(&conn, conn_reply(NULL), at);
		client_hears();
	} else {
		at = 0;
	}
	conn_check_time(&conn, at + over - 1);
	ck_assert_int_ge(conn.fd, 0);
	conn_check_time(&conn, at + over);
	ck_assert_int_eq(conn.fd, -1);
	ck_assert_ptr_nonnull(strstr(client_hears(), "\"too-slow\""));
}
END_TEST

/* An answer that is not read stops the questions, and then the connection. */
START_TEST(deaf)
{
	char text[50000];
	size_t len;

	memset(text, 'y', sizeof(text));
	text[sizeof(text) - 1] = 0;
	for (int i = 0; i < 100 && conn.out_len == 0; i++)
		conn_send(&conn, json_pack("{s:s}", "text", text), 10);
	ck_assert_uint_gt(conn.out_len, 0);
	ck_assert_int_eq(conn_events(&conn), POLLOUT);
	client_says("{}\n");
	ck_assert(!conn_ready(&conn, POLLIN, 11, &len));
	conn_check_time(&conn, 10 + CONN_PATIENCE_NS - 1);
	ck_assert_int_ge(conn.fd, 0);
	conn_check_time(&conn, 10 + CONN_PATIENCE_NS);
	ck_assert_int_eq(conn.fd, -1);
}
END_TEST

/* More than may wait for one that does not read. */
START_TEST(too_much)
{
	char *text = malloc(CONN_OUT_MAX + 1);

	memset(text, 'y', CONN_OUT_MAX);
	text[CONN_OUT_MAX] = 0;
	conn_send(&conn, json_pack("{s:s}", "text", text), 10);
	ck_assert_int_eq(conn.fd, -1);
	free(text);
}
END_TEST

static unsigned open_descriptors(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 200; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Descriptors come with a request, and go with it if nobody took them. */
START_TEST(passed)
{
	unsigned before = open_descriptors();
	size_t len;

	ck_assert_int_gt(fd_send(other, "{}\n", 3, 0, STDIN_FILENO), 0);
	ck_assert(conn_ready(&conn, POLLIN, 1, &len));
	ck_assert_int_ge(conn.passed, 0);
	ck_assert(!conn_next_line(&conn, &len, 2));
	ck_assert_int_eq(conn.passed, -1);
	/* Of lines that come at once it is the last one's. */
	client_says("{}\n");
	ck_assert_int_gt(fd_send(other, "{}\n", 3, 0, STDIN_FILENO), 0);
	ck_assert(conn_ready(&conn, POLLIN, 2, &len));
	ck_assert(conn_next_line(&conn, &len, 2));
	ck_assert_int_ge(conn.passed, 0);
	ck_assert(!conn_next_line(&conn, &len, 2));
	ck_assert_int_eq(conn.passed, -1);
	for (int i = 0; i < 5; i++) {
		ck_assert_int_gt(fd_send(other, "x", 1, 0, STDIN_FILENO), 0);
		conn_ready(&conn, POLLIN, 3, &len);
	}
	ck_assert_uint_eq(open_descriptors(), before + 1);
	conn_close(&conn);
	ck_assert_uint_eq(open_descriptors(), before - 1);
}
END_TEST

#ifndef SO_PASSPIDFD /* Linux 6.5's, which Debian 12's header lacks */
#	define SO_PASSPIDFD 76
#endif

/* Who made the socket may have asked for what nobody passed. */
START_TEST(asked_for_more)
{
	unsigned before = open_descriptors();
	int yes = 1;
	size_t len;

	(void)setsockopt(conn.fd, SOL_SOCKET, SO_PASSPIDFD, &yes, sizeof(yes));
	for (int i = 0; i < 5; i++) {
		client_says("{}\n");
		ck_assert(conn_ready(&conn, POLLIN, 1, &len));
		ck_assert_int_eq(conn.passed, -1);
		ck_assert(!conn_next_line(&conn, &len, 2));
	}
	ck_assert_uint_eq(open_descriptors(), before);
	ck_assert_int_gt(fd_send(other, "{}\n", 3, 0, STDIN_FILENO), 0);
	ck_assert(conn_ready(&conn, POLLIN, 3, &len));
	ck_assert_int_ge(conn.passed, 0);
}
END_TEST

/* Who goes is noticed, whatever it is waited for. */
START_TEST(client_gone)
{
	size_t len;

	conn.owed = _i == 1;
	ck_assert_int_eq(conn_events(&conn), _i ? 0 : POLLIN);
	close(other);
	struct pollfd pfd = {.fd = conn.fd, .events = conn_events(&conn)};
	ck_assert_int_eq(poll(&pfd, 1, 0), 1);
	ck_assert(!conn_ready(&conn, pfd.revents, 1, &len));
	ck_assert_int_eq(conn.fd, -1);
	other = open("/dev/null", O_RDONLY | O_CLOEXEC);
}
END_TEST

/* --- the console's log ------------------------------------------------------------------------ */

START_TEST(log_keeps_the_last)
{
	static struct console_log log;
	static char out[CONSOLE_LOG_SIZE];
	uint64_t at = 0, lost, kept;
	int wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	eventfd_t n;
	char piece[1000];

	console_log_init(&log, wake);
	console_log_add(&log, "hello", 5);
	ck_assert_uint_eq(console_log_read(&log, &at, out, sizeof(out), &lost), 5);
	ck_assert_int_eq(memcmp(out, "hello", 5), 0);
	/* Nobody is woken who does not follow; who does, once. */
	ck_assert_int_ne(eventfd_read(wake, &n), 0);
	ck_assert_uint_eq(console_log_read(&log, &at, out, sizeof(out), &lost), 0);
	for (unsigned i = 0; i < 100; i++) {
		memset(piece, (int)('a' + i % 26), sizeof(piece));
		console_log_add(&log, piece, sizeof(piece));
	}
	ck_assert_int_eq(eventfd_read(wake, &n), 0);
	ck_assert_uint_eq(n, 1);
	ck_assert_uint_eq(console_log_start(&log, &kept), 100005 - CONSOLE_LOG_SIZE);
	ck_assert_uint_eq(kept, CONSOLE_LOG_SIZE);
	ck_assert_uint_eq(console_log_read(&log, &at, out, sizeof(out), &lost), CONSOLE_LOG_SIZE);
	ck_assert_uint_eq(lost, 100000 - CONSOLE_LOG_SIZE);
	for (unsigned i = 0; i < CONSOLE_LOG_SIZE; i++)
		ck_assert_int_eq(out[i], (int)('a' + (100000 - CONSOLE_LOG_SIZE + i) / 1000 % 26));
	console_log_destroy(&log);
	close(wake);
}
END_TEST

/* --- names
 * ---------------------------------------------------------------------------------------- */

START_TEST(names)
{
	static const char *const good[] = {"a", "A-b_c.9", "0"};
	static const char *const bad[] = {"",	".",   "..",  ".a",  "-a",
					  "_a", "a/b", "a b", "a\n", "\xc3\xa4"};
	char longest[VM_NAME_SIZE + 1];

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		ck_assert_ptr_null(vm_name_fault(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_ptr_nonnull(vm_name_fault(bad[i]));
	memset(longest, 'x', sizeof(longest));
	longest[VM_NAME_SIZE] = 0;
	ck_assert_ptr_nonnull(vm_name_fault(longest));
	longest[VM_NAME_SIZE - 1] = 0;
	ck_assert_ptr_null(vm_name_fault(longest));
}
END_TEST

static void add_name(void *ctx, const char *name)
{
	strcat(strcat(ctx, name), " "); /* NOLINT: it has room for three */
}

/* Taken while its holder lives, however it got the lock; free, and tidy, after. */
START_TEST(claims)
{
	const char *path = scratch("names");
	char list[64] = "";
	struct foal_error err = {0};
	struct run_dir dir;
	struct name_mark mark, none = {0};
	int lock, again, status;

	ck_assert_int_eq(run_dir_open(&dir, path, true, &err), 0);
	ck_assert_int_eq(name_claim(&dir, "b", &lock, &err), 0);
	int listener = name_listen(&dir, "b", &err);
	ck_assert_int_ge(listener, 0);
	ck_assert_int_eq(name_claim(&dir, "b", &again, &err), -EEXIST);
	ck_assert_int_eq(err.status, FOAL_EXIT_NAME);
	ck_assert(!name_tidy(&dir, "b"));
	name_mark(&dir, "b", &mark);
	ck_assert_int_eq(name_wait_gone(&dir, "b", &mark, 20), -ETIMEDOUT);
	/* Another one that has the name is not waited for. */
	ck_assert_int_eq(name_wait_gone(&dir, "b", &none, 20), 0);
	int fd = name_connect(&dir, "b");
	ck_assert_int_ge(fd, 0);
	close(fd);
	pid_t pid = fork();
	if (pid == 0) { /* a child keeps it */
		close(listener);
		char byte;
		_exit(read(STDIN_FILENO, &byte, 0) != 0 || name_claim(&dir, "a", &lock, &err) != 0);
	}
	waitpid(pid, &status, 0);
	ck_assert_int_eq(status, 0);
	close(listener);
	close(lock);
	ck_assert_int_eq(name_connect(&dir, "b"), -ECONNREFUSED);
	ck_assert_int_eq(name_connect(&dir, "c"), -ENOENT);
	ck_assert_int_eq(names_each(&dir, add_name, list), 0);
	ck_assert_str_eq(list, "a b ");
	ck_assert(name_tidy(&dir, "a") && name_tidy(&dir, "b") && name_tidy(&dir, "c"));
	run_dir_close(&dir);
	ck_assert_int_eq(rmdir(path), 0);
}
END_TEST

Suite *control_suite(void)
{
	Suite *suite = suite_create("control");
	TCase *pure = tcase_create("requests, log, names"), *both = tcase_create("connections");

	tcase_add_loop_test(pure, request, 0, (int)(sizeof(requests) / sizeof(requests[0])));
	tcase_add_test(pure, request_values);
	tcase_add_test(pure, log_keeps_the_last);
	tcase_add_test(pure, names);
	tcase_add_test(pure, claims);
	suite_add_tcase(suite, pure);
	tcase_add_checked_fixture(both, connect_both, disconnect_both);
	tcase_add_test(both, lines);
	tcase_add_loop_test(both, longest_line, 0, 2);
	tcase_add_loop_test(both, patience, 0, 3);
	tcase_add_test(both, deaf);
	tcase_add_test(both, too_much);
	tcase_add_test(both, passed);
	tcase_add_test(both, asked_for_more);
	tcase_add_loop_test(both, client_gone, 0, 2);
	suite_add_tcase(suite, both);
	return suite;
}
