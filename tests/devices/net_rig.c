#include "tests/devices/net_rig.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct rig net_rig;
struct ring net_rx, net_tx;
int net_peer;
const struct virtio_net_hdr_v1 net_plain_header;

void *net_at(uint64_t gpa)
{
	return net_rig.memory->bytes + gpa;
}

static void ring_set_up(struct ring *ring, unsigned index)
{
	*ring = (struct ring){.index = index, .base = 0x200000 + index * 0x10000UL};
	memset(net_at(ring->base), 0, 0x3000);
	rig_set(&net_rig, VIRTIO_MMIO_QUEUE_SEL, index);
	rig_set(&net_rig, VIRTIO_MMIO_QUEUE_NUM, SIZE);
	rig_set(&net_rig, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)ring->base);
	rig_set(&net_rig, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)ring->base + 0x1000);
	rig_set(&net_rig, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)ring->base + 0x2000);
	rig_set(&net_rig, VIRTIO_MMIO_QUEUE_READY, 1);
	ck_assert_uint_eq(rig_get(&net_rig, VIRTIO_MMIO_QUEUE_READY), 1);
}

void ring_desc(struct ring *ring, uint16_t i, uint64_t gpa, uint32_t len, uint16_t flags)
{
	struct vring_desc desc = {
	    .addr = gpa, .len = len, .flags = flags, .next = (uint16_t)(i + 1)};

	memcpy(net_at(ring->base + i * sizeof(desc)), &desc, sizeof(desc));
}

void ring_offer(struct ring *ring, uint16_t head)
{
	uint16_t *avail = net_at(ring->base + 0x1000);

	avail[2 + ring->avail_idx % SIZE] = head;
	__atomic_store_n(&avail[1], ++ring->avail_idx, __ATOMIC_SEQ_CST);
}

void ring_notify(struct ring *ring)
{
	rig_set(&net_rig, VIRTIO_MMIO_QUEUE_NOTIFY, ring->index);
}

uint16_t ring_used_idx(const struct ring *ring)
{
	return __atomic_load_n((uint16_t *)net_at(ring->base + 0x2002), __ATOMIC_SEQ_CST);
}

bool ring_used(struct ring *ring, struct vring_used_elem *elem)
{
	uint16_t *used = net_at(ring->base + 0x2000);

	for (unsigned i = 0; i < 50000; i++, rig_nap()) {
		if (ring_used_idx(ring) == ring->used_idx)
			continue;
		memcpy(elem, (char *)used + 4 + sizeof(*elem) * (ring->used_idx % SIZE),
		       sizeof(*elem));
		ring->used_idx++;
		return true;
	}
	return false;
}

static void make_device(enum net_kind kind, uint16_t mtu)
{
	struct net_config config = {.kind = kind, .mac = {2, 1, 2, 3, 4, 5}, .mtu = mtu};
	struct device *dev;
	int pair[2];

	ck_assert_int_eq(
	    socketpair(AF_UNIX, kind == NET_STREAM ? SOCK_STREAM : SOCK_SEQPACKET, 0, pair), 0);
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	/* Less than a large frame. */
	ck_assert_int_eq(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &(int){16384}, sizeof(int)), 0);
	config.fd = pair[0];
	net_peer = pair[1];
	ck_assert_int_eq(virtio_net_create(&net_rig.host, RIG_PIN, &config, &dev), 0);
	close(pair[0]);
	rig_attach(&net_rig, dev);
}

void net_start(uint64_t features)
{
	ck_assert(rig_negotiate(&net_rig, VERSION_1 | features));
	ring_set_up(&net_rx, 0);
	ring_set_up(&net_tx, 1);
	rig_set(&net_rig, VIRTIO_MMIO_STATUS, 0xf);
}

void net_set_up_stream(void)
{
	rig_init(&net_rig);
	make_device(NET_STREAM, 65520);
}

void net_set_up_tap(void)
{
	rig_init(&net_rig);
	make_device(NET_TAP, 0);
}

void net_tear_down(void)
{
	rig_fini(&net_rig);
	close(net_peer);
}

struct net_stats net_counts(void)
{
	struct net_stats s;

	bus_stop(net_rig.bus);
	virtio_net_stats(net_rig.dev, &s);
	return s;
}

void net_fill(uint8_t *frame, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		frame[i] = (uint8_t)(seed + i * 7 + i / 251);
}

void stream_say(const void *frame, size_t len)
{
	uint32_t prefix = htonl((uint32_t)len);
	size_t sent = 0;

	ck_assert_int_eq(write(net_peer, &prefix, sizeof(prefix)), sizeof(prefix));
	while (sent < len) {
		ssize_t n = write(net_peer, (const char *)frame + sent, len - sent);
		ck_assert_int_gt(n, 0);
		sent += (size_t)n;
	}
}

ssize_t stream_hear(void *frame, size_t max)
{
	uint32_t prefix;

	if (recv(net_peer, &prefix, sizeof(prefix), MSG_WAITALL) != sizeof(prefix))
		return -1;
	ck_assert_uint_le(ntohl(prefix), max);
	return recv(net_peer, frame, ntohl(prefix), MSG_WAITALL);
}

void send_frame(const struct virtio_net_hdr_v1 *header, const void *frame, uint32_t len)
{
	struct vring_used_elem elem;

	memcpy(net_at(RIG_HEADER), header, HEADER);
	memcpy(net_at(RIG_DATA), frame, len);
	ring_desc(&net_tx, 0, RIG_HEADER, HEADER, VRING_DESC_F_NEXT);
	ring_desc(&net_tx, 1, RIG_DATA, len, 0);
	ring_offer(&net_tx, 0);
	ring_notify(&net_tx);
	ck_assert(ring_used(&net_tx, &elem));
	ck_assert_uint_eq(elem.len, 0);
}

void offer_buffers(uint16_t nr, uint32_t len)
{
	for (uint16_t i = 0; i < nr; i++) {
		ring_desc(&net_rx, i, RIG_DATA + i * 0x1000UL, len, VRING_DESC_F_WRITE);
		ring_offer(&net_rx, i);
	}
	ring_notify(&net_rx);
}

size_t collect(uint8_t *to, struct virtio_net_hdr_v1 *header)
{
	struct vring_used_elem elem;
	unsigned nr = 1;
	size_t len = 0;

	for (unsigned i = 0; i < nr; i++) {
		size_t skip = i ? 0 : HEADER;

		ck_assert(ring_used(&net_rx, &elem));
		if (i == 0) {
			memcpy(header, net_at(RIG_DATA + elem.id * 0x1000UL), HEADER);
			nr = header->num_buffers;
			ck_assert_uint_ge(nr, 1);
			/* All came at once. */
			ck_assert_uint_ge((uint16_t)(((uint16_t *)net_at(net_rx.base + 0x2000))[1] -
						     net_rx.used_idx + 1),
					  nr);
		}
		memcpy(to + len, (char *)net_at(RIG_DATA + elem.id * 0x1000UL) + skip,
		       elem.len - skip);
		len += elem.len - skip;
	}
	return len;
}

struct virtio_net_hdr_v1 expect_frame(const uint8_t *frame, size_t len)
{
	static uint8_t got[20000];
	struct virtio_net_hdr_v1 header;

	ck_assert_uint_le(len, sizeof(got));
	ck_assert_uint_eq(collect(got, &header), len);
	ck_assert_mem_eq(got, frame, len);
	return header;
}

void expect_attached(void)
{
	uint8_t frame[60] = {0};

	send_frame(&net_plain_header, frame, sizeof(frame));
}
