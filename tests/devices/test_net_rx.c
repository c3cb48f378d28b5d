/* virtio-net: receiving, from a helper and from a tap interface. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/net_link.h"
#include "tests/devices/net_rig.h"

START_TEST(receives_from_a_stream)
{
	struct virtio_net_hdr_v1 header;
	uint8_t frame[1514];

	net_start(0);
	offer_buffers(2, 0x1000);
	net_fill(frame, sizeof(frame), 3);
	stream_say(frame, sizeof(frame));
	header = expect_frame(frame, sizeof(frame));
	ck_assert_uint_eq(header.num_buffers, 1);
	ck_assert_uint_eq(header.flags | header.gso_type, 0);
	ck_assert(rig_wait(&net_rig.level, true));
	ck_assert_uint_eq(net_counts().rx_frames, 1);
	ck_assert_uint_eq(net_counts().rx_bytes, sizeof(frame));
}
END_TEST

START_TEST(spreads_over_buffers)
{
	static uint8_t frame[20000];

	net_start(MRG);
	offer_buffers(12, 2000);
	net_fill(frame, sizeof(frame), 4);
	stream_say(frame, sizeof(frame));
	ck_assert_uint_eq(expect_frame(frame, sizeof(frame)).num_buffers, 11);
}
END_TEST

#define LONG_FRAME 9000

/* One that needs more buffers than the driver has offered: the device took it and waits. */
static void begin_long_frame(uint8_t frame[LONG_FRAME])
{
	net_start(MRG);
	offer_buffers(3, 2000);
	net_fill(frame, LONG_FRAME, 6);
	stream_say(frame, LONG_FRAME);
	ck_assert(rig_wait_bytes(net_peer, SIOCOUTQ, 0));
}

/* A frame that began before there were buffers enough is finished when there are. */
START_TEST(waits_for_buffers)
{
	static uint8_t frame[LONG_FRAME];

	begin_long_frame(frame);
	ck_assert_uint_eq(ring_used_idx(&net_rx), 0);
	for (uint16_t i = 3; i < 6; i++) {
		ring_desc(&net_rx, i, RIG_DATA + i * 0x1000UL, 2000, VRING_DESC_F_WRITE);
		ring_offer(&net_rx, i);
	}
	ring_notify(&net_rx);
	ck_assert_uint_eq(expect_frame(frame, sizeof(frame)).num_buffers, 5);
}
END_TEST

START_TEST(whole_queue_is_too_small)
{
	static uint8_t frame[20000], got[20000];
	struct virtio_net_hdr_v1 header;

	net_start(MRG);
	offer_buffers(SIZE, 1000);
	net_fill(frame, sizeof(frame), 6);
	stream_say(frame, sizeof(frame));
	ck_assert_uint_eq(collect(got, &header), SIZE * 1000 - HEADER);
	ck_assert_uint_eq(header.num_buffers, SIZE);
	/* Those that follow are received. */
	offer_buffers(2, 1000);
	stream_say(frame, 500);
	ck_assert_uint_eq(collect(got, &header), 500);
	ck_assert_uint_eq(net_counts().rx_dropped, 1);
}
END_TEST

/* Chains of three descriptors, 1, 10 and @last bytes: a header is never in one piece. */
#define THREE(last) (1 + 10 + (last))

static void offer_threes(unsigned first, unsigned nr, uint32_t last)
{
	for (unsigned i = first; i < first + nr; i++) {
		uint64_t gpa = RIG_DATA + i * 0x1000UL;
		uint16_t head = (uint16_t)(3 * i);

		ring_desc(&net_rx, head, gpa, 1, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT);
		ring_desc(&net_rx, head + 1, gpa + 0x100, 10,
			  VRING_DESC_F_WRITE | VRING_DESC_F_NEXT);
		ring_desc(&net_rx, head + 2, gpa + 0x200, last, VRING_DESC_F_WRITE);
		ring_offer(&net_rx, head);
	}
	ring_notify(&net_rx);
}

