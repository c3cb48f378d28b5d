/* virtio-vsock: a driver that says anything. */
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/devices/vsock_rig.h"

START_TEST(packets_of_nothing)
{
	static const uint16_t ops[] = {VIRTIO_VSOCK_OP_INVALID,	       VIRTIO_VSOCK_OP_RESPONSE,
				       VIRTIO_VSOCK_OP_SHUTDOWN,       VIRTIO_VSOCK_OP_RW,
				       VIRTIO_VSOCK_OP_CREDIT_REQUEST, 99};
	struct virtio_vsock_hdr hdr;

	for (unsigned i = 0; i < sizeof(ops) / sizeof(*ops); i++) {
		give_buffer(RX_LEN);
		send_op(i, 3, ops[i]);
		expect_packet(i, 3, VIRTIO_VSOCK_OP_RST, NULL);
	}
	send_op(1, 3, VIRTIO_VSOCK_OP_RST); /* not answered */
	give_buffer(RX_LEN);
	hdr = packet(1, 4, VIRTIO_VSOCK_OP_REQUEST, 0);
	hdr.src_cid = 7;
	send_packet(hdr, NULL, 0);
	expect_packet(1, 4, VIRTIO_VSOCK_OP_RST, NULL);
	give_buffer(RX_LEN);
	hdr = packet(1, 5, VIRTIO_VSOCK_OP_REQUEST, 0);
	hdr.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	send_packet(hdr, NULL, 0);
	expect_packet(1, 5, VIRTIO_VSOCK_OP_RST, NULL);
	give_buffer(RX_LEN);
	hdr = packet(1, 6, VIRTIO_VSOCK_OP_REQUEST, 0);
	hdr.dst_cid = 3;
	send_packet(hdr, NULL, 0);
	expect_packet(1, 6, VIRTIO_VSOCK_OP_RST, NULL);
}
END_TEST

START_TEST(requested_twice)
{
	int fd = guest_connects(1, 2);
	char c;

	give_buffer(RX_LEN);
	send_op(1, 2, VIRTIO_VSOCK_OP_REQUEST);
	expect_packet(1, 2, VIRTIO_VSOCK_OP_RST, NULL);
	ck_assert_int_eq(recv(fd, &c, 1, 0), 0);
	close(fd);
}
END_TEST

/* More refusals than are kept: the queue waits for the guest's buffers, and goes on. */
static void offer_strays(unsigned nr)
{
	rig_select(&vsock_rig, TX);
	for (unsigned i = 0; i < nr; i++) {
		struct virtio_vsock_hdr hdr = packet(i, 9, VIRTIO_VSOCK_OP_RW, 0);

		memcpy(vsock_rig.memory->bytes + TX_AT + i * 64, &hdr, HEADER);
		rig_desc(&vsock_rig, i, TX_AT + i * 64, HEADER, 0, 0);
		rig_offer(&vsock_rig, (uint16_t)i);
	}
	rig_notify(&vsock_rig);
}

START_TEST(refusals_without_buffers)
{
	unsigned resets = 0;

	offer_strays(100);
	for (unsigned i = 0; i < 100; i++) {
		struct vring_used_elem elem;
		uint16_t op;

		give_buffer(RX_LEN);
		ck_assert(rig_wait_used(&vsock_rig, &elem));
		memcpy(&op,
		       vsock_rig.memory->bytes + RX_AT + elem.id * RX_LEN +
			   offsetof(struct virtio_vsock_hdr, op),
		       sizeof(op));
		resets += op == VIRTIO_VSOCK_OP_RST;
	}
	ck_assert_uint_eq(resets, 100);
}
END_TEST

/* The same where buffers were there before: nothing more is said to the device. */
START_TEST(refusals_with_buffers)
{
	for (unsigned i = 0; i < 100; i++)
		give_buffer(RX_LEN);
	offer_strays(100);
	for (unsigned i = 0; i < 100; i++) {
		struct vring_used_elem elem;

		rig_select(&vsock_rig, RX);
		ck_assert_msg(rig_wait_used(&vsock_rig, &elem), "%u refusals", i);
	}
}
END_TEST

