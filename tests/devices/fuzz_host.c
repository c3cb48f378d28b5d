#include "tests/devices/fuzz_host.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/fd_passing.h"
#include "devices/vsock_connector.h"
#include "guest/abi.h"

#define DISK_BYTES (64 * 1024)

/* The host's end of a network device's link or of vsock's connector, the console's output; -1:
 * none. */
static int peer;
/* The host's end of a connection of vsock; -1: none. */
static int connected;

/* A connector's answer, with a socket. */
static void connect_one(uint32_t tag)
{
	struct vsock_answer answer = {.tag = tag};
	int pair[2];

	if (connected >= 0)
		close(connected);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		abort();
	(void)fd_send(peer, &answer, sizeof(answer), MSG_DONTWAIT, pair[0]);
	close(pair[0]);
	connected = pair[1];
}

void fuzz_host_sends(struct device *dev, struct input *in, uint8_t how)
{
	uint8_t bytes[1024] = {0};
	size_t len = take(in, 2) % sizeof(bytes);

	for (size_t i = 0; i < len && in->left > 0; i++)
		bytes[i] = (uint8_t)take(in, 1);
	if (dev->ops == &virtio_console_device)
		virtio_console_input(dev, bytes, len);
	else if (dev->ops == &virtio_vsock_device && how & 2)
		connect_one(bytes[0]);
	else if (dev->ops == &virtio_vsock_device && how & 4 && connected >= 0)
		(void)send(connected, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	else if (dev->ops == &virtio_balloon_device)
		virtio_balloon_set_target(dev, len << 12);
	else if (peer >= 0)
		(void)send(peer, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (peer >= 0 && how & 1)
		(void)recv(peer, bytes, sizeof(bytes), MSG_DONTWAIT);
}

static int disk_file(void)
{
	static int fd = -1;

	if (fd < 0) {
		fd = memfd_create("disk", 0);
		if (ftruncate(fd, DISK_BYTES))
			abort();
	}
	return fd;
}

static int make_net(const struct device_host *host, enum net_kind kind, struct device **dev)
{
	struct net_config config = {.kind = kind, .mac = {2}, .mtu = 1500};
	int pair[2], rc;

	if (socketpair(AF_UNIX, kind == NET_STREAM ? SOCK_STREAM : SOCK_SEQPACKET, 0, pair))
		abort();
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	config.fd = pair[0];
	peer = pair[1];
	rc = virtio_net_create(host, FOAL_VIRTIO_MMIO_PIN, &config, dev);
	close(pair[0]);
	return rc;
}

static int make_vsock(const struct device_host *host, struct device **dev)
{
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), pair[2], rc;

	/* Nobody finds it: it is bound to a name of the kernel's choice. */
	if (bind(listener, (struct sockaddr *)&(struct sockaddr_un){.sun_family = AF_UNIX},
		 sizeof(sa_family_t)) ||
	    listen(listener, 1) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		abort();
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	peer = pair[1];
	rc = virtio_vsock_create(host, FOAL_VIRTIO_MMIO_PIN, 3, listener, pair[0], dev);
	close(pair[0]);
	close(listener);
	return rc;
}

int fuzz_host_device(const struct device_host *host, uint8_t kind, struct ept_area *area,
		     struct device **dev)
{
	const unsigned pin = FOAL_VIRTIO_MMIO_PIN;

	peer = connected = -1;
	switch (kind % 10) {
	case 0:
		return virtio_pmem_create(host, pin, area, dev);
	case 1:
		return virtio_rng_create(host, pin, dev);
	case 2:
		return make_net(host, NET_STREAM, dev);
	case 3:
		return make_net(host, NET_TAP, dev);
	case 4:
		/* Nobody reads it: after a while it is full. */
		peer = eventfd(0, EFD_NONBLOCK);
		return virtio_console_create(host, pin, peer, 80, 25, dev);
	case 8:
		return make_vsock(host, dev);
	case 9:
		return virtio_balloon_create(host, pin, 1 << 20, dev);
	}
	return virtio_blk_create(host, pin, disk_file(), "disk", (enum disk_mode)(kind % 10 - 5),
				 dev);
}

void fuzz_host_end(void)
{
	if (peer >= 0)
		close(peer);
	if (connected >= 0)
		close(connected);
}
