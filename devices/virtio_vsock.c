/* virtio-vsock: the device, and what the guest sends. */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "devices/state.h"
#include "devices/vsock.h"

#define F_STREAM (1ULL << 0) /* virtio 1.2, 5.10.3 */

static struct virtio_vsock *vsock_of(struct virtio_device *vdev)
{
	return device_of(vdev, struct virtio_vsock, vdev);
}

/* --- one packet of the guest -------------------------------------------------------------- */

/* Transmission stops while this is full, so there is always room. */
static void refuse(struct virtio_vsock *vsock, const struct virtio_vsock_hdr *hdr)
{
	if (hdr->op != VIRTIO_VSOCK_OP_RST)
		vsock->resets[vsock->nr_resets++] =
		    (struct vsock_ports){.guest = hdr->src_port, .host = hdr->dst_port};
}

static void take_credit(struct vsock_conn *conn, const struct virtio_vsock_hdr *hdr)
{
	conn->peer_alloc = hdr->buf_alloc;
	conn->peer_forwarded = hdr->fwd_cnt;
}

static void connect_to_host(struct virtio_vsock *vsock, const struct virtio_vsock_hdr *hdr)
{
	struct vsock_conn *conn;

	if (!vsock_connect(vsock, hdr->src_port, hdr->dst_port)) {
		refuse(vsock, hdr);
		return;
	}
	conn = vsock_find(vsock, hdr->src_port, hdr->dst_port);
	if (conn)
		take_credit(conn, hdr);
}

/* A guest that sends more than it was given credit for loses the connection. */
static int take_data(struct virtio_vsock *vsock, struct vsock_conn *conn, struct virtqueue *vq,
		     struct vq_cursor *from, uint32_t left)
{
	if (conn->state != VSOCK_OPEN || left > vsock_room(conn) ||
	    (conn->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND)) {
		vsock_drop(vsock, conn, true);
		return 0;
	}
	while (left > 0) {
		uint32_t len = left;
		uint8_t *to = vsock_tail(conn, &len);
		int rc = vq_copy_out(vq, from, to, len);

		if (rc)
			return rc == -ESHUTDOWN
				   ? rc
				   : vq_break(vq, "a vsock packet lies outside of guest memory");
		conn->len += len;
		left -= len;
	}
	vsock_flush(vsock, conn);
	return 0;
}

static void take_shutdown(struct virtio_vsock *vsock, struct vsock_conn *conn, uint32_t flags)
{
	if (conn->state != VSOCK_OPEN) {
		vsock_drop(vsock, conn, true);
		return;
	}
	conn->guest_shutdown |= flags;
	if (flags & VIRTIO_VSOCK_SHUTDOWN_RCV)
		conn->read_ended = true;
	vsock_flush(vsock, conn);
}

static int dispatch(struct virtio_vsock *vsock, struct vsock_conn *conn, struct virtqueue *vq,
		    const struct virtio_vsock_hdr *hdr, struct vq_cursor *data)
{
	switch (hdr->op) {
	case VIRTIO_VSOCK_OP_RESPONSE:
		if (conn->state == VSOCK_REQUESTED)
			vsock_accepted(vsock, conn);
		else
			vsock_drop(vsock, conn, true);
		return 0;
	case VIRTIO_VSOCK_OP_RST:
		vsock_drop(vsock, conn, false);
		return 0;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		take_shutdown(vsock, conn, hdr->flags);
		return 0;
	case VIRTIO_VSOCK_OP_RW:
		return take_data(vsock, conn, vq, data, hdr->len);
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		return 0;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		conn->due |= 1u << VIRTIO_VSOCK_OP_CREDIT_UPDATE;
		return 0;
	}
	/* A second request, or what is no operation. */
	vsock_drop(vsock, conn, true);
	return 0;
}

