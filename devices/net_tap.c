/*
 * A tap interface of the host (Linux Documentation/networking/tuntap): each read
 * and write is one frame, with the virtio header that IFF_VNET_HDR stands for.
 * The kernel checks what the guest put into that header against the frame.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "devices/net_link.h"

/* More than the interface can have queued. */
#define DRAIN_MAX    4096

#define FEATURE(bit) (1ULL << (bit))
#define FEATURES \
	(FEATURE(VIRTIO_NET_F_CSUM) | FEATURE(VIRTIO_NET_F_HOST_TSO4) | \
	 FEATURE(VIRTIO_NET_F_HOST_TSO6) | FEATURE(VIRTIO_NET_F_HOST_ECN) | \
	 FEATURE(VIRTIO_NET_F_GUEST_CSUM) | FEATURE(VIRTIO_NET_F_GUEST_TSO4) | \
	 FEATURE(VIRTIO_NET_F_GUEST_TSO6) | FEATURE(VIRTIO_NET_F_GUEST_ECN))

static ssize_t tap_receive(struct net_link *link, const struct iovec *iov, int nr)
{
	ssize_t n;

	do
		n = readv(link->fd, iov, nr);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n < NET_HEADER ? -EIO : n;
}

static int tap_send(struct net_link *link, struct iovec *iov, int nr, size_t len)
{
	(void)len;
	while (writev(link->fd, iov, nr) < 0) {
		if (errno == EINTR)
			continue;
		/* EIO: the interface is down; ENOBUFS, ENOMEM: the host has no room. */
		if (errno == EIO || errno == ENOBUFS || errno == ENOMEM || errno == EFAULT)
			return -EINVAL;
		return -errno;
	}
	return 0;
}

static int tap_flush(struct net_link *link)
{
	(void)link;
	return 0;
}

/* What waits was queued for a driver that took other offloads, or for none. */
static void tap_attach(struct net_link *link, unsigned offloads)
{
	/* Without room for the header a read takes a frame and fails. */
	char header[NET_HEADER];

	(void)ioctl(link->fd, TUNSETOFFLOAD, offloads);
	for (unsigned i = 0; i < DRAIN_MAX && read(link->fd, header, sizeof(header)) >= 0; i++)
		;
}

static void tap_close(struct net_link *link)
{
	close(link->fd);
	free(link);
}

static const struct net_link_ops tap_ops = {
    .receive = tap_receive,
    .send = tap_send,
    .flush = tap_flush,
    .attach = tap_attach,
    .close = tap_close,
};

int net_tap_open(int fd, struct net_link **out)
{
	struct net_link *link = calloc(1, sizeof(*link));

	if (!link)
		return -ENOMEM;
	*link = (struct net_link){.ops = &tap_ops, .features = FEATURES};
	link->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (link->fd < 0) {
		int rc = -errno;

		free(link);
		return rc;
	}
	*out = link;
	return 0;
}
