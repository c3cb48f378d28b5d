/* virtio-vsock: sound connections, either way, and what each side lets the other send. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/devices/vsock_rig.h"

/* --- sound connections ------------------------------------------------------------------------ */

START_TEST(guest_to_host)
{
	char data[16] = "";
	int fd = guest_connects(1000, 80);

	send_packet(packet(1000, 80, VIRTIO_VSOCK_OP_RW, 5), "hello", 5);
	ck_assert_int_eq(recv(fd, data, 5, MSG_WAITALL), 5);
	ck_assert_str_eq(data, "hello");
	ck_assert_int_eq(send(fd, "world!", 6, 0), 6);
	give_buffer(RX_LEN);
	ck_assert_uint_eq(expect_packet(1000, 80, VIRTIO_VSOCK_OP_RW, data).fwd_cnt, 5);
	ck_assert_mem_eq(data, "world!", 6);
	/* Half closed by the host: the guest may still send. */
	shutdown(fd, SHUT_WR);
	give_buffer(RX_LEN);
	ck_assert_uint_eq(expect_packet(1000, 80, VIRTIO_VSOCK_OP_SHUTDOWN, NULL).flags,
			  VIRTIO_VSOCK_SHUTDOWN_SEND);
	send_packet(packet(1000, 80, VIRTIO_VSOCK_OP_RW, 3), "bye", 3);
	ck_assert_int_eq(recv(fd, data, 3, MSG_WAITALL), 3);
	/* Closed by the guest: answered with a reset. */
	struct virtio_vsock_hdr end = packet(1000, 80, VIRTIO_VSOCK_OP_SHUTDOWN, 0);
	end.flags = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND;
	send_packet(end, NULL, 0);
	ck_assert_int_eq(recv(fd, data, 1, 0), 0);
	give_buffer(RX_LEN);
	expect_packet(1000, 80, VIRTIO_VSOCK_OP_RST, NULL);
	close(fd);
}
END_TEST

/* A server that greets before it is asked: the guest says nothing meanwhile. */
START_TEST(host_speaks_first)
{
	int fd = guest_connects(1000, 25);
	char data[4];

	give_buffer(RX_LEN);
	ck_assert_int_eq(send(fd, "220 ", 4, 0), 4);
	ck_assert_uint_eq(expect_packet(1000, 25, VIRTIO_VSOCK_OP_RW, data).len, 4);
	ck_assert_mem_eq(data, "220 ", 4);
	close(fd);
}
END_TEST

START_TEST(host_to_guest)
{
	int fd = host_connects("CONNECT 1234\nearly");
	struct virtio_vsock_hdr hdr;
	char line[32] = "", data[8];

	give_buffer(RX_LEN);
	hdr = expect_packet(1234, 0, VIRTIO_VSOCK_OP_REQUEST, NULL);
	ck_assert_uint_ge(hdr.src_port, 1u << 30);
	give_buffer(RX_LEN);
	send_op(1234, hdr.src_port, VIRTIO_VSOCK_OP_RESPONSE);
	snprintf(data, sizeof(data), "x");
	ck_assert_int_ge(recv(fd, line, sizeof(line) - 1, 0), 4);
	snprintf(line + 16, 16, "OK %u\n", hdr.src_port);
	ck_assert_str_eq(line, line + 16);
	/* What the client sent behind its line comes after the guest agreed. */
	ck_assert_uint_eq(expect_packet(1234, hdr.src_port, VIRTIO_VSOCK_OP_RW, data).len, 5);
	ck_assert_mem_eq(data, "early", 5);
	/* Closed altogether. */
	close(fd);
	give_buffer(RX_LEN);
	ck_assert_uint_eq(expect_packet(1234, hdr.src_port, VIRTIO_VSOCK_OP_SHUTDOWN, NULL).flags,
			  VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND);
	send_op(1234, hdr.src_port, VIRTIO_VSOCK_OP_RST);
	ck_assert_ptr_null(device_broken(vsock_rig.dev));
}
END_TEST

/* The guest says that nobody listens there. */
START_TEST(host_is_refused)
{
	int fd = host_connects("CONNECT 7\n");
	struct virtio_vsock_hdr hdr;
	char c;

	give_buffer(RX_LEN);
	hdr = expect_packet(7, 0, VIRTIO_VSOCK_OP_REQUEST, NULL);
	send_op(7, hdr.src_port, VIRTIO_VSOCK_OP_RST);
	ck_assert_int_eq(recv(fd, &c, 1, 0), 0);
	close(fd);
}
END_TEST

START_TEST(wrong_lines)
{
	static const char *const lines[] = {
	    "CONNECT\n",
	    "CONNECT -1\n",
	    "CONNECT 1x\n",
	    "connect 1\n",
	    "CONNECT 4294967295\n",
	    "\n",
	    "CONNECT 99999999999999999999\n",
	    "CONNECT 0000000000000000000000000000000000000000001\n"};
	int fd = host_connects(lines[_i]);
	char c;

	give_buffer(RX_LEN);
	ck_assert_int_le(recv(fd, &c, 1, 0), 0);
	close(fd);
	/* The next is served. */
	fd = host_connects("CONNECT 8\n");
	expect_packet(8, 0, VIRTIO_VSOCK_OP_REQUEST, NULL);
	close(fd);
}
END_TEST