static int packet(struct virtio_vsock *vsock, struct virtqueue *vq, const struct vq_chain *chain)
{
	struct vq_cursor from = vq_readable(chain);
	struct virtio_vsock_hdr hdr;
	struct vsock_conn *conn;
	int rc;

	if (chain->readable < sizeof(hdr))
		return vq_break(vq, "a vsock packet lacks its header");
	rc = vq_copy_out(vq, &from, &hdr, sizeof(hdr));
	if (rc)
		return rc == -ESHUTDOWN
			   ? rc
			   : vq_break(vq, "a vsock packet lies outside of guest memory");
	if (hdr.len > chain->readable - sizeof(hdr))
		return vq_break(vq, "a vsock packet is shorter than it says");
	conn = vsock_find(vsock, hdr.src_port, hdr.dst_port);
	if (hdr.src_cid != vsock->cid || hdr.dst_cid != VSOCK_HOST_CID ||
	    hdr.type != VIRTIO_VSOCK_TYPE_STREAM || (!conn && hdr.op != VIRTIO_VSOCK_OP_REQUEST))
		refuse(vsock, &hdr);
	else if (!conn)
		connect_to_host(vsock, &hdr);
	else if (conn->state != VSOCK_RESET) {
		take_credit(conn, &hdr);
		rc = dispatch(vsock, conn, vq, &hdr, &from);
		vsock_watch(vsock, conn);
	} else if (hdr.op == VIRTIO_VSOCK_OP_RST)
		vsock_drop(vsock, conn, false);
	return rc;
}

static int transmit(struct virtio_vsock *vsock, struct virtqueue *vq)
{
	struct vq_chain *chain = &vsock->vdev.chain;
	int rc = 0;

	while (rc == 0 && !virtio_cancelled(&vsock->vdev)) {
		/* No more answers are owed than can be kept; a buffer of the guest's ends this. */
		if (vsock->nr_resets == VSOCK_RESETS)
			break;
		rc = vq_pop(vq, chain);
		if (rc == 0) {
			rc = vq_arm(vq);
			if (rc <= 0)
				break;
			rc = 0;
			continue;
		}
		if (rc > 0)
			rc = packet(vsock, vq, chain);
		if (rc == 0)
			rc = vq_push(vq, chain, 0);
	}
	return rc < 0 ? rc : virtio_signal_used(&vsock->vdev, vq);
}

/* --- the device ---------------------------------------------------------------------------------
 */

/*
 * After a load: the sockets of the connections that the guest knows of were another
 * process's (5.10.6.7). Nothing else is sent on the event queue.
 */
static int tell_forgotten(struct virtio_vsock *vsock, struct virtqueue *vq)
{
	const struct virtio_vsock_event event = {.id = VIRTIO_VSOCK_EVENT_TRANSPORT_RESET};
	struct vq_chain *chain = &vsock->vdev.chain;
	struct vq_cursor to;
	int rc;

	while ((rc = vq_pop(vq, chain)) == 0) {
		rc = vq_arm(vq);
		if (rc <= 0)
			return rc;
	}
	if (rc < 0)
		return rc;
	to = vq_writable(chain);
	rc = vq_copy_in(vq, &to, &event, sizeof(event));
	if (rc)
		return rc == -ESHUTDOWN ? rc : vq_break(vq, "a vsock event cannot be written");
	rc = vq_push(vq, chain, sizeof(event));
	if (rc)
		return rc;
	vsock->forgotten = false;
	return virtio_signal_used(&vsock->vdev, vq);
}

/* What was sent may have made something due. */
static int vsock_serve_queue(struct virtio_device *vdev, unsigned index)
{
	struct virtio_vsock *vsock = vsock_of(vdev);
	bool full;
	int rc = 0;

	if (index == VSOCK_EVENT)
		return vsock->forgotten ? tell_forgotten(vsock, &vdev->queues[index]) : 0;
	if (index == VSOCK_TX)
		rc = transmit(vsock, &vdev->queues[index]);
	full = vsock->nr_resets == VSOCK_RESETS;
	if (rc == 0 && vdev->queues[VSOCK_RX].ready)
		rc = vsock_receive(vsock, &vdev->queues[VSOCK_RX]);
	/* What the guest sent may wait for that, and it has no more to say. */
	if (full && vsock->nr_resets < VSOCK_RESETS)
		virtio_kick(vdev);
	if (rc == -EPROTO && vdev->queues[VSOCK_RX].broken)
		vdev->queues[index].broken = vdev->queues[VSOCK_RX].broken;
	return rc;
}

static unsigned vsock_poll(struct virtio_device *vdev, struct pollfd *fds)
{
	const struct virtio_vsock *vsock = vsock_of(vdev);
	unsigned nr = 0;

	/* Nobody would look: the driver may have taken the queue away. */
	if (!vdev->queues[VSOCK_RX].ready)
		return 0;
	if (!vsock->starved)
		fds[nr++] = (struct pollfd){.fd = vsock->in_epoll, .events = POLLIN};
	if (vsock->nr_waiting)
		fds[nr++] = (struct pollfd){.fd = vsock->out_epoll, .events = POLLIN};
	return nr;
}

