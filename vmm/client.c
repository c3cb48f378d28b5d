#include "vmm/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/fd_passing.h"
#include "vmm/control_request.h"
#include "vmm/vm.h"

/* More than any answer has. */
#define ANSWER_MAX (4U << 20)
#define AGAIN_MS   10 /* between two tries to be let in */

static int gone(struct client *client, struct foal_error *err)
{
	client->gone = true;
	return error_set(err, FOAL_EXIT_CONTROL, -ECONNRESET, "%s: the VM ended before it answered",
			 client->name);
}

/* It would say something if it could. */
static int silent(const struct client *client, struct foal_error *err)
{
	return error_set(err, FOAL_EXIT_CONTROL, -ETIMEDOUT,
			 "%s: the VM does not answer; is it stopped (SIGSTOP, a frozen cgroup)?",
			 client->name);
}

static int not_waited_for(const struct client *client, struct foal_error *err)
{
	return error_set(err, FOAL_EXIT_CONTROL, -EINTR, "%s: not waited for", client->name);
}

static uint64_t deadline_of(const struct client *client)
{
	return now_ns() + (uint64_t)(client->timeout_ms < 0 ? 0 : client->timeout_ms) * 1000000;
}

/* --- a line at a time --------------------------------------------------------------------- */

/* 1: something came; or a negative errno with @err filled. */
static int more(struct client *client, uint64_t deadline, struct foal_error *err)
{
	struct pollfd fds[] = {{.fd = client->fd, .events = POLLIN},
			       {.fd = client->interrupt_fd, .events = POLLIN}};
	uint64_t now = now_ns();
	int wait = client->timeout_ms < 0 ? -1
		   : now < deadline	  ? (int)((deadline - now) / 1000000) + 1
					  : 0;

	if (client->size - client->len < 4096) {
		if (client->size >= ANSWER_MAX)
			return error_set(err, FOAL_EXIT_CONTROL, -EPROTO,
					 "%s: its answer has no end", client->name);
		client->size += client->size + 65536;
		client->in = realloc(client->in, client->size);
		if (!client->in)
			return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "out of memory");
	}
	int r = poll(fds, 2, wait);
	if (r == 0)
		return silent(client, err);
	if (r > 0 && fds[1].revents)
		return not_waited_for(client, err);
	ssize_t n =
	    r < 0 ? r : recv(client->fd, client->in + client->len, client->size - client->len, 0);
	if (n < 0 && errno == EINTR)
		return 1;
	if (n <= 0)
		return gone(client, err);
	client->len += (size_t)n;
	return 1;
}

/* The next line as an object; NULL: @err is filled. */
static json_t *next(struct client *client, struct foal_error *err)
{
	uint64_t deadline = deadline_of(client);
	const char *end;

	while (!(end = client->len ? memchr(client->in, '\n', client->len) : NULL))
		if (more(client, deadline, err) < 0)
			return NULL;
	size_t len = (size_t)(end - client->in);
	json_t *line = json_loadb(client->in, len, JSON_REJECT_DUPLICATES, NULL);
	client->len -= len + 1;
	memmove(client->in, client->in + len + 1, client->len);
	if (!json_is_object(line)) {
		json_decref(line);
		error_set(err, FOAL_EXIT_CONTROL, -EPROTO,
			  "%s: what listens there is no VM of foal's", client->name);
		return NULL;
	}
	return line;
}

/* --- the greeting --------------------------------------------------------------------------- */

/* It may turn us away instead. */
static int check_greeting(struct client *client, const json_t *line, struct foal_error *err)
{
	const char *text = reply_text(json_object_get(line, "error"), "message");

	if (text[0])
		return error_set(err, FOAL_EXIT_CONTROL, -EACCES, "%s: %s", client->name, text);
	if (strcmp(reply_text(line, "foal"), "control") != 0 ||
	    reply_number(line, "version") != CONTROL_VERSION)
		return error_set(err, FOAL_EXIT_CONTROL, -EPROTO,
				 "%s: its control socket speaks version %llu, this foal %d",
				 client->name, reply_number(line, "version"), CONTROL_VERSION);
	client->pid = (int)reply_number(line, "pid");
	return 0;
}

/* No poll() tells when there is room again for who would be let in. */
static int connect_within(const struct client *client, const struct run_dir *dir)
{
	struct pollfd interrupt = {.fd = client->interrupt_fd, .events = POLLIN};
	uint64_t deadline = deadline_of(client);
	int fd;

	while ((fd = name_connect(dir, client->name)) == -EAGAIN) {
		if (client->timeout_ms >= 0 && now_ns() >= deadline)
			return -ETIMEDOUT;
		if (poll(&interrupt, 1, AGAIN_MS) > 0)
			return -EINTR;
	}
	return fd;
}

