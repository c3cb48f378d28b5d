/* Where connections come from: the host's clients, and the connector for the guest. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/fd_passing.h"
#include "devices/vsock.h"
#include "devices/vsock_connector.h"

#define EVENTS 64

/* --- connections that the guest begins ------------------------------------------------------- */

bool vsock_connect(struct virtio_vsock *vsock, uint32_t guest_port, uint32_t host_port)
{
	struct vsock_ask ask = {.tag = vsock->next_tag++, .port = host_port};
	struct vsock_conn *conn;

	if (vsock->connector < 0)
		return false;
	conn = vsock_new(vsock, VSOCK_CONNECTING, -1);
	if (!conn)
		return false;
	conn->guest_port = guest_port;
	conn->host_port = host_port;
	conn->tag = ask.tag;
	if (send(vsock->connector, &ask, sizeof(ask), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(ask))
		return true;
	vsock_drop(vsock, conn, false);
	return false;
}

/* *@fd is the caller's, also with an error; -1: none came. */
static int take_answer(int connector, struct vsock_answer *answer, int *fd)
{
	ssize_t n = fd_recv(connector, answer, sizeof(*answer), MSG_DONTWAIT, fd);

	if (n == sizeof(*answer))
		return 0;
	return n < 0 && (errno == EAGAIN || errno == EINTR) ? -EAGAIN : -EPIPE;
}

static struct vsock_conn *asked_for(struct virtio_vsock *vsock, uint32_t tag)
{
	for (unsigned i = 0; i < VSOCK_CONNS; i++)
		if (vsock->conns[i].state == VSOCK_CONNECTING && vsock->conns[i].tag == tag)
			return &vsock->conns[i];
	return NULL;
}

/* Without its connector the guest can begin no connection; the others go on. */
static void lose_connector(struct virtio_vsock *vsock)
{
	/* Closing it is not enough while a forked child has it, too. */
	(void)epoll_ctl(vsock->in_epoll, EPOLL_CTL_DEL, vsock->connector, NULL);
	close(vsock->connector);
	vsock->connector = -1;
	for (unsigned i = 0; i < VSOCK_CONNS; i++)
		if (vsock->conns[i].state == VSOCK_CONNECTING)
			vsock_drop(vsock, &vsock->conns[i], true);
}

static void take_answers(struct virtio_vsock *vsock)
{
	struct vsock_answer answer = {0};
	int fd, rc;

	while ((rc = take_answer(vsock->connector, &answer, &fd)) == 0) {
		struct vsock_conn *conn = asked_for(vsock, answer.tag);

		if (!conn || fd < 0) {
			if (fd >= 0)
				close(fd);
			if (conn)
				vsock_drop(vsock, conn, true);
			continue;
		}
		conn->fd = fd;
		conn->state = VSOCK_OPEN;
		conn->due |= 1u << VIRTIO_VSOCK_OP_RESPONSE;
		/* The host may be the first to speak. */
		vsock_watch(vsock, conn);
		vsock_count(&vsock->stats.from_guest, 1);
	}
	if (fd >= 0)
		close(fd);
	if (rc == -EPIPE)
		lose_connector(vsock);
}

/* --- connections that the host begins -------------------------------------------------------- */

static void take_clients(struct virtio_vsock *vsock)
{
	while (vsock->nr_conns < VSOCK_CONNS) {
		int fd = accept4(vsock->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct vsock_conn *conn;

		if (fd < 0)
			return;
		conn = vsock_new(vsock, VSOCK_GREETING, fd);
		if (conn)
			vsock_watch(vsock, conn);
		else
			close(fd);
	}
}

/* "CONNECT PORT", in full. */
static bool parse_line(const char *line, uint32_t *port)
{
	static const char word[] = "CONNECT ";
	unsigned long value;
	char *end;

	if (strncmp(line, word, sizeof(word) - 1) != 0)
		return false;
	line += sizeof(word) - 1;
	if (*line < '0' || *line > '9')
		return false;
	errno = 0;
	value = strtoul(line, &end, 10);
	*port = (uint32_t)value;
	return !*end && !errno && value < UINT32_MAX;
}

/* A port of the host's side that no other connection to that guest port has. */
static uint32_t unused_port(struct virtio_vsock *vsock, uint32_t guest_port)
{
	do
		vsock->next_port = VSOCK_HOST_PORT | ((vsock->next_port + 1) % VSOCK_HOST_PORT);
	while (vsock_find(vsock, guest_port, vsock->next_port));
	return vsock->next_port;
}

/* Byte by byte: what comes after the line is the connection's. */
static void read_line(struct virtio_vsock *vsock, struct vsock_conn *conn)
{
	uint32_t port;
	ssize_t n;
	char c = 0;

	while ((n = read(conn->fd, &c, 1)) == 1 && c != '\n') {
		if (conn->line_len == VSOCK_LINE - 1)
			break;
		conn->line[conn->line_len++] = c;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		conn->readable = false;
		vsock_watch(vsock, conn);
		return;
	}
	conn->line[conn->line_len] = '\0';
	if (n != 1 || c != '\n' || !parse_line(conn->line, &port)) {
		vsock_drop(vsock, conn, false);
		return;
	}
	conn->guest_port = port;
	conn->host_port = unused_port(vsock, port);
	conn->state = VSOCK_REQUESTED;
	conn->due |= 1u << VIRTIO_VSOCK_OP_REQUEST;
	conn->readable = false;
}

void vsock_accepted(struct virtio_vsock *vsock, struct vsock_conn *conn)
{
	char line[VSOCK_LINE];
	int len = snprintf(line, sizeof(line), "OK %u\n", conn->host_port);

	conn->state = VSOCK_OPEN;
	vsock_count(&vsock->stats.from_host, 1);
	if (write(conn->fd, line, (size_t)len) != len)
		vsock_drop(vsock, conn, true);
}

/* --- what happened meanwhile --------------------------------------------------------------------
 */

int vsock_watch_all(struct virtio_vsock *vsock)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = VSOCK_CONNECTOR};

	vsock_watch_listener(vsock);
	return epoll_ctl(vsock->in_epoll, EPOLL_CTL_ADD, vsock->connector, &event) ? -errno : 0;
}

static void look_in(struct virtio_vsock *vsock, const struct epoll_event *event)
{
	uint32_t index = event->data.u32;
	struct vsock_conn *conn;

	if (index == VSOCK_LISTENER) {
		take_clients(vsock);
	} else if (index == VSOCK_CONNECTOR) {
		if (vsock->connector >= 0)
			take_answers(vsock);
	} else {
		conn = &vsock->conns[index];
		if (conn->fd < 0)
			return;
		conn->readable = true;
		vsock_watch(vsock, conn);
		if (conn->state == VSOCK_GREETING)
			read_line(vsock, conn);
	}
}

void vsock_look(struct virtio_vsock *vsock)
{
	struct epoll_event events[EVENTS];
	int nr = epoll_wait(vsock->out_epoll, events, EVENTS, 0);

	for (int i = 0; i < nr; i++) {
		struct vsock_conn *conn = &vsock->conns[events[i].data.u32];

		if (conn->state == VSOCK_OPEN && conn->fd >= 0)
			vsock_writable(vsock, conn);
	}
	if (vsock->starved)
		return;
	nr = epoll_wait(vsock->in_epoll, events, EVENTS, 0);
	for (int i = 0; i < nr; i++)
		look_in(vsock, &events[i]);
}