/* What the next used chain holds; its length. */
static size_t take_three(uint8_t *to)
{
	static const uint32_t at[] = {0, 0x100, 0x200}, room[] = {1, 10, 0x1000};
	struct vring_used_elem elem;
	size_t len = 0;

	ck_assert(ring_used(&net_rx, &elem));
	ck_assert_uint_eq(elem.id % 3, 0);
	for (unsigned i = 0; i < 3; i++) {
		size_t n = elem.len - len < room[i] ? elem.len - len : room[i];

		memcpy(to + len, net_at(RIG_DATA + elem.id / 3 * 0x1000UL + at[i]), n);
		len += n;
	}
	return len;
}

/* Header and data are split anywhere, in the first chain and in those that follow. */
START_TEST(spreads_over_tiny_descriptors)
{
	static const uint32_t lasts[] = {1, 2, 30, 200};
	static uint8_t frame[4 * THREE(200)], got[4 * THREE(200)];
	size_t room = THREE(lasts[_i]), len = 4 * room - HEADER - 3, at = 0;
	struct virtio_net_hdr_v1 header;

	net_start(MRG);
	net_fill(frame, len, 13);
	offer_threes(0, 2, lasts[_i]);
	stream_say(frame, len);
	ck_assert(rig_wait_bytes(net_peer, SIOCOUTQ, 0));
	offer_threes(2, 3, lasts[_i]);
	for (unsigned i = 0; i < 4; i++) {
		size_t n = take_three(got + at);

		ck_assert_uint_eq(n, i < 3 ? room : room - 3);
		at += n;
	}
	memcpy(&header, got, HEADER);
	ck_assert_uint_eq(header.num_buffers, 4);
	ck_assert_mem_eq(got + HEADER, frame, len);
	/* The fifth chain is the next frame's. */
	stream_say(frame, 14);
	if (room >= HEADER + 14)
		ck_assert_uint_eq(take_three(got), HEADER + 14);
}
END_TEST

/* With three descriptors a chain the queue is full before it has as many chains as descriptors. */
START_TEST(whole_queue_of_chains_is_too_small)
{
	static uint8_t frame[20000], got[THREE(100)];
	struct virtio_net_hdr_v1 header;

	net_start(MRG);
	net_fill(frame, sizeof(frame), 14);
	offer_threes(0, SIZE / 3, 100);
	stream_say(frame, sizeof(frame));
	for (unsigned i = 0; i < SIZE / 3; i++) {
		ck_assert_uint_eq(take_three(got), THREE(100));
		if (i == 0)
			memcpy(&header, got, HEADER);
	}
	ck_assert_uint_eq(header.num_buffers, SIZE / 3);
	offer_threes(0, 1, 100);
	stream_say(frame, 60);
	ck_assert_uint_eq(take_three(got), HEADER + 60);
	ck_assert_mem_eq(got + HEADER, frame, 60);
	ck_assert_uint_eq(net_counts().rx_dropped, 1);
}
END_TEST

/* Chains of other lengths that are there already are not given up for that. */
START_TEST(chains_of_any_length)
{
	static uint8_t frame[3000];
	struct virtio_net_hdr_v1 header;
	struct vring_used_elem elem;

	net_start(MRG);
	net_fill(frame, sizeof(frame), 15);
	/* Nine descriptors, then one by one the other seven. */
	for (uint16_t i = 0; i < SIZE; i++) {
		bool more = i < 8;

		ring_desc(&net_rx, i, RIG_DATA + i * 0x1000UL, 200,
			  VRING_DESC_F_WRITE | (more ? VRING_DESC_F_NEXT : 0));
		if (!more)
			ring_offer(&net_rx, i == 8 ? 0 : i);
	}
	stream_say(frame, sizeof(frame));
	ring_notify(&net_rx);
	ck_assert(ring_used(&net_rx, &elem));
	ck_assert_uint_eq(elem.len, 9 * 200);
	memcpy(&header, net_at(RIG_DATA), HEADER);
	ck_assert_uint_eq(header.num_buffers, 8);
	for (unsigned i = 1; i < 8; i++)
		ck_assert(ring_used(&net_rx, &elem));
	ck_assert_uint_eq(elem.len, sizeof(frame) + HEADER - 15 * 200);
	ck_assert_uint_eq(net_counts().rx_dropped, 0);
}
END_TEST

