/* virtio-net: its configuration, sending, the end of its link. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/virtio_ids.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/devices/net_rig.h"

/* --- configuration ------------------------------------------------------------------------ */

START_TEST(announces_itself)
{
	uint64_t value = 0;
	uint8_t mac[6];

	ck_assert_uint_eq(rig_get(&net_rig, VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_NET);
	for (unsigned i = 0; i < 6; i++)
		ck_assert(bus_read(net_rig.bus, RIG_BASE + VIRTIO_MMIO_CONFIG + i, &mac[i], 1));
	ck_assert_mem_eq(mac, ((uint8_t[]){2, 1, 2, 3, 4, 5}), 6);
	ck_assert(bus_read(net_rig.bus, RIG_BASE + VIRTIO_MMIO_CONFIG + 6, &value, 2));
	ck_assert_uint_eq(value, VIRTIO_NET_S_LINK_UP);
	ck_assert(bus_read(net_rig.bus, RIG_BASE + VIRTIO_MMIO_CONFIG + 10, &value, 2));
	ck_assert_uint_eq(value, 65520);
	/* A helper knows no offloads. */
	ck_assert(!rig_negotiate(&net_rig, VERSION_1 | CSUM));
	ck_assert(rig_negotiate(&net_rig, VERSION_1 | MRG | STATUS | 1ULL << VIRTIO_NET_F_MTU));
}
END_TEST

/* --- sending -------------------------------------------------------------------------------- */

START_TEST(sends_through_a_stream)
{
	uint8_t frame[1514], got[2000];

	net_start(0);
	net_fill(frame, sizeof(frame), 1);
	send_frame(&net_plain_header, frame, sizeof(frame));
	ck_assert_int_eq(stream_hear(got, sizeof(got)), sizeof(frame));
	ck_assert_mem_eq(got, frame, sizeof(frame));
	ck_assert_uint_eq(net_counts().tx_frames, 1);
	ck_assert_uint_eq(net_counts().tx_bytes, sizeof(frame));
}
END_TEST

/* A stream that takes a part of a frame gets the rest later, also with no frame to follow. */
START_TEST(sends_the_rest_when_there_is_room)
{
	static uint8_t frame[60000], got[70000];

	net_start(0);
	net_fill(frame, sizeof(frame), 5);
	send_frame(&net_plain_header, frame, sizeof(frame));
	ck_assert_int_eq(stream_hear(got, sizeof(got)), sizeof(frame));
	ck_assert_mem_eq(got, frame, sizeof(frame));
}
END_TEST

/* One that is full leaves frames in the ring, in their order. */
START_TEST(waits_for_room)
{
	static uint8_t got[70000];
	const unsigned nr = 12;

	net_start(0);
	memcpy(net_at(RIG_HEADER), &net_plain_header, HEADER);
	ring_desc(&net_tx, 0, RIG_HEADER, HEADER, VRING_DESC_F_NEXT);
	ring_desc(&net_tx, 1, RIG_DATA, 50000, 0);
	for (unsigned i = 0; i < nr; i++)
		ring_offer(&net_tx, 0);
	ring_notify(&net_tx);
	/* It has begun, and cannot end before somebody listens. */
	ck_assert_int_eq(poll(&(struct pollfd){.fd = net_peer, .events = POLLIN}, 1, 60000), 1);
	ck_assert_uint_lt(ring_used_idx(&net_tx), nr);
	for (unsigned i = 0; i < nr; i++)
		ck_assert_int_eq(stream_hear(got, sizeof(got)), 50000);
	ck_assert_uint_eq(net_counts().tx_frames, nr);
}
END_TEST

START_TEST(tap_gets_the_header_too)
{
	struct virtio_net_hdr_v1 header = {
	    .flags = 0xff, .csum_start = 14, .csum_offset = 6, .num_buffers = 0xffff};
	uint8_t frame[100], got[200];

	net_start(CSUM);
	net_fill(frame, sizeof(frame), 9);
	send_frame(&header, frame, sizeof(frame));
	ck_assert_int_eq(recv(net_peer, got, sizeof(got), 0), HEADER + sizeof(frame));
	ck_assert_mem_eq(got + HEADER, frame, sizeof(frame));
	/* Of the flags, the one that was negotiated. */
	memcpy(&header, got, HEADER);
	ck_assert_uint_eq(header.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	ck_assert_uint_eq(header.csum_start, 14);
	ck_assert_uint_eq(header.num_buffers, 0);
}
END_TEST

START_TEST(wrong_frames_are_dropped)
{
	static const struct virtio_net_hdr_v1 wrong[] = {
	    {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM}, {.gso_type = VIRTIO_NET_HDR_GSO_TCPV4},
	    {.gso_type = VIRTIO_NET_HDR_GSO_TCPV6}, {.gso_type = VIRTIO_NET_HDR_GSO_UDP},
	    {.gso_type = VIRTIO_NET_HDR_GSO_ECN},   {.gso_type = 0x7f},
	};
	struct vring_used_elem elem;
	uint8_t frame[100] = {0}, got[200];
	unsigned dropped = sizeof(wrong) / sizeof(wrong[0]);

	net_start(0);
	for (unsigned i = 0; i < dropped; i++)
		send_frame(&wrong[i], frame, sizeof(frame));
	/* Shorter than an Ethernet header; longer than any frame; nowhere. */
	send_frame(&net_plain_header, frame, 13);
	ring_desc(&net_tx, 1, RIG_DATA, 70000, 0);
	ring_offer(&net_tx, 0);
	ring_notify(&net_tx);
	ck_assert(ring_used(&net_tx, &elem));
	ring_desc(&net_tx, 1, RIG_OUTSIDE, 100, 0);
	ring_offer(&net_tx, 0);
	ring_notify(&net_tx);
	ck_assert(ring_used(&net_tx, &elem));
	ck_assert_ptr_null(device_broken(net_rig.dev));
	/* The next good one goes through. */
	send_frame(&net_plain_header, frame, sizeof(frame));
	ck_assert_int_eq(recv(net_peer, got, sizeof(got), 0), HEADER + sizeof(frame));
	ck_assert_uint_eq(net_counts().tx_dropped, dropped + 3);
	ck_assert_uint_eq(net_counts().tx_frames, 1);
}
END_TEST

START_TEST(frame_without_header)
{
	net_start(0);
	ring_desc(&net_tx, 0, RIG_DATA, HEADER - 1, 0);
	ring_offer(&net_tx, 0);
	ring_notify(&net_tx);
	ck_assert(rig_wait_broken(&net_rig));
	ck_assert_str_eq(device_broken(net_rig.dev), "a frame to send lacks its header");
}
END_TEST

/* --- the link ends ---------------------------------------------------------------------- */

static void expect_link_down(void)
{
	uint16_t status = VIRTIO_NET_S_LINK_UP;

	for (unsigned i = 0; i < 600000 && status; i++, rig_nap())
		ck_assert(bus_read(net_rig.bus, RIG_BASE + VIRTIO_MMIO_CONFIG + 6, &status, 2));
	ck_assert_uint_eq(status, 0);
	ck_assert_uint_eq(rig_get(&net_rig, VIRTIO_MMIO_CONFIG_GENERATION), 1);
	ck_assert_uint_eq(rig_get(&net_rig, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG,
			  VIRTIO_MMIO_INT_CONFIG);
	ck_assert_ptr_null(device_broken(net_rig.dev));
}

/* A queue taken away with a frame on its way: nobody waits for what nobody would serve. */
START_TEST(queues_taken_away)
{
	static uint8_t frame[60000];

	net_start(MRG);
	/* More than the socket takes, twice: the second waits. */
	memcpy(net_at(RIG_HEADER), &net_plain_header, HEADER);
	ring_desc(&net_tx, 0, RIG_HEADER, HEADER, VRING_DESC_F_NEXT);
	ring_desc(&net_tx, 1, RIG_DATA, sizeof(frame), 0);
	ring_offer(&net_tx, 0);
	ring_offer(&net_tx, 0);
	ring_notify(&net_tx);
	ring_desc(&net_rx, 0, RIG_DATA + 0x100000, 2000, VRING_DESC_F_WRITE);
	ring_offer(&net_rx, 0);
	ring_notify(&net_rx);
	ck_assert(rig_wait_idle());
	for (unsigned i = 0; i < 2; i++) {
		rig_set(&net_rig, VIRTIO_MMIO_QUEUE_SEL, i);
		rig_set(&net_rig, VIRTIO_MMIO_QUEUE_READY, 0);
	}
	/* Now it could be sent, and something received. */
	stream_say(frame, 60);
	while (recv(net_peer, frame, sizeof(frame), MSG_DONTWAIT) > 0)
		;
	ck_assert(rig_wait_idle());
}
END_TEST

START_TEST(helper_ends)
{
	uint8_t frame[100] = {0};

	net_start(STATUS | MRG);
	offer_buffers(2, 2000);
	shutdown(net_peer, SHUT_RDWR);
	expect_link_down();
	/* Frames are taken and lost; nothing spins. */
	send_frame(&net_plain_header, frame, sizeof(frame));
	ck_assert(rig_wait_idle());
	ck_assert_uint_eq(net_counts().tx_dropped, 1);
}
END_TEST

START_TEST(helper_ends_while_sending)
{
	uint8_t frame[100] = {0};

	net_start(STATUS);
	close(net_peer);
	net_peer = open("/dev/null", O_RDONLY);
	send_frame(&net_plain_header, frame, sizeof(frame));
	expect_link_down();
}
END_TEST

START_TEST(helper_talks_nonsense)
{
	static const uint32_t lengths[] = {0, 13, 65554, UINT32_MAX};
	uint32_t prefix = htonl(lengths[_i]);

	net_start(STATUS | MRG);
	offer_buffers(2, 2000);
	ck_assert_int_eq(write(net_peer, &prefix, sizeof(prefix)), sizeof(prefix));
	expect_link_down();
}
END_TEST

START_TEST(tap_goes_away)
{
	uint8_t frame[100] = {0};

	net_start(STATUS | MRG);
	offer_buffers(2, 2000);
	expect_attached();
	close(net_peer);
	net_peer = open("/dev/null", O_RDONLY);
	expect_link_down();
	send_frame(&net_plain_header, frame, sizeof(frame));
	ck_assert_uint_eq(net_counts().tx_dropped, 1);
}
END_TEST

Suite *net_suite(void)
{
	Suite *suite = suite_create("virtio-net");
	TCase *stream = tcase_create("stream"), *tap = tcase_create("tap");

	tcase_set_timeout(stream, 20);
	tcase_add_checked_fixture(stream, net_set_up_stream, net_tear_down);
	tcase_add_test(stream, announces_itself);
	tcase_add_test(stream, sends_through_a_stream);
	tcase_add_test(stream, sends_the_rest_when_there_is_room);
	tcase_add_test(stream, waits_for_room);
	tcase_add_test(stream, frame_without_header);
	tcase_add_test(stream, queues_taken_away);
	tcase_add_test(stream, helper_ends);
	tcase_add_test(stream, helper_ends_while_sending);
	tcase_add_loop_test(stream, helper_talks_nonsense, 0, 4);
	suite_add_tcase(suite, stream);
	tcase_set_timeout(tap, 20);
	tcase_add_checked_fixture(tap, net_set_up_tap, net_tear_down);
	tcase_add_test(tap, tap_gets_the_header_too);
	tcase_add_test(tap, wrong_frames_are_dropped);
	tcase_add_test(tap, tap_goes_away);
	suite_add_tcase(suite, tap);
	return suite;
}
