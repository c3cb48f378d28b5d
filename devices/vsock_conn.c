/* The table of connections, and what the guest sends on its way to their sockets. */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/vsock.h"

static uint32_t index_of(const struct virtio_vsock *vsock, const struct vsock_conn *conn)
{
	return (uint32_t)(conn - vsock->conns);
}

/*
 * A connection's event is asked for once at a time. A connector may keep a descriptor
 * of what it handed over; the socket that is closed here then stays in its epolls,
 * and would say for ever that it is ready.
 */
static void watch(int epoll, bool want, int fd, uint32_t events, uint32_t index)
{
	struct epoll_event event = {.events = events, .data.u32 = index};

	if (epoll_ctl(epoll, want ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, fd, &event) == 0 || !want)
		return;
	/* The same socket again, under the same number. */
	if (errno == EEXIST)
		(void)epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event);
}

/*
 * The listener waits while the table is full: the host's clients are then not
 * accepted. The worker's alone: a vCPU, which drops connections when it resets the
 * device, is let close descriptors and no more.
 */
void vsock_watch_listener(struct virtio_vsock *vsock)
{
	bool want = vsock->nr_conns < VSOCK_CONNS;

	if (want != vsock->accepting && vsock->listener >= 0)
		watch(vsock->in_epoll, want, vsock->listener, EPOLLIN, VSOCK_LISTENER);
	vsock->accepting = want;
}

/* --- the table --------------------------------------------------------------------------- */

struct vsock_conn *vsock_find(struct virtio_vsock *vsock, uint32_t guest_port, uint32_t host_port)
{
	for (unsigned i = 0; i < VSOCK_CONNS; i++) {
		struct vsock_conn *conn = &vsock->conns[i];

		if (conn->state != VSOCK_FREE && conn->state != VSOCK_GREETING &&
		    conn->guest_port == guest_port && conn->host_port == host_port)
			return conn;
	}
	return NULL;
}

struct vsock_conn *vsock_new(struct virtio_vsock *vsock, enum vsock_state state, int fd)
{
	for (unsigned i = 0; i < VSOCK_CONNS; i++) {
		struct vsock_conn *conn = &vsock->conns[i];

		if (conn->state != VSOCK_FREE)
			continue;
		*conn = (struct vsock_conn){.fd = fd};
		conn->buffer = malloc(VSOCK_BUFFER);
		if (!conn->buffer)
			return NULL;
		conn->state = state;
		vsock->nr_conns++;
		return conn;
	}
	return NULL;
}

static void close_socket(struct virtio_vsock *vsock, struct vsock_conn *conn)
{
	/* It leaves its epolls by that, or is silent there after one more event. */
	if (conn->fd >= 0)
		close(conn->fd);
	conn->fd = -1;
	if (conn->waiting)
		vsock->nr_waiting--;
	conn->watched = conn->waiting = conn->readable = false;
	conn->len = 0;
}

void vsock_drop(struct virtio_vsock *vsock, struct vsock_conn *conn, bool tell)
{
	close_socket(vsock, conn);
	if (tell) {
		conn->state = VSOCK_RESET;
		conn->due = 1u << VIRTIO_VSOCK_OP_RST;
		return;
	}
	free(conn->buffer);
	conn->buffer = NULL;
	conn->state = VSOCK_FREE;
	conn->due = 0;
	vsock->nr_conns--;
}

/* --- to the guest -------------------------------------------------------------------------- */

/* What the guest still has room for; nothing if its figures make no sense. */
uint32_t vsock_credit(const struct vsock_conn *conn)
{
	uint32_t out = conn->sent - conn->peer_forwarded;

	return out < conn->peer_alloc ? conn->peer_alloc - out : 0;
}

bool vsock_sendable(const struct vsock_conn *conn)
{
	return conn->state == VSOCK_OPEN && conn->readable && !conn->read_ended &&
	       vsock_credit(conn) > 0;
}

void vsock_watch(struct virtio_vsock *vsock, struct vsock_conn *conn)
{
	bool want = conn->fd >= 0 && !conn->readable && !conn->read_ended &&
		    (conn->state == VSOCK_GREETING ||
		     (conn->state == VSOCK_OPEN && vsock_credit(conn) > 0));

	if (want != conn->watched)
		watch(vsock->in_epoll, want, conn->fd, EPOLLIN | EPOLLONESHOT,
		      index_of(vsock, conn));
	conn->watched = want;
}

/* --- from the guest ------------------------------------------------------------------------ */

uint32_t vsock_room(const struct vsock_conn *conn)
{
	return VSOCK_BUFFER - conn->len;
}

uint8_t *vsock_tail(struct vsock_conn *conn, uint32_t *len)
{
	uint32_t end = (conn->at + conn->len) % VSOCK_BUFFER;
	uint32_t most =
	    end < conn->at || conn->len == VSOCK_BUFFER ? vsock_room(conn) : VSOCK_BUFFER - end;

	if (*len > most)
		*len = most;
	return conn->buffer + end;
}

/* What the guest said it would not do any more, once its data is out. */
static void pass_shutdown(struct virtio_vsock *vsock, struct vsock_conn *conn)
{
	const uint32_t both = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND;

	if ((conn->guest_shutdown & both) == both)
		vsock_drop(vsock, conn, true);
	else if (conn->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND)
		(void)shutdown(conn->fd, SHUT_WR);
}

static void watch_room(struct virtio_vsock *vsock, struct vsock_conn *conn, bool want)
{
	if (want == conn->waiting)
		return;
	watch(vsock->out_epoll, want, conn->fd, EPOLLOUT | EPOLLONESHOT, index_of(vsock, conn));
	vsock->nr_waiting += want ? 1 : -1;
	conn->waiting = want;
}

void vsock_flush(struct virtio_vsock *vsock, struct vsock_conn *conn)
{
	while (conn->len > 0) {
		uint32_t run = VSOCK_BUFFER - conn->at;
		ssize_t n = send(conn->fd, conn->buffer + conn->at,
				 run < conn->len ? run : conn->len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN) {
			vsock_drop(vsock, conn, true);
			return;
		}
		if (n < 0)
			break;
		conn->at = (conn->at + (uint32_t)n) % VSOCK_BUFFER;
		conn->len -= (uint32_t)n;
		conn->forwarded += (uint32_t)n;
		vsock_count(&vsock->stats.bytes_to_host, (uint64_t)n);
	}
	watch_room(vsock, conn, conn->len > 0);
	/* Not for every byte, but long before the guest runs out. */
	if (conn->forwarded - conn->told >= VSOCK_BUFFER / 4)
		conn->due |= 1u << VIRTIO_VSOCK_OP_CREDIT_UPDATE;
	if (conn->len == 0)
		pass_shutdown(vsock, conn);
}

void vsock_writable(struct virtio_vsock *vsock, struct vsock_conn *conn)
{
	watch_room(vsock, conn, false);
	vsock_flush(vsock, conn);
}