int client_connect(struct client *client, const struct run_dir *dir, struct foal_error *err)
{
	const char *name = client->name;

	client->fd = connect_within(client, dir);
	if (client->fd == -ETIMEDOUT)
		return silent(client, err);
	if (client->fd == -EINTR)
		return not_waited_for(client, err);
	if ((client->fd == -ENOENT || client->fd == -ECONNREFUSED) && name_has_log(dir, name))
		return error_set(err, FOAL_EXIT_NAME, -ENOENT,
				 "%s: no running VM has this name; foal ps lists them; what the "
				 "last one said is in %s/%s.log",
				 name, dir->path, name);
	if (client->fd == -ENOENT || client->fd == -ECONNREFUSED)
		return error_set(err, FOAL_EXIT_NAME, -ENOENT,
				 "%s: no running VM has this name; foal ps lists them", name);
	if (client->fd < 0)
		return error_set(err, FOAL_EXIT_CONTROL, client->fd, "%s/%s.sock: %s", dir->path,
				 name, strerror(-client->fd));
	return 0;
}

int client_greeted(struct client *client, struct foal_error *err)
{
	json_t *line = next(client, err);
	int r = line ? check_greeting(client, line, err) : -ECONNRESET;

	json_decref(line);
	return r;
}

int client_open(struct client *client, const struct run_dir *dir, const char *name,
		struct foal_error *err)
{
	return client_open_within(client, dir, name, CLIENT_PATIENCE_MS, err);
}

int client_open_within(struct client *client, const struct run_dir *dir, const char *name,
		       int timeout_ms, struct foal_error *err)
{
	*client = (struct client){.name = name, .timeout_ms = timeout_ms, .interrupt_fd = -1};
	int r = client_connect(client, dir, err);

	if (r)
		return r;
	r = client_greeted(client, err);
	if (r)
		client_close(client);
	return r;
}

void client_close(struct client *client)
{
	close(client->fd);
	free(client->in);
	*client = (struct client){.fd = -1};
}

/* --- questions -------------------------------------------------------------------------------- */

/* Is @line not an answer but the end? Then it is used up. There is one: a VM may not go on so. */
static bool take_end(struct client *client, json_t *line)
{
	if (client->ended || !json_object_get(line, "event"))
		return false;
	reply_make_printable(line);
	client->ended = true;
	client->end_status = (int)(reply_number(line, "status") & 0xff);
	snprintf(client->end_text, sizeof(client->end_text), "%s", reply_text(line, "message"));
	json_decref(line);
	return true;
}

void client_hear(struct client *client)
{
	struct pollfd pfd = {.fd = client->fd, .events = POLLIN};
	struct foal_error err = {0};

	while (!client->gone && poll(&pfd, 1, 0) == 1) {
		json_t *line = next(client, &err);

		if (line && take_end(client, line))
			continue;
		json_decref(line); /* nobody asked for it */
		client->gone = true;
	}
}

int client_say(struct client *client, const char *command, json_t *members, int fd,
	       struct foal_error *err)
{
	json_t *request = members ? members : json_object();
	char line[CONTROL_LINE_MAX];

	json_object_set_new(request, "command", json_string(command));
	size_t len = json_dumpb(request, line, sizeof(line) - 1, JSON_COMPACT);
	json_decref(request);
	if (len == 0 || len >= sizeof(line))
		return error_set(err, FOAL_EXIT_INTERNAL, -E2BIG, "a request of %zu bytes", len);
	line[len++] = '\n';
	if (fd_send(client->fd, line, len, 0, fd) == (ssize_t)len)
		return 0;
	client_hear(client); /* of its end it may have told before */
	return gone(client, err);
}

void reply_make_printable(json_t *reply)
{
	const char *key;
	json_t *value;

	json_object_foreach(reply, key, value)
	{
		char *text = json_is_string(value) ? strdup(json_string_value(value)) : NULL;

		for (char *at = text; at && *at; at++) {
			unsigned char c = (unsigned char)at[0], next = (unsigned char)at[1];

			if ((c < ' ' && c != '\n') || c == 0x7f)
				*at = '?';
			else if (c == 0xc2 && next < 0xa0)
				at[0] = at[1] = '?';
		}
		if (text)
			json_string_set(value, text);
		free(text);
	}
}

json_t *client_answer(struct client *client, struct foal_error *err)
{
	json_t *reply = next(client, err);

	if (reply && take_end(client, reply))
		reply = next(client, err); /* it may have come before the answer, or instead */
	if (reply && json_object_get(reply, "event")) {
		json_decref(reply);
		error_set(err, FOAL_EXIT_CONTROL, -EPROTO, "%s: it ends more than once",
			  client->name);
		return NULL;
	}
	if (reply && !json_is_true(json_object_get(reply, "ok"))) {
		error_set(err, FOAL_EXIT_CONTROL, -EREMOTEIO, "%s: %s", client->name,
			  reply_text(json_object_get(reply, "error"), "message"));
		json_decref(reply);
		return NULL;
	}
	if (reply) {
		json_object_del(reply, "id"); /* ours had none */
		reply_make_printable(reply);
	}
	return reply;
}

json_t *client_ask(struct client *client, const char *command, json_t *members, int fd,
		   struct foal_error *err)
{
	return client_say(client, command, members, fd, err) ? NULL : client_answer(client, err);
}

unsigned long long reply_number(const json_t *reply, const char *key)
{
	json_int_t value = json_integer_value(json_object_get(reply, key));

	return value > 0 ? (unsigned long long)value : 0;
}

const char *reply_text(const json_t *reply, const char *key)
{
	const char *text = json_string_value(json_object_get(reply, key));

	return text ? text : "";
}
