/*
 * What the guest receives: operations that are due, and data of the host's
 * sockets, read straight into the guest's buffers behind a header.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "devices/vsock.h"

#define BIT(op) (1u << VIRTIO_VSOCK_OP_##op)

static void init_header(const struct virtio_vsock *vsock, struct virtio_vsock_hdr *hdr,
			uint32_t guest_port, uint32_t host_port, uint16_t op)
{
	*hdr = (struct virtio_vsock_hdr){
	    .src_cid = VSOCK_HOST_CID,
	    .dst_cid = vsock->cid,
	    .src_port = host_port,
	    .dst_port = guest_port,
	    .type = VIRTIO_VSOCK_TYPE_STREAM,
	    .op = op,
	};
}

/* Every packet of a connection tells the guest's credit, too. */
static void header_of(const struct virtio_vsock *vsock, struct vsock_conn *conn, uint16_t op,
		      struct virtio_vsock_hdr *hdr)
{
	init_header(vsock, hdr, conn->guest_port, conn->host_port, op);
	hdr->buf_alloc = VSOCK_BUFFER;
	hdr->fwd_cnt = conn->forwarded;
	conn->told = conn->forwarded;
	conn->due &= ~(1u << op | BIT(CREDIT_UPDATE));
}

/* Give the chain back with a packet in it. */
static int put(struct virtio_vsock *vsock, struct virtqueue *vq, struct virtio_vsock_hdr *hdr,
	       uint32_t len)
{
	struct vq_cursor to = vq_writable(&vsock->rx_chain);
	int rc;

	hdr->len = len;
	rc = vq_copy_in(vq, &to, hdr, sizeof(*hdr));
	if (rc)
		return rc == -ESHUTDOWN
			   ? rc
			   : vq_break(vq, "a vsock buffer lies outside of guest memory");
	vsock->has_chain = false;
	return vq_push(vq, &vsock->rx_chain, (uint32_t)sizeof(*hdr) + len);
}

/* --- data ----------------------------------------------------------------------------------- */

/*
 * The host's side sends no more. One that only shut down its side still reads;
 * one that has closed does not.
 */
static void end_reading(struct vsock_conn *conn)
{
	struct pollfd fd = {.fd = conn->fd};

	conn->read_ended = true;
	conn->due |= BIT(SHUTDOWN);
	conn->due_shutdown = VIRTIO_VSOCK_SHUTDOWN_SEND;
	if (poll(&fd, 1, 0) > 0 && (fd.revents & POLLHUP))
		conn->due_shutdown |= VIRTIO_VSOCK_SHUTDOWN_RCV;
}

static int send_data(struct virtio_vsock *vsock, struct vsock_conn *conn, struct virtqueue *vq)
{
	struct vq_cursor to = vq_writable(&vsock->rx_chain);
	struct msghdr msg = {.msg_iov = vsock->iov};
	struct virtio_vsock_hdr hdr;
	uint64_t mapped;
	ssize_t n;

	vq_skip(&to, sizeof(hdr));
	n = vq_map(vq, &to, vsock_credit(conn), vsock->iov, VSOCK_IOVECS, &mapped);
	if (n < 0)
		return n == -ESHUTDOWN
			   ? -ESHUTDOWN
			   : vq_break(vq, "a vsock buffer lies outside of guest memory");
	msg.msg_iovlen = (size_t)n;
	n = recvmsg(conn->fd, &msg, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		conn->readable = false;
		vsock_watch(vsock, conn);
		return 0;
	}
	if (n < 0)
		vsock_drop(vsock, conn, true);
	else if (n == 0)
		end_reading(conn);
	if (n <= 0)
		return 0;
	conn->sent += (uint32_t)n;
	vsock_count(&vsock->stats.bytes_to_guest, (uint64_t)n);
	header_of(vsock, conn, VIRTIO_VSOCK_OP_RW, &hdr);
	return put(vsock, vq, &hdr, (uint32_t)n);
}