START_TEST(guest_is_refused)
{
	give_buffer(RX_LEN);
	send_op(5, 6, VIRTIO_VSOCK_OP_REQUEST);
	ck_assert_int_eq(connect_as(6, REFUSE), -1);
	expect_packet(5, 6, VIRTIO_VSOCK_OP_RST, NULL);
	/* Without a connector, at once. */
	shutdown(vsock_connector, SHUT_RDWR);
	give_buffer(RX_LEN);
	send_op(5, 7, VIRTIO_VSOCK_OP_REQUEST);
	expect_packet(5, 7, VIRTIO_VSOCK_OP_RST, NULL);
}
END_TEST

/* --- credit ---------------------------------------------------------------------------- */

/* The guest has room for ten bytes, then for what it says it has taken. */
START_TEST(credit_of_the_guest)
{
	struct virtio_vsock_hdr hdr = packet(1, 2, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
	int fd = guest_connects(1, 2);
	char data[32];

	hdr.buf_alloc = 10;
	send_packet(hdr, NULL, 0);
	ck_assert_int_eq(send(fd, "0123456789abcdef", 16, 0), 16);
	give_buffer(RX_LEN);
	ck_assert_uint_eq(expect_packet(1, 2, VIRTIO_VSOCK_OP_RW, data).len, 10);
	give_buffer(RX_LEN);
	ck_assert(rig_wait_idle());
	ck_assert_uint_eq(vsock_rig.memory->bytes[RIG_USED + 2], 2);
	hdr.fwd_cnt = 4;
	send_packet(hdr, NULL, 0);
	ck_assert_uint_eq(expect_packet(1, 2, VIRTIO_VSOCK_OP_RW, data).len, 4);
	ck_assert_mem_eq(data, "abcd", 4);
	/* Figures that make no sense are no credit. */
	hdr.fwd_cnt = 4000;
	send_packet(hdr, NULL, 0);
	give_buffer(RX_LEN);
	ck_assert(rig_wait_idle());
	ck_assert_uint_eq(vsock_rig.memory->bytes[RIG_USED + 2], 3);
	hdr.fwd_cnt = 14;
	send_packet(hdr, NULL, 0);
	ck_assert_uint_eq(expect_packet(1, 2, VIRTIO_VSOCK_OP_RW, data).len, 2);
	close(fd);
}
END_TEST

/* A host that does not read costs the guest its credit, and no more memory than that. */
START_TEST(credit_of_the_host)
{
	static char data[16384], back[16384];
	int fd = guest_connects(1, 2), size = 4096;
	uint64_t sent = 0, got = 0;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 7);
	/* 64 KiB are ours to send, whatever the socket takes. */
	for (; sent < CREDIT; sent += sizeof(data))
		send_packet(packet(1, 2, VIRTIO_VSOCK_OP_RW, 0), data, sizeof(data));
	while (got < sent) {
		ck_assert_int_eq(recv(fd, back, sizeof(back), MSG_WAITALL), sizeof(back));
		ck_assert_mem_eq(back, data, sizeof(data));
		got += sizeof(back);
	}
	give_buffer(RX_LEN);
	ck_assert_uint_gt(expect_packet(1, 2, VIRTIO_VSOCK_OP_CREDIT_UPDATE, NULL).fwd_cnt, 0);
	give_buffer(RX_LEN);
	send_op(1, 2, VIRTIO_VSOCK_OP_CREDIT_REQUEST);
	while (expect_packet(1, 2, VIRTIO_VSOCK_OP_CREDIT_UPDATE, NULL).fwd_cnt != CREDIT)
		give_buffer(RX_LEN);
	close(fd);
}
END_TEST

/* More than the credit: the connection ends. */
START_TEST(guest_sends_too_much)
{
	static char data[16384];
	int fd = guest_connects(1, 2), rc;

	/* What the socket itself holds goes first. */
	for (unsigned i = 0; i < 64; i++)
		send_packet(packet(1, 2, VIRTIO_VSOCK_OP_RW, 0), data, sizeof(data));
	for (unsigned i = 0; i < 100; i++) {
		struct virtio_vsock_hdr hdr;
		struct vring_used_elem elem;

		give_buffer(RX_LEN);
		ck_assert(rig_wait_used(&vsock_rig, &elem));
		memcpy(&hdr, vsock_rig.memory->bytes + RX_AT + elem.id * RX_LEN, HEADER);
		if (hdr.op == VIRTIO_VSOCK_OP_RST)
			break;
		ck_assert_uint_eq(hdr.op, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	}
	do
		rc = (int)recv(fd, data, sizeof(data), 0);
	while (rc > 0);
	close(fd);
}
END_TEST

Suite *vsock_suite(void)
{
	Suite *suite = suite_create("virtio-vsock");
	TCase *tc = tcase_create("virtio-vsock");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, vsock_set_up, vsock_tear_down);
	tcase_add_test(tc, guest_to_host);
	tcase_add_test(tc, host_speaks_first);
	tcase_add_test(tc, host_to_guest);
	tcase_add_test(tc, host_is_refused);
	tcase_add_loop_test(tc, wrong_lines, 0, 8);
	tcase_add_test(tc, guest_is_refused);
	tcase_add_test(tc, credit_of_the_guest);
	tcase_add_test(tc, credit_of_the_host);
	tcase_add_test(tc, guest_sends_too_much);
	suite_add_tcase(suite, tc);
	return suite;
}
