#include "tests/devices/vsock_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/vsock_connector.h"

struct rig vsock_rig;
static struct sockaddr_un address;
int vsock_listener, vsock_connector;
bool vsock_connector_blocks;
static unsigned rx_buffers; /* offered so far */

void start_driver(void)
{
	rig_start_all(&vsock_rig, VERSION_1, RING, 3);
	rx_buffers = 0;
}

void vsock_set_up(void)
{
	const int little = 1;
	struct device *dev;
	int pair[2];

	rig_init(&vsock_rig);
	/* An abstract name: there is nothing to remove. */
	address = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "foal-test-%d", getpid());
	vsock_listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(vsock_listener, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(vsock_listener, 16), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	if (vsock_connector_blocks)
		setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &little, sizeof(little));
	else
		fcntl(pair[0], F_SETFL, O_NONBLOCK);
	vsock_connector = pair[1];
	ck_assert_int_eq(
	    virtio_vsock_create(&vsock_rig.host, RIG_PIN, CID, vsock_listener, pair[0], &dev), 0);
	close(pair[0]);
	rig_attach(&vsock_rig, dev);
	start_driver();
}

void vsock_tear_down(void)
{
	rig_fini(&vsock_rig);
	close(vsock_listener);
	close(vsock_connector);
}

/* --- the guest -------------------------------------------------------------------------- */

void give_buffer(uint32_t len)
{
	unsigned slot = rx_buffers++ % RING;

	rig_select(&vsock_rig, RX);
	rig_desc(&vsock_rig, slot, RX_AT + slot * RX_LEN, len, WRITE, 0);
	rig_offer(&vsock_rig, (uint16_t)slot);
	rig_notify(&vsock_rig);
}

struct virtio_vsock_hdr packet(uint32_t guest, uint32_t host, uint16_t op, uint32_t len)
{
	return (struct virtio_vsock_hdr){.src_cid = CID,
					 .dst_cid = 2,
					 .src_port = guest,
					 .dst_port = host,
					 .len = len,
					 .type = VIRTIO_VSOCK_TYPE_STREAM,
					 .op = op,
					 .buf_alloc = CREDIT};
}

void offer_packet(struct virtio_vsock_hdr hdr, const void *data, uint32_t chain_len)
{
	rig_select(&vsock_rig, TX);
	memcpy(vsock_rig.memory->bytes + TX_AT, &hdr, HEADER);
	if (data)
		memcpy(vsock_rig.memory->bytes + TX_AT + HEADER, data, chain_len - HEADER);
	rig_desc(&vsock_rig, 0, TX_AT, chain_len, 0, 0);
	rig_offer(&vsock_rig, 0);
	rig_notify(&vsock_rig);
}

void send_packet(struct virtio_vsock_hdr hdr, const void *data, uint32_t len)
{
	struct vring_used_elem elem;

	hdr.len = len;
	offer_packet(hdr, data, HEADER + len);
	ck_assert(rig_wait_used(&vsock_rig, &elem));
}

void send_op(uint32_t guest, uint32_t host, uint16_t op)
{
	send_packet(packet(guest, host, op, 0), NULL, 0);
}

struct virtio_vsock_hdr expect_packet(uint32_t guest, uint32_t host, uint16_t op, void *data)
{
	struct virtio_vsock_hdr hdr;
	struct vring_used_elem elem;

	rig_select(&vsock_rig, RX);
	ck_assert_msg(rig_wait_used(&vsock_rig, &elem), "no packet");
	memcpy(&hdr, vsock_rig.memory->bytes + RX_AT + elem.id * RX_LEN, HEADER);
	ck_assert_uint_eq(hdr.src_cid, 2);
	ck_assert_uint_eq(hdr.dst_cid, CID);
	ck_assert_uint_eq(hdr.type, VIRTIO_VSOCK_TYPE_STREAM);
	ck_assert_uint_eq(hdr.op, op);
	ck_assert_uint_eq(hdr.dst_port, guest);
	if (host)
		ck_assert_uint_eq(hdr.src_port, host);
	ck_assert_uint_eq(elem.len, HEADER + hdr.len);
	if (data)
		memcpy(data, vsock_rig.memory->bytes + RX_AT + elem.id * RX_LEN + HEADER, hdr.len);
	return hdr;
}

/* --- the host ------------------------------------------------------------------------------- */

int kept_socket = -1;

int connect_as(uint32_t port, enum answer how)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} control = {0};
	bool refuse = how == REFUSE;
	size_t nr = how == TWO ? 2 : 1;
	struct vsock_answer answer = {.error = refuse ? -ECONNREFUSED : 0};
	struct iovec iov = {&answer, sizeof(answer)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct vsock_ask ask;
	int pair[2] = {-1, -1};

	ck_assert_int_eq(recv(vsock_connector, &ask, sizeof(ask), MSG_WAITALL), sizeof(ask));
	ck_assert_uint_eq(ask.port, port);
	answer.tag = ask.tag;
	if (!refuse) {
		struct cmsghdr *cmsg;

		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		if (how != BLOCKING)
			fcntl(pair[0], F_SETFL, O_NONBLOCK);
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(nr * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&msg);
		ck_assert_ptr_nonnull(cmsg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(nr * sizeof(int));
		for (size_t i = 0; i < nr; i++)
			memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &pair[0], sizeof(int));
	}
	if (how == SHORT)
		iov.iov_len /= 2;
	ck_assert_int_eq(sendmsg(vsock_connector, &msg, MSG_NOSIGNAL), (ssize_t)iov.iov_len);
	if (how == KEPT)
		kept_socket = pair[0];
	else if (!refuse)
		close(pair[0]);
	return pair[1];
}

int guest_connects_as(uint32_t guest, uint32_t host, enum answer how)
{
	int fd;

	give_buffer(RX_LEN);
	send_op(guest, host, VIRTIO_VSOCK_OP_REQUEST);
	fd = connect_as(host, how);
	ck_assert_uint_eq(expect_packet(guest, host, VIRTIO_VSOCK_OP_RESPONSE, NULL).buf_alloc,
			  CREDIT);
	return fd;
}

int guest_connects(uint32_t guest, uint32_t host)
{
	return guest_connects_as(guest, host, CONNECTED);
}

int host_connects(const char *line)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(send(fd, line, strlen(line), MSG_NOSIGNAL), (ssize_t)strlen(line));
	return fd;
}

/* --- what the device watches ------------------------------------------------------------- */

atomic_uint vsock_vcpu_epolls;
atomic_uint vsock_waits;

/* Stands before the C library's. */
int epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
	if (getpid() == (pid_t)syscall(SYS_gettid))
		atomic_fetch_add(&vsock_vcpu_epolls, 1);
	if (op == EPOLL_CTL_ADD && event->events & EPOLLOUT)
		atomic_fetch_add(&vsock_waits, 1);
	return (int)syscall(SYS_epoll_ctl, epoll, op, fd, event);
}