/* As many as there is room for; one more is refused, and after one ended it is not. */
START_TEST(full_table)
{
	for (unsigned i = 0; i < 256; i++)
		send_op(i, 1, VIRTIO_VSOCK_OP_REQUEST);
	give_buffer(RX_LEN);
	send_op(256, 1, VIRTIO_VSOCK_OP_REQUEST);
	expect_packet(256, 1, VIRTIO_VSOCK_OP_RST, NULL);
	send_op(17, 1, VIRTIO_VSOCK_OP_RST);
	send_op(256, 1, VIRTIO_VSOCK_OP_REQUEST);
	give_buffer(RX_LEN);
	close(connect_as(1, CONNECTED));
	expect_packet(0, 1, VIRTIO_VSOCK_OP_RESPONSE, NULL);
}
END_TEST

static void expect_broken(const char *why)
{
	ck_assert(rig_wait_broken(&vsock_rig));
	ck_assert_str_eq(device_broken(vsock_rig.dev), why);
	start_driver();
}

START_TEST(broken_packets)
{
	offer_packet(packet(1, 2, VIRTIO_VSOCK_OP_RW, 0), NULL, HEADER - 1);
	expect_broken("a vsock packet lacks its header");
	offer_packet(packet(1, 2, VIRTIO_VSOCK_OP_RW, 100), NULL, HEADER + 99);
	expect_broken("a vsock packet is shorter than it says");
	offer_packet(packet(1, 2, VIRTIO_VSOCK_OP_RW, UINT32_MAX), NULL, HEADER);
	expect_broken("a vsock packet is shorter than it says");
	give_buffer(HEADER);
	expect_broken("a vsock buffer has no room for a packet");
	rig_select(&vsock_rig, RX);
	rig_desc(&vsock_rig, 0, RIG_OUTSIDE, RX_LEN, WRITE, 0);
	rig_offer(&vsock_rig, 0);
	rig_notify(&vsock_rig);
	offer_packet(packet(1, 2, VIRTIO_VSOCK_OP_RW, 0), NULL, HEADER);
	expect_broken("a vsock buffer lies outside of guest memory");
}
END_TEST

/* A reset drops every connection; the device is as new. */
START_TEST(reset_drops_all)
{
	int fd = guest_connects(1, 2);
	char c;

	start_driver();
	ck_assert_int_eq(recv(fd, &c, 1, 0), 0);
	close(fd);
	fd = guest_connects(1, 2);
	close(fd);
}
END_TEST

/* With no place left the listener is not watched; a reset makes room for the host's clients. */
START_TEST(reset_of_a_full_table)
{
	struct virtio_vsock_hdr hdr;
	int fd;

	for (unsigned i = 0; i < 256; i++)
		send_op(i, 1, VIRTIO_VSOCK_OP_REQUEST);
	/* Refused, so the worker has seen that it is full. */
	give_buffer(RX_LEN);
	send_op(256, 1, VIRTIO_VSOCK_OP_REQUEST);
	expect_packet(256, 1, VIRTIO_VSOCK_OP_RST, NULL);
	atomic_store(&vsock_vcpu_epolls, 0);
	start_driver();
	ck_assert_uint_eq(atomic_load(&vsock_vcpu_epolls), 0);
	fd = host_connects("CONNECT 9\n");
	give_buffer(RX_LEN);
	hdr = expect_packet(9, 0, VIRTIO_VSOCK_OP_REQUEST, NULL);
	ck_assert_uint_ge(hdr.src_port, 1u << 30);
	close(fd);
}
END_TEST

Suite *vsock_hostile_suite(void)
{
	Suite *suite = suite_create("virtio-vsock, hostile");
	TCase *tc = tcase_create("virtio-vsock, hostile");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, vsock_set_up, vsock_tear_down);
	tcase_add_test(tc, packets_of_nothing);
	tcase_add_test(tc, requested_twice);
	tcase_add_test(tc, refusals_without_buffers);
	tcase_add_test(tc, refusals_with_buffers);
	tcase_add_test(tc, full_table);
	tcase_add_test(tc, broken_packets);
	tcase_add_test(tc, reset_drops_all);
	tcase_add_test(tc, reset_of_a_full_table);
	suite_add_tcase(suite, tc);
	return suite;
}
