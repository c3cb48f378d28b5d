#include "vmm/control_conn.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/fd_passing.h"

#define ROOM (CONTROL_LINE_MAX + 1)

void conn_open(struct conn *conn, int fd, uint64_t now)
{
	*conn = (struct conn){.fd = fd, .passed = -1, .deadline = now + CONN_PATIENCE_NS};
}

static void drop_passed(struct conn *conn)
{
	if (conn->passed >= 0)
		close(conn->passed);
	conn->passed = -1;
}

void conn_close(struct conn *conn)
{
	if (conn->fd >= 0)
		close(conn->fd);
	drop_passed(conn);
	conn->fd = -1;
	free(conn->in);
	free(conn->out);
	conn->in = conn->out = NULL;
	conn->out_len = conn->out_at = conn->in_len = 0;
	json_decref(conn->owed_id);
	conn->owed_id = NULL;
	conn->owed = conn->closing = false;
}

/* --- answers ---------------------------------------------------------------------------- */

/* False: it is closed. */
static bool flush(struct conn *conn, uint64_t now)
{
	while (conn->out_at < conn->out_len) {
		ssize_t n = send(conn->fd, conn->out + conn->out_at, conn->out_len - conn->out_at,
				 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n < 0) {
			conn_close(conn);
			return false;
		}
		conn->out_at += (size_t)n;
		conn->deadline = now + CONN_PATIENCE_NS;
	}
	free(conn->out);
	conn->out = NULL;
	conn->out_len = conn->out_at = 0;
	if (conn->closing) {
		conn_close(conn);
		return false;
	}
	conn->deadline = conn->owed ? 0 : now + CONN_SILENCE_NS;
	return true;
}

/* The line, with its end, behind what waits. False: no memory, or too much waits. */
static bool append(struct conn *conn, const char *line)
{
	size_t len = strlen(line) + 1;
	char *more;

	if (conn->out_len + len > CONN_OUT_MAX)
		return false;
	more = realloc(conn->out, conn->out_len + len);
	if (!more)
		return false;
	memcpy(more + conn->out_len, line, len);
	conn->out = more;
	conn->out_len += len;
	more[conn->out_len - 1] = '\n'; /* in its end's place */
	return true;
}

void conn_send(struct conn *conn, json_t *object, uint64_t now)
{
	char *line = object && conn->fd >= 0 ? json_dumps(object, JSON_COMPACT) : NULL;
	bool waits = conn->out_len > 0;

	json_decref(object);
	if (!line || !append(conn, line)) {
		conn_close(conn);
	} else {
		if (!waits)
			conn->deadline = now + CONN_PATIENCE_NS;
		flush(conn, now);
	}
	free(line);
}

json_t *conn_reply(json_t *id)
{
	return json_pack("{s:O?,s:b}", "id", id, "ok", 1);
}

json_t *conn_error(json_t *id, enum control_error code, const char *text)
{
	json_t *words = json_string(text); /* a path in it may be no UTF-8 */

	return json_pack("{s:O?,s:b,s:{s:s,s:o}}", "id", id, "ok", 0, "error", "code",
			 control_error_name(code), "message",
			 words ? words : json_string(control_error_name(code)));
}

/* It gets no further: say why, and close when that is out. */
static void refuse(struct conn *conn, enum control_error code, const char *text, uint64_t now)
{
	conn->closing = true;
	conn_send(conn, conn_error(NULL, code, text), now);
}

/* --- requests ---------------------------------------------------------------------------- */

/* Who does not read its answers, or waits for the end, asks nothing more. */
static bool may_ask(const struct conn *conn)
{
	return conn->fd >= 0 && conn->out_len == 0 && !conn->closing && !conn->owed;
}

short conn_events(const struct conn *conn)
{
	if (conn->out_len > 0)
		return POLLOUT;
	return may_ask(conn) ? POLLIN : 0;
}

static bool find_line(struct conn *conn, size_t *len, uint64_t now)
{
	const char *end = conn->in_len ? memchr(conn->in, '\n', conn->in_len) : NULL;

	if (end) {
		*len = (size_t)(end - conn->in);
		return true;
	}
	if (conn->in_len > CONTROL_LINE_MAX)
		refuse(conn, CONTROL_ERROR_TOO_LONG, "a request has at most 4096 bytes", now);
	return false;
}

/* Something came, or the end. */
static void take(struct conn *conn, uint64_t now)
{
	int fd;

	if (!conn->in)
		conn->in = malloc(ROOM);
	if (!conn->in) {
		conn_close(conn);
		return;
	}
	ssize_t n =
	    fd_recv(conn->fd, conn->in + conn->in_len, ROOM - conn->in_len, MSG_DONTWAIT, &fd);

	if (fd >= 0) {
		drop_passed(conn);
		conn->passed = fd;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		conn_close(conn);
		return;
	}
	/* A line that was begun has its time, however it trickles in. */
	if (conn->in_len == 0)
		conn->deadline = now + CONN_PATIENCE_NS;
	conn->in_len += (size_t)n;
}

bool conn_ready(struct conn *conn, short events, uint64_t now, size_t *len)
{
	if (conn->out_len > 0) {
		if (!(events & (POLLOUT | POLLERR | POLLHUP)) || !flush(conn, now))
			return false;
		return may_ask(conn) && find_line(conn, len, now);
	}
	if (events & (POLLERR | POLLNVAL) || (events & POLLHUP && !(events & POLLIN))) {
		conn_close(conn);
		return false;
	}
	if (!(events & POLLIN) || !may_ask(conn))
		return false;
	take(conn, now);
	return conn->fd >= 0 && find_line(conn, len, now);
}

bool conn_next_line(struct conn *conn, size_t *len, uint64_t now)
{
	if (conn->fd < 0)
		return false;
	conn->in_len -= *len + 1;
	/* It came with the last of what is here; several lines may have come at once. */
	if (conn->in_len == 0)
		drop_passed(conn);
	memmove(conn->in, conn->in + *len + 1, conn->in_len);
	return may_ask(conn) && find_line(conn, len, now);
}

void conn_check_time(struct conn *conn, uint64_t now)
{
	if (conn->fd < 0 || !conn->deadline || now < conn->deadline)
		return;
	if (conn->out_len > 0)
		conn_close(conn); /* it reads nothing */
	else
		refuse(conn, CONTROL_ERROR_TOO_SLOW, "nothing was asked for too long", now);
}
