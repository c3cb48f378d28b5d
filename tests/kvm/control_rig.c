#include "tests/kvm/control_rig.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_WORDS 48
#define HEAR_MS	  (RUN_LIMIT * 1000)

pid_t background(const char *name, const char *const *args)
{
	const char *words[MAX_WORDS] = {"run", "-d", "--name", name, "--time-limit", GUEST_LIMIT};
	char expected[128];
	struct run run;
	unsigned n = 6;
	int pid;

	for (; *args; args++) {
		ck_assert_uint_lt(n, MAX_WORDS - 1);
		words[n++] = *args;
	}
	foal_command(&run, words);
	snprintf(expected, sizeof(expected), "%s: running, pid %%d", name);
	ck_assert_msg(run.status == 0 && sscanf(run.out_text, expected, &pid) == 1,
		      "status %d: %s%s", run.status, run.out_text, run.err_text);
	ck_assert_str_eq(run.err_text, "");
	run_free(&run);
	return pid;
}

void foal_command(struct run *run, const char *const *args)
{
	struct run_how how = {.plain = true};

	run_start(run, &how, args);
	run_wait(run);
}

void expect_command(const char *const *args, int status, const char *words)
{
	struct run run;

	foal_command(&run, args);
	ck_assert_msg(
	    run.status == status && (strstr(run.out_text, words) || strstr(run.err_text, words)),
	    "%s %s: status %d, not %d, or no \"%s\": %s%s", args[0], args[1] ? args[1] : "",
	    run.status, status, words, run.out_text, run.err_text);
	run_free(&run);
}

static void end_those_of(const char *directory)
{
	struct run_how how = {.plain = true};
	struct run run;
	size_t i;
	json_t *vm;

	snprintf(how.run_dir, sizeof(how.run_dir), "%s/run", directory);
	if (access(how.run_dir, F_OK))
		return;
	run_start(&run, &how, ARGS("ps", "--json"));
	run_wait(&run);
	json_t *list = json_loads(run.out_text, 0, NULL);
	json_array_foreach(list, i, vm)
	{
		pid_t pid = (pid_t)json_integer_value(json_object_get(vm, "pid"));
		if (pid > 1)
			kill(pid, SIGKILL);
	}
	json_decref(list);
	run_free(&run);
}

void end_all(void)
{
	scratch_each(end_those_of);
}

/* A connected socket, or -1. */
static int reach(const char *name)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int n = snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", scratch("run/%s.sock", name));

	ck_assert_int_ge(fd, 0);
	ck_assert_int_lt(n, (int)sizeof(addr.sun_path));
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd;
	n = errno;
	close(fd);
	errno = n;
	return -1;
}

static int greeted(int fd, const char *name)
{
	json_t *greeting = control_line(fd);

	ck_assert_ptr_nonnull(greeting);
	ck_assert_str_eq(json_string_value(json_object_get(greeting, "name")), name);
	ck_assert_int_eq(json_integer_value(json_object_get(greeting, "version")), 1);
	json_decref(greeting);
	return fd;
}

int control_connect(const char *name)
{
	int fd = reach(name);

	ck_assert_msg(fd >= 0, "%s: %s", name, strerror(errno));
	return greeted(fd, name);
}

int control_connect_soon(const char *name)
{
	int fd;

	while ((fd = reach(name)) < 0)
		usleep(1000);
	return greeted(fd, name);
}

void control_send(int fd, const char *text)
{
	ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* What is there, or the test has failed. 0: the end. */
static ssize_t hear(int fd, char *buf, size_t size)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	ck_assert_msg(poll(&pfd, 1, HEAR_MS) == 1, "nothing was heard for %d s", RUN_LIMIT);
	ssize_t n = recv(fd, buf, size, 0);
	return n < 0 && errno == ECONNRESET ? 0 : n;
}

json_t *control_line(int fd)
{
	size_t len = 0, size = 1 << 20;
	char *line = malloc(size);
	json_t *o;

	ck_assert_ptr_nonnull(line);
	while (len < size) {
		ssize_t n = hear(fd, line + len, 1);
		ck_assert_int_ge(n, 0);
		if (n == 0 || line[len] == '\n')
			break;
		len++;
	}
	o = len ? json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL) : NULL;
	ck_assert_msg(!len || o, "no JSON: %.*s", (int)len, line);
	free(line);
	return o;
}

