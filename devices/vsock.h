/*
 * virtio-vsock (virtio 1.2, 5.10) in four files: the device and what the guest
 * sends (virtio_vsock.c), what it receives (vsock_rx.c), the table of connections
 * (vsock_conn.c), and where they come from on the host (vsock_host.c).
 *
 * A connection is between a port of the guest and one of the host, which is a
 * Unix socket:
 *
 *   guest connects to host port P   foal connects to PATH_P, through the connector
 *   host connects to PATH, writes   foal connects to guest port P and answers
 *     "CONNECT P\n"                   "OK N\n"; N is the port of the host's side
 *
 *                    REQUEST, guest            RESPONSE
 *   FREE -+-> CONNECTING ---- connector's fd ------------> OPEN -> RESET -> FREE
 *         +-> GREETING --- line complete --> REQUESTED -----^
 *
 * Everything here is the worker's, or under vdev.lock while that is idle.
 */
#ifndef FOAL_DEVICES_VSOCK_H
#define FOAL_DEVICES_VSOCK_H

#include <linux/virtio_vsock.h>

#include "devices/virtio.h"

#define VSOCK_HOST_CID	2
#define VSOCK_CONNS	256
/* What a connection keeps of the guest's data until its socket takes it; announced as credit. */
#define VSOCK_BUFFER	(64u << 10)
/* Answers to packets of no connection, that wait for a buffer of the guest's. */
#define VSOCK_RESETS	64
#define VSOCK_LINE	32
#define VSOCK_IOVECS	64
/* What an event of in_epoll is about, other than a connection's index. */
#define VSOCK_LISTENER	(VSOCK_CONNS + 0u)
#define VSOCK_CONNECTOR (VSOCK_CONNS + 1u)
/* Ports of the host's side of connections that it began. */
#define VSOCK_HOST_PORT (1u << 30)

enum { VSOCK_RX, VSOCK_TX, VSOCK_EVENT, VSOCK_QUEUES };

enum vsock_state {
	VSOCK_FREE,
	VSOCK_CONNECTING, /* the connector was asked for a socket */
	VSOCK_GREETING,	  /* the host's line is not complete */
	VSOCK_REQUESTED,  /* the guest has not answered */
	VSOCK_OPEN,
	VSOCK_RESET, /* no socket any more; the guest has to be told */
};

struct vsock_conn {
	enum vsock_state state;
	int fd; /* -1: none */
	uint32_t guest_port, host_port;
	uint32_t tag; /* of what the connector was asked for */

	/* Operations the guest is to be sent: bits 1 << VIRTIO_VSOCK_OP_*. */
	unsigned due;
	uint32_t due_shutdown; /* VIRTIO_VSOCK_SHUTDOWN_* of that operation */
	bool readable;	       /* the socket may have something */
	bool read_ended;       /* it will not any more */
	bool watched;	       /* for reading */
	bool waiting;	       /* for room */

	/* Credit (5.10.6.3), in bytes modulo 2^32: ours, then the guest's. */
	uint32_t forwarded, told;
	uint32_t peer_alloc, peer_forwarded, sent;

	/* From the guest, not yet taken by the socket; a ring. */
	uint8_t *buffer;
	uint32_t at, len;
	uint32_t guest_shutdown; /* VIRTIO_VSOCK_SHUTDOWN_* it has sent */

	char line[VSOCK_LINE];
	unsigned line_len;
};

struct vsock_ports {
	uint32_t guest, host;
};

struct virtio_vsock {
	struct virtio_device vdev;
	uint64_t cid;
	int listener, connector;
	/* Sockets to read from: level-triggered, polled while the guest has buffers. */
	int in_epoll;
	/* Sockets that did not take all. */
	int out_epoll;
	unsigned nr_waiting; /* of those */
	bool accepting;	     /* the listener is among in_epoll's */

	struct vsock_conn conns[VSOCK_CONNS];
	unsigned nr_conns, turn; /* whose turn it is to send */
	uint32_t next_port, next_tag;

	struct vsock_ports resets[VSOCK_RESETS];
	unsigned nr_resets;

	struct vq_chain rx_chain; /* taken and not filled, if has_chain */
	bool has_chain, starved;
	bool forgotten; /* the guest is to hear that its connections are no more */
	struct iovec iov[VSOCK_IOVECS];
	struct {
#define X(field, name) _Atomic uint64_t field;
		VSOCK_COUNTERS(X)
#undef X
	} stats;
};

static inline void vsock_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* --- vsock_conn.c ---------------------------------------------------------------------- */

struct vsock_conn *vsock_find(struct virtio_vsock *vsock, uint32_t guest_port, uint32_t host_port);

/* A place in the table, or NULL: it is full, or there is no memory. */
struct vsock_conn *vsock_new(struct virtio_vsock *vsock, enum vsock_state state, int fd);

/* Take what the buffer holds to the socket, as far as that goes. */
void vsock_flush(struct virtio_vsock *vsock, struct vsock_conn *conn);
/* The same, as the socket may have room again. */
void vsock_writable(struct virtio_vsock *vsock, struct vsock_conn *conn);

/* How much room its buffer has; a place for at most @len bytes more, contiguous. */
uint32_t vsock_room(const struct vsock_conn *conn);
uint8_t *vsock_tail(struct vsock_conn *conn, uint32_t *len);

/* Close the socket, and with @tell have the guest sent a reset; without, it is gone. */
void vsock_drop(struct virtio_vsock *vsock, struct vsock_conn *conn, bool tell);

/* May bytes of the socket go to the guest at present? */
bool vsock_sendable(const struct vsock_conn *conn);
uint32_t vsock_credit(const struct vsock_conn *conn);
/* Have its socket watched for reading if there is a use for it. */
void vsock_watch(struct virtio_vsock *vsock, struct vsock_conn *conn);

/* Watch the listener while there is a place for a client. */
void vsock_watch_listener(struct virtio_vsock *vsock);

/* --- vsock_host.c ------------------------------------------------------------------------ */

/* Have the listener and the connector watched. 0 or a negative errno. */
int vsock_watch_all(struct virtio_vsock *vsock);

/* The guest asks for the host's port. False: the connection cannot be. */
bool vsock_connect(struct virtio_vsock *vsock, uint32_t guest_port, uint32_t host_port);

/* The guest has taken the host's connection: say so on the socket. */
void vsock_accepted(struct virtio_vsock *vsock, struct vsock_conn *conn);

/* Look at the sockets: new connections, lines, the connector's answers, room for data. */
void vsock_look(struct virtio_vsock *vsock);

/* --- vsock_rx.c -------------------------------------------------------------------------- */

/* Send the guest what is due. 0 or as the functions of virtqueue.h. */
int vsock_receive(struct virtio_vsock *vsock, struct virtqueue *vq);

#endif