/* --- operations ------------------------------------------------------------------------------- */

static int send_op(struct virtio_vsock *vsock, struct vsock_conn *conn, struct virtqueue *vq,
		   uint16_t op)
{
	struct virtio_vsock_hdr hdr;

	header_of(vsock, conn, op, &hdr);
	if (op == VIRTIO_VSOCK_OP_SHUTDOWN)
		hdr.flags = conn->due_shutdown;
	if (op == VIRTIO_VSOCK_OP_RST) {
		vsock_count(&vsock->stats.resets, 1);
		vsock_drop(vsock, conn, false);
	}
	return put(vsock, vq, &hdr, 0);
}

/* The first of what is due; data comes after the answer that opens, before the end. */
static int send_next(struct virtio_vsock *vsock, struct vsock_conn *conn, struct virtqueue *vq)
{
	static const uint16_t first[] = {VIRTIO_VSOCK_OP_RST, VIRTIO_VSOCK_OP_REQUEST,
					 VIRTIO_VSOCK_OP_RESPONSE};

	for (unsigned i = 0; i < sizeof(first) / sizeof(*first); i++)
		if (conn->due & 1u << first[i])
			return send_op(vsock, conn, vq, first[i]);
	if (vsock_sendable(conn))
		return send_data(vsock, conn, vq);
	return send_op(vsock, conn, vq,
		       conn->due & BIT(SHUTDOWN) ? VIRTIO_VSOCK_OP_SHUTDOWN
						 : VIRTIO_VSOCK_OP_CREDIT_UPDATE);
}

static int send_reset(struct virtio_vsock *vsock, struct virtqueue *vq)
{
	struct vsock_ports ports = vsock->resets[--vsock->nr_resets];
	struct virtio_vsock_hdr hdr;

	init_header(vsock, &hdr, ports.guest, ports.host, VIRTIO_VSOCK_OP_RST);
	vsock_count(&vsock->stats.resets, 1);
	return put(vsock, vq, &hdr, 0);
}

/* --- the queue ----------------------------------------------------------------------------------
 */

/* Connections take turns. */
static struct vsock_conn *next_conn(struct virtio_vsock *vsock)
{
	for (unsigned i = 0; i < VSOCK_CONNS; i++) {
		struct vsock_conn *conn = &vsock->conns[(vsock->turn + i) % VSOCK_CONNS];

		if (conn->due || vsock_sendable(conn)) {
			vsock->turn = (unsigned)(conn - vsock->conns) + 1;
			return conn;
		}
	}
	return NULL;
}

/* A chain to fill: 1, or 0 and the driver will tell of the next. */
static int need_chain(struct virtio_vsock *vsock, struct virtqueue *vq)
{
	int rc = vsock->has_chain;

	while (rc == 0) {
		rc = vq_pop(vq, &vsock->rx_chain);
		if (rc == 0) {
			rc = vq_arm(vq);
			if (rc <= 0)
				break;
			rc = 0;
		}
	}
	if (rc > 0 && vsock->rx_chain.writable <= sizeof(struct virtio_vsock_hdr))
		rc = vq_break(vq, "a vsock buffer has no room for a packet");
	vsock->has_chain = rc > 0;
	vsock->starved = rc == 0;
	return rc;
}

int vsock_receive(struct virtio_vsock *vsock, struct virtqueue *vq)
{
	int rc = need_chain(vsock, vq);

	if (rc < 0)
		return rc;
	vsock_look(vsock);
	while (rc > 0 && !virtio_cancelled(&vsock->vdev)) {
		struct vsock_conn *conn = NULL;

		if (vsock->nr_resets == 0) {
			conn = next_conn(vsock);
			if (!conn)
				break;
		}
		rc = conn ? send_next(vsock, conn, vq) : send_reset(vsock, vq);
		if (rc == 0)
			rc = need_chain(vsock, vq);
	}
	vsock_watch_listener(vsock);
	return rc < 0 ? rc : virtio_signal_used(&vsock->vdev, vq);
}