static void vsock_reset(struct virtio_device *vdev)
{
	struct virtio_vsock *vsock = vsock_of(vdev);

	for (unsigned i = 0; i < VSOCK_CONNS; i++)
		if (vsock->conns[i].state != VSOCK_FREE)
			vsock_drop(vsock, &vsock->conns[i], false);
	vsock->nr_resets = 0;
	vsock->has_chain = false;
	vsock->starved = true;
	vsock->forgotten = false;
}

static void vsock_held(struct virtio_device *vdev, unsigned index, struct vq_held *held)
{
	const struct virtio_vsock *vsock = vsock_of(vdev);

	if (index == VSOCK_RX && vsock->has_chain)
		vq_hold(held, &vsock->rx_chain);
}

/* Connections end with the sockets of this process. Ports go on: no old packet meets a new one. */
static void vsock_state(struct virtio_device *vdev, struct state *s)
{
	struct virtio_vsock *vsock = vsock_of(vdev);

	state_u32(s, &vsock->next_port);
	if (s->loading)
		vsock->forgotten = vdev->status & VIRTIO_CONFIG_S_DRIVER_OK;
}

static const struct virtio_type vsock_type = {
    .id = VIRTIO_ID_VSOCK,
    .label = "vsock",
    .nr_queues = VSOCK_QUEUES,
    .serve_queue = vsock_serve_queue,
    .poll = vsock_poll,
    .reset = vsock_reset,
    .held = vsock_held,
    .state = vsock_state,
};

static void free_vsock(struct virtio_vsock *vsock)
{
	const int fds[] = {vsock->listener, vsock->connector, vsock->in_epoll, vsock->out_epoll};

	for (unsigned i = 0; i < VSOCK_CONNS; i++) {
		if (vsock->conns[i].state != VSOCK_FREE && vsock->conns[i].fd >= 0)
			close(vsock->conns[i].fd);
		free(vsock->conns[i].buffer);
	}
	for (unsigned i = 0; i < sizeof(fds) / sizeof(*fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(vsock);
}

static void vsock_destroy(struct device *dev)
{
	struct virtio_vsock *vsock = vsock_of(virtio_of(dev));

	virtio_fini(&vsock->vdev);
	free_vsock(vsock);
}

const struct device_ops virtio_vsock_device = {
    .kind = "virtio-vsock",
    VIRTIO_DEVICE_OPS,
    .destroy = vsock_destroy,
};

void virtio_vsock_stats(struct device *dev, struct vsock_stats *out)
{
	struct virtio_vsock *vsock = vsock_of(virtio_of(dev));

#define X(field, name) out->field = atomic_load_explicit(&vsock->stats.field, memory_order_relaxed);
	VSOCK_COUNTERS(X)
#undef X
}

static int open_descriptors(struct virtio_vsock *vsock, int listener, int connector)
{
	vsock->listener = fcntl(listener, F_DUPFD_CLOEXEC, 0);
	vsock->connector = fcntl(connector, F_DUPFD_CLOEXEC, 0);
	vsock->in_epoll = epoll_create1(EPOLL_CLOEXEC);
	vsock->out_epoll = epoll_create1(EPOLL_CLOEXEC);
	if (vsock->listener < 0 || vsock->connector < 0 || vsock->in_epoll < 0 ||
	    vsock->out_epoll < 0)
		return -errno;
	return vsock_watch_all(vsock);
}

int virtio_vsock_create(const struct device_host *host, unsigned pin, uint32_t cid, int listener,
			int connector, struct device **out)
{
	struct virtio_vsock_config config = {.guest_cid = cid};
	struct virtio_vsock *vsock = calloc(1, sizeof(*vsock));
	int rc;

	if (!vsock)
		return -ENOMEM;
	vsock->cid = cid;
	vsock->starved = true;
	rc = open_descriptors(vsock, listener, connector);
	if (rc == 0)
		rc = virtio_init(&vsock->vdev, &virtio_vsock_device, host, &vsock_type, pin,
				 F_STREAM, &config, sizeof(config));
	if (rc) {
		free_vsock(vsock);
		return rc;
	}
	*out = &vsock->vdev.dev;
	return 0;
}