START_TEST(too_large_without_mergeable_buffers)
{
	static uint8_t frame[3000];

	net_start(0);
	offer_buffers(1, 1526);
	net_fill(frame, sizeof(frame), 6);
	stream_say(frame, sizeof(frame));
	stream_say(frame, 200);
	expect_frame(frame, 200);
	ck_assert_uint_eq(net_counts().rx_dropped, 1);
}
END_TEST

/* The header in pieces of one byte each, the frame behind it. */
START_TEST(odd_framing)
{
	static uint8_t frame[300];
	struct vring_used_elem elem;
	uint16_t num;

	net_start(0);
	for (uint16_t i = 0; i < HEADER; i++)
		ring_desc(&net_rx, i, RIG_HEADER + i * 3UL, 1,
			  VRING_DESC_F_WRITE | VRING_DESC_F_NEXT);
	ring_desc(&net_rx, HEADER, RIG_DATA, 4096, VRING_DESC_F_WRITE);
	ring_offer(&net_rx, 0);
	net_fill(frame, sizeof(frame), 8);
	stream_say(frame, sizeof(frame));
	ring_notify(&net_rx);
	ck_assert(ring_used(&net_rx, &elem));
	ck_assert_uint_eq(elem.len, HEADER + sizeof(frame));
	ck_assert_mem_eq(net_at(RIG_DATA), frame, sizeof(frame));
	num = (uint16_t)(*(uint8_t *)net_at(RIG_HEADER + 30) | *(uint8_t *)net_at(RIG_HEADER + 33)
								   << 8);
	ck_assert_uint_eq(num, 1);
}
END_TEST

START_TEST(buffer_without_room_for_the_header)
{
	net_start(MRG);
	ring_desc(&net_rx, 0, RIG_DATA, HEADER - 1, VRING_DESC_F_WRITE);
	ring_offer(&net_rx, 0);
	ring_notify(&net_rx);
	ck_assert(rig_wait_broken(&net_rig));
	ck_assert_str_eq(device_broken(net_rig.dev), "a receive buffer has no room for its header");
}
END_TEST

START_TEST(buffer_outside_of_memory)
{
	net_start(MRG);
	ring_desc(&net_rx, 0, RIG_OUTSIDE, 4096, VRING_DESC_F_WRITE);
	ring_offer(&net_rx, 0);
	ring_notify(&net_rx);
	ck_assert(rig_wait_broken(&net_rig));
	ck_assert_str_eq(device_broken(net_rig.dev), "a receive buffer cannot be written");
}
END_TEST

/* What was under way for one driver is nothing to the next. */
START_TEST(reset_forgets_a_frame)
{
	static uint8_t frame[LONG_FRAME];

	begin_long_frame(frame);
	net_start(MRG);
	offer_buffers(3, 2000);
	net_fill(frame, 700, 11);
	stream_say(frame, 700);
	expect_frame(frame, 700);
}
END_TEST

START_TEST(tap_frames_keep_their_header)
{
	struct virtio_net_hdr_v1 said = {.flags = VIRTIO_NET_HDR_F_DATA_VALID}, header;
	uint8_t packet[HEADER + 600];

	net_start(MRG);
	offer_buffers(3, 400);
	expect_attached();
	memcpy(packet, &said, HEADER);
	net_fill(packet + HEADER, 600, 12);
	ck_assert_int_eq(send(net_peer, packet, sizeof(packet), 0), sizeof(packet));
	header = expect_frame(packet + HEADER, 600);
	ck_assert_uint_eq(header.flags, VIRTIO_NET_HDR_F_DATA_VALID);
	ck_assert_uint_eq(header.num_buffers, 2);
}
END_TEST

START_TEST(tap_forgets_what_waited_for_no_driver)
{
	struct virtio_net_hdr_v1 header;
	uint8_t packet[HEADER + 60] = {0}, got[2000];

	ck_assert_int_eq(send(net_peer, packet, sizeof(packet), 0), sizeof(packet));
	net_start(MRG);
	offer_buffers(1, 400);
	expect_attached();
	packet[HEADER] = 77;
	ck_assert_int_eq(send(net_peer, packet, sizeof(packet), 0), sizeof(packet));
	ck_assert_uint_eq(collect(got, &header), 60);
	ck_assert_uint_eq(got[0], 77);
}
END_TEST

