/*
 * What a virtio-net device sends: straight from the guest's buffers, behind a
 * copy of their header that was looked at.
 */
#include <errno.h>

#include "devices/virtio_net.h"

/* Whether the header asks for nothing but what was negotiated; unknown flags go. */
static bool header_sound(const struct virtio_net *net, struct virtio_net_hdr_v1 *header)
{
	const struct virtio_device *vdev = &net->vdev;
	uint8_t gso = header->gso_type & ~VIRTIO_NET_HDR_GSO_ECN;

	header->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
	header->num_buffers = 0;
	if (header->flags && !virtio_negotiated(vdev, VIRTIO_NET_F_CSUM))
		return false;
	if ((header->gso_type & VIRTIO_NET_HDR_GSO_ECN) &&
	    !virtio_negotiated(vdev, VIRTIO_NET_F_HOST_ECN))
		return false;
	return gso == VIRTIO_NET_HDR_GSO_NONE ||
	       (gso == VIRTIO_NET_HDR_GSO_TCPV4 &&
		virtio_negotiated(vdev, VIRTIO_NET_F_HOST_TSO4)) ||
	       (gso == VIRTIO_NET_HDR_GSO_TCPV6 && virtio_negotiated(vdev, VIRTIO_NET_F_HOST_TSO6));
}

/* Send the frame in vdev.chain. 0 or -EAGAIN; -EINVAL: dropped; as vq_pop(). */
static int transmit(struct virtio_net *net, struct virtqueue *vq)
{
	struct vq_chain *chain = &net->vdev.chain;
	struct vq_cursor from = vq_readable(chain);
	struct virtio_net_hdr_v1 header;
	uint64_t len, mapped;
	ssize_t nr;
	int rc;

	if (chain->readable < sizeof(header))
		return vq_break(vq, "a frame to send lacks its header");
	rc = vq_copy_out(vq, &from, &header, sizeof(header));
	if (rc)
		return rc == -ESHUTDOWN
			   ? rc
			   : vq_break(vq, "a frame's header lies outside of guest memory");
	len = chain->readable - sizeof(header);
	if (net->gone || len < NET_FRAME_MIN || len > NET_FRAME_MAX || !header_sound(net, &header))
		return -EINVAL;
	net->iov[0] = (struct iovec){&header, sizeof(header)};
	nr = vq_map(vq, &from, len, net->iov + 1, NET_IOVECS, &mapped);
	if (nr < 0 || mapped < len)
		return nr == -ESHUTDOWN ? -ESHUTDOWN : -EINVAL;
	rc = net->link->ops->send(net->link, net->iov, (int)nr + 1, len);
	if (rc == 0)
		net_count(&net->stats.tx_bytes, len);
	else if (rc != -EAGAIN && rc != -EINVAL)
		net_gone(net);
	return rc == 0 || rc == -EAGAIN ? rc : -EINVAL;
}

int net_transmit(struct virtio_net *net, struct virtqueue *vq)
{
	int rc;

	if (!net->waiting) {
		rc = vq_pop(vq, &net->vdev.chain);
		if (rc < 0)
			return rc;
		if (rc == 0)
			return vq_arm(vq);
	}
	rc = transmit(net, vq);
	net->waiting = rc == -EAGAIN;
	if (net->waiting)
		return 0;
	if (rc && rc != -EINVAL)
		return rc;
	net_count(rc ? &net->stats.tx_dropped : &net->stats.tx_frames, 1);
	rc = vq_push(vq, &net->vdev.chain, 0);
	return rc ? rc : 1;
}
