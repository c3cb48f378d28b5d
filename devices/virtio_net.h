/*
 * virtio-net (virtio 1.2, 5.1), in three files: the device (virtio_net.c), what
 * it receives (virtio_net_rx.c) and what it sends (virtio_net_tx.c).
 */
#ifndef FOAL_DEVICES_VIRTIO_NET_H
#define FOAL_DEVICES_VIRTIO_NET_H

#include <linux/virtio_net.h>

#include "devices/net_link.h"
#include "devices/virtio.h"

/* A chain's buffers may be split where guest memory is. */
#define NET_IOVECS (VQ_CHAIN_MAX + 8)

/* A frame on its way to the guest. */
struct net_receiver {
	struct vq_chain chain; /* taken, if has_chain; nothing in it yet */
	bool has_chain;
	bool starved; /* no chain, and the driver is to notify of the next */
	/* What was filled already, of a frame that takes several chains. */
	struct vq_used used[VQ_SIZE_MAX];
	unsigned nr_used, slots; /* of the ring, that these take */
	uint8_t *num_buffers[2]; /* the header's field, in guest memory */
	size_t at, end;		 /* of what is left, in @aside */
	uint8_t aside[NET_PACKET_MAX];
};

struct virtio_net {
	struct virtio_device vdev;
	struct net_link *link;
	struct {
#define X(field, name) _Atomic uint64_t field;
		NET_COUNTERS(X)
#undef X
	} stats;
	atomic_bool attach; /* a driver is new: the link is to know what it takes */

	/* The worker's own, or under vdev.lock while that is idle. */
	bool gone;    /* the link, for good */
	bool waiting; /* vdev.chain holds a frame that the link did not take yet */
	bool relink;  /* under vdev.lock: down until the driver has seen that */
	struct net_receiver rx;
	struct iovec iov[NET_IOVECS + 1];
};

static inline void net_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* The link ended: the driver sees that there is no carrier. */
void net_gone(struct virtio_net *net);

/*
 * Move one frame. 1: went on; 0: there is nothing to do at present; else as the
 * functions of virtqueue.h.
 */
int net_receive(struct virtio_net *net, struct virtqueue *vq);
int net_transmit(struct virtio_net *net, struct virtqueue *vq);

#endif
