/*
 * The other end of a guest's network device: a descriptor that takes and gives
 * Ethernet frames. A frame travels with the header of virtio 1.2, 5.1.6 before
 * it, which the link keeps or makes up. Private to devices/; used by the worker
 * of one device alone.
 */
#ifndef FOAL_DEVICES_NET_LINK_H
#define FOAL_DEVICES_NET_LINK_H

#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "devices/devices.h"

#define NET_HEADER     12	    /* struct virtio_net_hdr_v1, without hash report */
#define NET_FRAME_MAX  (65535 + 18) /* the largest IP packet, its Ethernet header, a VLAN tag */
#define NET_FRAME_MIN  14	    /* an Ethernet header */
#define NET_PACKET_MAX (NET_HEADER + NET_FRAME_MAX)

struct net_link;

struct net_link_ops {
	/*
	 * Put the next frame, its header first, into @iov, which has room for
	 * NET_PACKET_MAX bytes. Returns their number, -EAGAIN (none there; poll for
	 * POLLIN), or another negative errno: the link is gone for good.
	 */
	ssize_t (*receive)(struct net_link *link, const struct iovec *iov, int nr);
	/*
	 * Send a frame of @len bytes with its header, which is iov[0]; @iov may be
	 * changed. 0, -EAGAIN (not taken; poll for POLLOUT and send it again),
	 * -EINVAL (the frame is dropped), or another: the link is gone for good.
	 */
	int (*send)(struct net_link *link, struct iovec *iov, int nr, size_t len);
	/* Send what is left of a frame that went in part (link->unsent). As @send. */
	int (*flush)(struct net_link *link);
	/* A driver came that takes @offloads (TUN_F_*): nothing else may reach it. */
	void (*attach)(struct net_link *link, unsigned offloads);
	void (*close)(struct net_link *link);
};

struct net_link {
	const struct net_link_ops *ops;
	int fd;
	bool unsent;	   /* a part of a frame waits for POLLOUT */
	uint64_t features; /* that it makes possible, VIRTIO_NET_F_* as bits */
};

/* @fd is dup'ed. Errors: -ENOMEM, -EMFILE. */
int net_tap_open(int fd, struct net_link **out);
int net_stream_open(int fd, struct net_link **out);

#endif
