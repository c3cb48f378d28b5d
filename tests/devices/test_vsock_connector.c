/* virtio-vsock: a connector that lies, and sockets that somebody else holds. */
#include <sys/socket.h>
#include <unistd.h>

#include "tests/devices/vsock_rig.h"

/* The lowest descriptor that is free. */
static int free_fd(void)
{
	int fd = dup(vsock_listener);

	close(fd);
	return fd;
}

START_TEST(more_sockets_than_due)
{
	int before = free_fd(), fd = guest_connects_as(1, 2, TWO);

	send_op(1, 2, VIRTIO_VSOCK_OP_RST);
	close(fd);
	ck_assert_int_eq(free_fd(), before);
}
END_TEST

/* Data of a connection until its socket takes no more. */
static void send_until_it_waits(uint32_t guest, uint32_t host)
{
	static const char data[16384];
	unsigned before = atomic_load(&vsock_waits);

	while (atomic_load(&vsock_waits) == before)
		send_packet(packet(guest, host, VIRTIO_VSOCK_OP_RW, 0), data, sizeof(data));
}

/* What the connector keeps of a connection that is gone is no work for ever. */
START_TEST(socket_that_is_kept)
{
	static char data[16384];
	int fd = guest_connects_as(1, 2, KEPT), second;

	give_buffer(RX_LEN); /* or nobody would look */
	/* Dropped while it is watched for reading; then it has something. */
	send_op(1, 2, VIRTIO_VSOCK_OP_RST);
	ck_assert_int_eq(send(fd, "x", 1, 0), 1);
	ck_assert(rig_wait_idle());
	start_driver();
	close(fd);
	close(kept_socket);
	/* The same for room, with another connection that waits for it. */
	second = guest_connects(5, 6);
	fd = guest_connects_as(3, 4, KEPT);
	send_until_it_waits(3, 4);
	send_op(3, 4, VIRTIO_VSOCK_OP_RST);
	send_until_it_waits(5, 6);
	while (recv(fd, data, sizeof(data), MSG_DONTWAIT) > 0)
		;
	ck_assert(rig_wait_idle());
	start_driver();
	close(fd);
	close(kept_socket);
	close(second);
	/* Nobody else is worse off. */
	fd = guest_connects(7, 8);
	give_buffer(RX_LEN);
	ck_assert_int_eq(send(fd, "y", 1, 0), 1);
	expect_packet(7, 8, VIRTIO_VSOCK_OP_RW, data);
	ck_assert_int_eq(data[0], 'y');
	close(fd);
}
END_TEST

/* Half a record ends the connector; what came with it is closed. */
START_TEST(socket_with_half_a_record)
{
	int fd;
	char c;

	send_op(1, 2, VIRTIO_VSOCK_OP_REQUEST);
	fd = connect_as(2, SHORT);
	give_buffer(RX_LEN);
	expect_packet(1, 2, VIRTIO_VSOCK_OP_RST, NULL);
	ck_assert_int_eq(recv(fd, &c, 1, 0), 0);
	close(fd);
}
END_TEST

/* The device waits in neither direction, so a reset gets through. */
START_TEST(socket_that_blocks)
{
	static char data[16384];
	int fd = guest_connects_as(1, 2, BLOCKING);
	char back[1];

	give_buffer(RX_LEN);
	give_buffer(RX_LEN);
	ck_assert_int_eq(send(fd, "x", 1, 0), 1);
	expect_packet(1, 2, VIRTIO_VSOCK_OP_RW, back);
	start_driver();
	close(fd);
	fd = guest_connects_as(1, 2, BLOCKING);
	for (unsigned i = 0; i < 64; i++)
		send_packet(packet(1, 2, VIRTIO_VSOCK_OP_RW, 0), data, sizeof(data));
	start_driver();
	close(fd);
}
END_TEST

static void set_up_blocking(void)
{
	vsock_connector_blocks = true;
	vsock_set_up();
}

/* It reads nothing; whoever has the socket, too, may have taken O_NONBLOCK from it. */
START_TEST(connector_that_blocks)
{
	for (unsigned i = 0; i < 20; i++) {
		send_op(1, 2, VIRTIO_VSOCK_OP_REQUEST);
		send_op(1, 2, VIRTIO_VSOCK_OP_RST);
	}
	start_driver();
}
END_TEST

Suite *vsock_connector_suite(void)
{
	Suite *suite = suite_create("virtio-vsock, connector");
	TCase *tc = tcase_create("virtio-vsock, connector");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, vsock_set_up, vsock_tear_down);
	tcase_add_test(tc, more_sockets_than_due);
	tcase_add_test(tc, socket_that_is_kept);
	tcase_add_test(tc, socket_with_half_a_record);
	tcase_add_test(tc, socket_that_blocks);
	suite_add_tcase(suite, tc);
	tc = tcase_create("virtio-vsock, a connector that blocks");
	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, set_up_blocking, vsock_tear_down);
	tcase_add_test(tc, connector_that_blocks);
	suite_add_tcase(suite, tc);
	return suite;
}