/* Up, in a network namespace of its own; -1: not here. */
static int real_tap(struct ifreq *ifr)
{
	int fd = unshare(CLONE_NEWNET) ? -1 : open("/dev/net/tun", O_RDWR | O_NONBLOCK);
	int header = HEADER, s = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	strcpy(ifr->ifr_name, "foal-test");
	ifr->ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	if (s < 0 || fd < 0 || ioctl(fd, TUNSETIFF, ifr))
		return -1;
	ck_assert_int_eq(ioctl(fd, TUNSETVNETHDRSZ, &header), 0);
	ifr->ifr_flags = IFF_UP;
	ck_assert_int_eq(ioctl(s, SIOCSIFFLAGS, ifr), 0);
	ck_assert_int_eq(ioctl(s, SIOCGIFINDEX, ifr), 0);
	net_peer = s;
	return fd;
}

/* The kernel's own tap, which refuses a read without room for the header. */
START_TEST(real_tap_forgets_what_waited)
{
	struct ifreq ifr = {0};
	int fd = real_tap(&ifr);
	struct sockaddr_ll to = {
	    .sll_family = AF_PACKET, .sll_ifindex = ifr.ifr_ifindex, .sll_halen = 6};
	uint8_t frame[60] = {0}, packet[2000];
	struct iovec iov = {packet, sizeof(packet)};
	struct net_link *link;
	ssize_t n;

	if (fd < 0)
		return; /* needs rights */
	memset(frame + 12, 0x77, sizeof(frame) - 12);
	for (unsigned i = 0; i < 5; i++)
		ck_assert_int_eq(sendto(net_peer, frame, sizeof(frame), 0, (void *)&to, sizeof(to)),
				 sizeof(frame));
	ck_assert_int_eq(net_tap_open(fd, &link), 0);
	link->ops->attach(link, 0);
	/* The host itself may have something to say by now. */
	while ((n = link->ops->receive(link, &iov, 1)) > 0)
		ck_assert_uint_ne(packet[HEADER + 12], 0x77);
	ck_assert_int_eq(n, -EAGAIN);
	link->ops->close(link);
	close(fd);
	close(net_peer);
}
END_TEST

Suite *net_rx_suite(void)
{
	Suite *suite = suite_create("virtio-net: receiving");
	TCase *stream = tcase_create("stream"), *tap = tcase_create("tap");
	TCase *real = tcase_create("real tap");

	tcase_set_timeout(stream, 20);
	tcase_add_checked_fixture(stream, net_set_up_stream, net_tear_down);
	tcase_add_test(stream, receives_from_a_stream);
	tcase_add_test(stream, spreads_over_buffers);
	tcase_add_test(stream, waits_for_buffers);
	tcase_add_test(stream, whole_queue_is_too_small);
	tcase_add_loop_test(stream, spreads_over_tiny_descriptors, 0, 4);
	tcase_add_test(stream, whole_queue_of_chains_is_too_small);
	tcase_add_test(stream, chains_of_any_length);
	tcase_add_test(stream, too_large_without_mergeable_buffers);
	tcase_add_test(stream, odd_framing);
	tcase_add_test(stream, buffer_without_room_for_the_header);
	tcase_add_test(stream, buffer_outside_of_memory);
	tcase_add_test(stream, reset_forgets_a_frame);
	suite_add_tcase(suite, stream);
	tcase_set_timeout(tap, 20);
	tcase_add_checked_fixture(tap, net_set_up_tap, net_tear_down);
	tcase_add_test(tap, tap_frames_keep_their_header);
	tcase_add_test(tap, tap_forgets_what_waited_for_no_driver);
	suite_add_tcase(suite, tap);
	tcase_add_test(real, real_tap_forgets_what_waited);
	suite_add_tcase(suite, real);
	return suite;
}
