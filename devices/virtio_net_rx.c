/*
 * What a virtio-net device receives. A frame is read into the first buffer that
 * the driver offers; what does not fit there is read aside and copied into
 * further ones, so that memory is touched only where a frame lands.
 */
#include <errno.h>

#include "devices/virtio_net.h"

/* Have a chain at hand: 1, or 0 when there is none and the driver will tell of the next. */
static int take(struct net_receiver *rx, struct virtqueue *vq)
{
	while (!rx->has_chain) {
		int rc = vq_pop(vq, &rx->chain);

		if (rc < 0)
			return rc;
		rx->has_chain = rc > 0;
		if (rc == 0 && (rc = vq_arm(vq)) <= 0) {
			rx->starved = rc == 0;
			return rc;
		}
	}
	rx->starved = false;
	return 1;
}

static void done(struct net_receiver *rx, uint32_t written)
{
	rx->used[rx->nr_used++] = vq_done(&rx->chain, written);
	rx->slots += rx->chain.slots;
	rx->has_chain = false;
}

static uint8_t *byte_at(const struct iovec *iov, size_t offset)
{
	for (; offset >= iov->iov_len; iov++)
		offset -= iov->iov_len;
	return (uint8_t *)iov->iov_base + offset;
}

static int bad_buffer(struct virtqueue *vq, int rc)
{
	return rc == -ESHUTDOWN ? rc : vq_break(vq, "a receive buffer cannot be written");
}

/* The frame at hand is lost; the chain at hand serves the next. */
static int drop(struct virtio_net *net)
{
	net_count(&net->stats.rx_dropped, 1);
	net->rx.end = 0;
	return 1;
}

/* The next frame into the chain at hand and aside. 1, or 0 when there is none. */
static int receive(struct virtio_net *net, struct virtqueue *vq)
{
	struct net_receiver *rx = &net->rx;
	struct vq_cursor to = vq_writable(&rx->chain);
	uint64_t room;
	ssize_t nr, len;

	if (rx->chain.writable < NET_HEADER)
		return vq_break(vq, "a receive buffer has no room for its header");
	nr = vq_map(vq, &to, NET_PACKET_MAX, net->iov, NET_IOVECS, &room);
	if (nr < 0)
		return bad_buffer(vq, (int)nr);
	net->iov[nr] = (struct iovec){rx->aside, sizeof(rx->aside)};
	len = net->link->ops->receive(net->link, net->iov, (int)nr + 1);
	if (len == -EAGAIN)
		return 0;
	if (len == -EFAULT)
		return drop(net);
	if (len < 0) {
		net_gone(net);
		return 0;
	}
	rx->at = 0;
	rx->end = (uint64_t)len > room ? (size_t)len - room : 0;
	/* Without mergeable buffers a frame has one, or none. */
	if (rx->end && !virtio_negotiated(&net->vdev, VIRTIO_NET_F_MRG_RXBUF))
		return drop(net);
	for (unsigned i = 0; i < 2; i++)
		rx->num_buffers[i] =
		    byte_at(net->iov, offsetof(struct virtio_net_hdr_v1, num_buffers) + i);
	net_count(&net->stats.rx_bytes, (uint64_t)len - NET_HEADER);
	done(rx, (uint32_t)(rx->end ? room : (uint64_t)len));
	return 1;
}

/*
 * Whether the frame at hand holds so much of the ring that the driver has no room for
 * another chain like the last: it would wait for ever.
 */
static bool holds_all(const struct net_receiver *rx, const struct virtqueue *vq)
{
	return rx->slots + rx->used[rx->nr_used - 1].slots > vq->size;
}

/* What is aside into further chains. 1, or 0 when the driver has to offer more first. */
static int spread(struct virtio_net *net, struct virtqueue *vq)
{
	struct net_receiver *rx = &net->rx;

	while (rx->at < rx->end) {
		size_t len = rx->end - rx->at;
		struct vq_cursor to;
		int rc = rx->slots < vq->size ? take(rx, vq) : 0;

		if (rc == 0 && holds_all(rx, vq)) { /* cut off */
			net_count(&net->stats.rx_dropped, 1);
			break;
		}
		if (rc <= 0)
			return rc;
		to = vq_writable(&rx->chain);
		if (rx->chain.writable < len)
			len = rx->chain.writable;
		rc = vq_copy_in(vq, &to, rx->aside + rx->at, len);
		if (rc)
			return bad_buffer(vq, rc);
		rx->at += len;
		done(rx, (uint32_t)len);
	}
	return 1;
}

static int give_frame(struct virtio_net *net, struct virtqueue *vq)
{
	struct net_receiver *rx = &net->rx;
	unsigned nr = rx->nr_used;

	*rx->num_buffers[0] = (uint8_t)nr;
	*rx->num_buffers[1] = (uint8_t)(nr >> 8);
	rx->nr_used = rx->slots = 0;
	net_count(&net->stats.rx_frames, 1);
	return vq_push_all(vq, rx->used, nr);
}

int net_receive(struct virtio_net *net, struct virtqueue *vq)
{
	struct net_receiver *rx = &net->rx;
	int rc;

	if (rx->nr_used == 0) {
		rc = take(rx, vq);
		if (rc > 0)
			rc = receive(net, vq);
		if (rc <= 0 || rx->nr_used == 0)
			return rc;
	}
	rc = spread(net, vq);
	if (rc <= 0)
		return rc;
	rc = give_frame(net, vq);
	return rc ? rc : 1;
}