json_t *control_ask(int fd, const char *request)
{
	control_send(fd, request);
	control_send(fd, "\n");
	json_t *reply = control_line(fd);
	ck_assert_msg(reply != NULL, "%s: no reply", request);
	return reply;
}

uint64_t control_number(int fd, const char *request, const char *key)
{
	json_t *reply = control_ask(fd, request);
	json_t *error = json_object_get(json_object_get(reply, "error"), "message");

	ck_assert_msg(json_is_true(json_object_get(reply, "ok")), "%s: %s", request,
		      json_string_value(error));
	uint64_t value = (uint64_t)json_integer_value(json_object_get(reply, key));
	json_decref(reply);
	return value;
}

void control_refused(int fd, const char *request, const char *code)
{
	json_t *reply = control_ask(fd, request);
	const char *said =
	    json_string_value(json_object_get(json_object_get(reply, "error"), "code"));

	ck_assert_msg(said && strcmp(said, code) == 0, "%.80s: %s, not %s", request,
		      said ? said : "ok", code);
	json_decref(reply);
}

int control_listen(const char *name)
{
	int fd = control_connect(name);

	control_number(fd, "{\"command\":\"status\"}", "vcpus");
	return fd;
}

int control_end(int fd)
{
	json_t *told = control_line(fd);

	ck_assert_ptr_nonnull(told);
	ck_assert_str_eq(json_string_value(json_object_get(told, "event")), "end");
	int status = (int)json_integer_value(json_object_get(told, "status"));
	json_decref(told);
	close(fd);
	return status;
}

void control_pass_all(int fd, const char *text, const int *passed, unsigned count)
{
	char control[CMSG_SPACE(16 * sizeof(int))] = {0};
	struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = CMSG_SPACE(count * sizeof(int))};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	ck_assert_uint_le(count, 16);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(cmsg), passed, count * sizeof(int));
	ck_assert_int_eq(sendmsg(fd, &msg, MSG_NOSIGNAL), (ssize_t)strlen(text));
}

void control_pass(int fd, const char *text, int passed, unsigned times)
{
	int same[16];

	for (unsigned i = 0; i < 16; i++)
		same[i] = passed;
	control_pass_all(fd, text, same, times);
}

static int attach(int fd, uint64_t *history)
{
	int ends[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	control_pass(fd, "{\"command\":\"console\"}\n", ends[1], 1);
	close(ends[1]);
	json_t *reply = control_line(fd);
	ck_assert(json_is_true(json_object_get(reply, "ok")));
	*history = (uint64_t)json_integer_value(json_object_get(reply, "history"));
	json_decref(reply);
	return ends[0];
}

int control_console(int fd)
{
	uint64_t history;

	return attach(fd, &history);
}

int control_console_from_now(int fd)
{
	uint64_t history;
	int console = attach(fd, &history);

	skip_heard(console, history);
	return console;
}

char *heard_until(int fd, const char *text)
{
	size_t len = 0, size = 1 << 20;
	char *heard = calloc(1, size);

	ck_assert_ptr_nonnull(heard);
	while (!strstr(heard, text)) {
		ck_assert_uint_lt(len, size - 1);
		ssize_t n = hear(fd, heard + len, 1);
		ck_assert_msg(n == 1, "ended before \"%s\": %s", text, heard);
		len += (size_t)n;
	}
	return heard;
}

void skip_heard(int fd, size_t bytes)
{
	char piece[4096];

	while (bytes) {
		ssize_t n = hear(fd, piece, bytes < sizeof(piece) ? bytes : sizeof(piece));
		ck_assert_int_gt(n, 0);
		bytes -= (size_t)n;
	}
}

void read_until(int fd, const char *text)
{
	free(heard_until(fd, text));
}

uint64_t exits_of(int fd)
{
	json_t *reply = control_ask(fd, "{\"command\":\"stat\"}");
	json_t *kvm = json_object_get(json_object_get(reply, "stats"), "kvm");
	uint64_t exits = (uint64_t)json_integer_value(json_object_get(kvm, "exits"));

	json_decref(reply);
	return exits;
}
