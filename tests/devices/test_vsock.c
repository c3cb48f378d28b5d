/* virtio-vsock: a driver that says anything, and both ends on the host. */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_vsock.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/vsock_connector.h"
#include "tests/devices/rig.h"

#define WRITE  VRING_DESC_F_WRITE
#define NEXT   VRING_DESC_F_NEXT
#define CID    42
#define HEADER sizeof(struct virtio_vsock_hdr)
/* Where packets come from and go to; receive buffers are a page apart. */
#define TX_AT  0x200000UL
#define RX_AT  0x300000UL
#define RX_LEN 4096
#define RING   128
#define CREDIT 65536u

enum { RX, TX, EVENT };

static struct rig rig;
static struct sockaddr_un address;
static int listener, connector; /* the connector's own end */
static unsigned rx_buffers;	/* offered so far */

static void start(void)
{
	rig_start_all(&rig, VERSION_1, RING, 3);
	rx_buffers = 0;
}

static void set_up(void)
{
	struct device *dev;
	int pair[2];

	rig_init(&rig);
	/* An abstract name: there is nothing to remove. */
	address = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "foal-test-%d", getpid());
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(listener, 16), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	connector = pair[1];
	ck_assert_int_eq(virtio_vsock_create(&rig.host, RIG_PIN, CID, listener, pair[0], &dev), 0);
	close(pair[0]);
	rig_attach(&rig, dev);
	start();
}

static void tear_down(void)
{
	rig_fini(&rig);
	close(listener);
	close(connector);
}

/* --- the guest -------------------------------------------------------------------------- */

/* Have one more buffer to receive into. */
static void give_buffer(uint32_t len)
{
	unsigned slot = rx_buffers++ % RING;

	rig_select(&rig, RX);
	rig_desc(&rig, slot, RX_AT + slot * RX_LEN, len, WRITE, 0);
	rig_offer(&rig, (uint16_t)slot);
	rig_notify(&rig);
}

static struct virtio_vsock_hdr header(uint32_t guest, uint32_t host, uint16_t op, uint32_t len)
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

/* Offer a packet of @chain_len bytes, whatever it says of itself. */
static void offer(struct virtio_vsock_hdr hdr, const void *data, uint32_t chain_len)
{
	rig_select(&rig, TX);
	memcpy(rig.memory->bytes + TX_AT, &hdr, HEADER);
	if (data)
		memcpy(rig.memory->bytes + TX_AT + HEADER, data, chain_len - HEADER);
	rig_desc(&rig, 0, TX_AT, chain_len, 0, 0);
	rig_offer(&rig, 0);
	rig_notify(&rig);
}

static void send_hdr(struct virtio_vsock_hdr hdr, const void *data, uint32_t len)
{
	struct vring_used_elem elem;

	hdr.len = len;
	offer(hdr, data, HEADER + len);
	ck_assert(rig_wait_used(&rig, &elem));
}

static void send_op(uint32_t guest, uint32_t host, uint16_t op)
{
	send_hdr(header(guest, host, op, 0), NULL, 0);
}

/* The next packet for the guest, which has to be of this connection and operation. */
static struct virtio_vsock_hdr expect(uint32_t guest, uint32_t host, uint16_t op, void *data)
{
	struct virtio_vsock_hdr hdr;
	struct vring_used_elem elem;

	rig_select(&rig, RX);
	ck_assert_msg(rig_wait_used(&rig, &elem), "no packet");
	memcpy(&hdr, rig.memory->bytes + RX_AT + elem.id * RX_LEN, HEADER);
	ck_assert_uint_eq(hdr.src_cid, 2);
	ck_assert_uint_eq(hdr.dst_cid, CID);
	ck_assert_uint_eq(hdr.type, VIRTIO_VSOCK_TYPE_STREAM);
	ck_assert_uint_eq(hdr.op, op);
	ck_assert_uint_eq(hdr.dst_port, guest);
	if (host)
		ck_assert_uint_eq(hdr.src_port, host);
	ck_assert_uint_eq(elem.len, HEADER + hdr.len);
	if (data)
		memcpy(data, rig.memory->bytes + RX_AT + elem.id * RX_LEN + HEADER, hdr.len);
	return hdr;
}

/* --- the host ------------------------------------------------------------------------------- */

/* How the connector answers. */
enum answer {
	REFUSE,
	CONNECTED,
	BLOCKING, /* a socket on which reads and writes wait */
	TWO,	  /* two sockets where one is due */
	KEPT,	  /* the connector keeps its own descriptor of the socket */
	SHORT,	  /* a socket with half a record */
};

static int kept = -1;

/* Answer what the device asks the connector: the other end of the socket it gets, or -1. */
static int connect_as(uint32_t port, enum answer how)
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

	ck_assert_int_eq(recv(connector, &ask, sizeof(ask), MSG_WAITALL), sizeof(ask));
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
	ck_assert_int_eq(sendmsg(connector, &msg, MSG_NOSIGNAL), (ssize_t)iov.iov_len);
	if (how == KEPT)
		kept = pair[0];
	else if (!refuse)
		close(pair[0]);
	return pair[1];
}

static int connect_for(uint32_t port, bool refuse)
{
	return connect_as(port, refuse ? REFUSE : CONNECTED);
}

/* A connection that the guest began, from its port to the host's. */
static int guest_connects_as(uint32_t guest, uint32_t host, enum answer how)
{
	int fd;

	give_buffer(RX_LEN);
	send_op(guest, host, VIRTIO_VSOCK_OP_REQUEST);
	fd = connect_as(host, how);
	ck_assert_uint_eq(expect(guest, host, VIRTIO_VSOCK_OP_RESPONSE, NULL).buf_alloc, CREDIT);
	return fd;
}

static int guest_connects(uint32_t guest, uint32_t host)
{
	return guest_connects_as(guest, host, CONNECTED);
}

static int client(const char *line)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(send(fd, line, strlen(line), MSG_NOSIGNAL), (ssize_t)strlen(line));
	return fd;
}

/* --- sound connections ------------------------------------------------------------------------ */

START_TEST(guest_to_host)
{
	char data[16] = "";
	int fd = guest_connects(1000, 80);

	send_hdr(header(1000, 80, VIRTIO_VSOCK_OP_RW, 5), "hello", 5);
	ck_assert_int_eq(recv(fd, data, 5, MSG_WAITALL), 5);
	ck_assert_str_eq(data, "hello");
	ck_assert_int_eq(send(fd, "world!", 6, 0), 6);
	give_buffer(RX_LEN);
	ck_assert_uint_eq(expect(1000, 80, VIRTIO_VSOCK_OP_RW, data).fwd_cnt, 5);
	ck_assert_mem_eq(data, "world!", 6);
	/* Half closed by the host: the guest may still send. */
	shutdown(fd, SHUT_WR);
	give_buffer(RX_LEN);
	ck_assert_uint_eq(expect(1000, 80, VIRTIO_VSOCK_OP_SHUTDOWN, NULL).flags,
			  VIRTIO_VSOCK_SHUTDOWN_SEND);
	send_hdr(header(1000, 80, VIRTIO_VSOCK_OP_RW, 3), "bye", 3);
	ck_assert_int_eq(recv(fd, data, 3, MSG_WAITALL), 3);
	/* Closed by the guest: answered with a reset. */
	struct virtio_vsock_hdr end = header(1000, 80, VIRTIO_VSOCK_OP_SHUTDOWN, 0);
	end.flags = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND;
	send_hdr(end, NULL, 0);
	ck_assert_int_eq(recv(fd, data, 1, 0), 0);
	give_buffer(RX_LEN);
	expect(1000, 80, VIRTIO_VSOCK_OP_RST, NULL);
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
	ck_assert_uint_eq(expect(1000, 25, VIRTIO_VSOCK_OP_RW, data).len, 4);
	ck_assert_mem_eq(data, "220 ", 4);
	close(fd);
}
END_TEST

START_TEST(host_to_guest)
{
	int fd = client("CONNECT 1234\nearly");
	struct virtio_vsock_hdr hdr;
	char line[32] = "", data[8];

	give_buffer(RX_LEN);
	hdr = expect(1234, 0, VIRTIO_VSOCK_OP_REQUEST, NULL);
	ck_assert_uint_ge(hdr.src_port, 1u << 30);
	give_buffer(RX_LEN);
	send_op(1234, hdr.src_port, VIRTIO_VSOCK_OP_RESPONSE);
	snprintf(data, sizeof(data), "x");
	ck_assert_int_ge(recv(fd, line, sizeof(line) - 1, 0), 4);
	snprintf(line + 16, 16, "OK %u\n", hdr.src_port);
	ck_assert_str_eq(line, line + 16);
	/* What the client sent behind its line comes after the guest agreed. */
	ck_assert_uint_eq(expect(1234, hdr.src_port, VIRTIO_VSOCK_OP_RW, data).len, 5);
	ck_assert_mem_eq(data, "early", 5);
	/* Closed altogether. */
	close(fd);
	give_buffer(RX_LEN);
	ck_assert_uint_eq(expect(1234, hdr.src_port, VIRTIO_VSOCK_OP_SHUTDOWN, NULL).flags,
			  VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND);
	send_op(1234, hdr.src_port, VIRTIO_VSOCK_OP_RST);
	ck_assert_ptr_null(device_broken(rig.dev));
}
END_TEST

/* The guest says that nobody listens there. */
START_TEST(host_is_refused)
{
	int fd = client("CONNECT 7\n");
	struct virtio_vsock_hdr hdr;
	char c;

	give_buffer(RX_LEN);
	hdr = expect(7, 0, VIRTIO_VSOCK_OP_REQUEST, NULL);
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
	int fd = client(lines[_i]);
	char c;

	give_buffer(RX_LEN);
	ck_assert_int_le(recv(fd, &c, 1, 0), 0);
	close(fd);
	/* The next is served. */
	fd = client("CONNECT 8\n");
	expect(8, 0, VIRTIO_VSOCK_OP_REQUEST, NULL);
	close(fd);
}
END_TEST

START_TEST(guest_is_refused)
{
	give_buffer(RX_LEN);
	send_op(5, 6, VIRTIO_VSOCK_OP_REQUEST);
	ck_assert_int_eq(connect_for(6, true), -1);
	expect(5, 6, VIRTIO_VSOCK_OP_RST, NULL);
	/* Without a connector, at once. */
	shutdown(connector, SHUT_RDWR);
	give_buffer(RX_LEN);
	send_op(5, 7, VIRTIO_VSOCK_OP_REQUEST);
	expect(5, 7, VIRTIO_VSOCK_OP_RST, NULL);
}
END_TEST

/* --- credit -------------------------------------------------------------------------------------
 */

/* The guest has room for ten bytes, then for what it says it has taken. */
START_TEST(credit_of_the_guest)
{
	struct virtio_vsock_hdr hdr = header(1, 2, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
	int fd = guest_connects(1, 2);
	char data[32];

	hdr.buf_alloc = 10;
	send_hdr(hdr, NULL, 0);
	ck_assert_int_eq(send(fd, "0123456789abcdef", 16, 0), 16);
	give_buffer(RX_LEN);
	ck_assert_uint_eq(expect(1, 2, VIRTIO_VSOCK_OP_RW, data).len, 10);
	give_buffer(RX_LEN);
	ck_assert(rig_wait_idle());
	ck_assert_uint_eq(rig.memory->bytes[RIG_USED + 2], 2);
	hdr.fwd_cnt = 4;
	send_hdr(hdr, NULL, 0);
	ck_assert_uint_eq(expect(1, 2, VIRTIO_VSOCK_OP_RW, data).len, 4);
	ck_assert_mem_eq(data, "abcd", 4);
	/* Figures that make no sense are no credit. */
	hdr.fwd_cnt = 4000;
	send_hdr(hdr, NULL, 0);
	give_buffer(RX_LEN);
	ck_assert(rig_wait_idle());
	ck_assert_uint_eq(rig.memory->bytes[RIG_USED + 2], 3);
	hdr.fwd_cnt = 14;
	send_hdr(hdr, NULL, 0);
	ck_assert_uint_eq(expect(1, 2, VIRTIO_VSOCK_OP_RW, data).len, 2);
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
		send_hdr(header(1, 2, VIRTIO_VSOCK_OP_RW, 0), data, sizeof(data));
	while (got < sent) {
		ck_assert_int_eq(recv(fd, back, sizeof(back), MSG_WAITALL), sizeof(back));
		ck_assert_mem_eq(back, data, sizeof(data));
		got += sizeof(back);
	}
	give_buffer(RX_LEN);
	ck_assert_uint_gt(expect(1, 2, VIRTIO_VSOCK_OP_CREDIT_UPDATE, NULL).fwd_cnt, 0);
	give_buffer(RX_LEN);
	send_op(1, 2, VIRTIO_VSOCK_OP_CREDIT_REQUEST);
	while (expect(1, 2, VIRTIO_VSOCK_OP_CREDIT_UPDATE, NULL).fwd_cnt != CREDIT)
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
		send_hdr(header(1, 2, VIRTIO_VSOCK_OP_RW, 0), data, sizeof(data));
	for (unsigned i = 0; i < 100; i++) {
		struct virtio_vsock_hdr hdr;
		struct vring_used_elem elem;

		give_buffer(RX_LEN);
		ck_assert(rig_wait_used(&rig, &elem));
		memcpy(&hdr, rig.memory->bytes + RX_AT + elem.id * RX_LEN, HEADER);
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

/* --- what no driver would send
 * -------------------------------------------------------------------- */

START_TEST(packets_of_nothing)
{
	static const uint16_t ops[] = {VIRTIO_VSOCK_OP_INVALID,	       VIRTIO_VSOCK_OP_RESPONSE,
				       VIRTIO_VSOCK_OP_SHUTDOWN,       VIRTIO_VSOCK_OP_RW,
				       VIRTIO_VSOCK_OP_CREDIT_REQUEST, 99};
	struct virtio_vsock_hdr hdr;

	for (unsigned i = 0; i < sizeof(ops) / sizeof(*ops); i++) {
		give_buffer(RX_LEN);
		send_op(i, 3, ops[i]);
		expect(i, 3, VIRTIO_VSOCK_OP_RST, NULL);
	}
	send_op(1, 3, VIRTIO_VSOCK_OP_RST); /* not answered */
	give_buffer(RX_LEN);
	hdr = header(1, 4, VIRTIO_VSOCK_OP_REQUEST, 0);
	hdr.src_cid = 7;
	send_hdr(hdr, NULL, 0);
	expect(1, 4, VIRTIO_VSOCK_OP_RST, NULL);
	give_buffer(RX_LEN);
	hdr = header(1, 5, VIRTIO_VSOCK_OP_REQUEST, 0);
	hdr.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	send_hdr(hdr, NULL, 0);
	expect(1, 5, VIRTIO_VSOCK_OP_RST, NULL);
	give_buffer(RX_LEN);
	hdr = header(1, 6, VIRTIO_VSOCK_OP_REQUEST, 0);
	hdr.dst_cid = 3;
	send_hdr(hdr, NULL, 0);
	expect(1, 6, VIRTIO_VSOCK_OP_RST, NULL);
}
END_TEST

START_TEST(requested_twice)
{
	int fd = guest_connects(1, 2);
	char c;

	give_buffer(RX_LEN);
	send_op(1, 2, VIRTIO_VSOCK_OP_REQUEST);
	expect(1, 2, VIRTIO_VSOCK_OP_RST, NULL);
	ck_assert_int_eq(recv(fd, &c, 1, 0), 0);
	close(fd);
}
END_TEST

/* More refusals than are kept: the queue waits for the guest's buffers, and goes on. */
static void offer_strays(unsigned nr)
{
	rig_select(&rig, TX);
	for (unsigned i = 0; i < nr; i++) {
		struct virtio_vsock_hdr hdr = header(i, 9, VIRTIO_VSOCK_OP_RW, 0);

		memcpy(rig.memory->bytes + TX_AT + i * 64, &hdr, HEADER);
		rig_desc(&rig, i, TX_AT + i * 64, HEADER, 0, 0);
		rig_offer(&rig, (uint16_t)i);
	}
	rig_notify(&rig);
}

START_TEST(refusals_without_buffers)
{
	unsigned resets = 0;

	offer_strays(100);
	for (unsigned i = 0; i < 100; i++) {
		struct vring_used_elem elem;
		uint16_t op;

		give_buffer(RX_LEN);
		ck_assert(rig_wait_used(&rig, &elem));
		memcpy(&op,
		       rig.memory->bytes + RX_AT + elem.id * RX_LEN +
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

		rig_select(&rig, RX);
		ck_assert_msg(rig_wait_used(&rig, &elem), "%u refusals", i);
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
	expect(256, 1, VIRTIO_VSOCK_OP_RST, NULL);
	send_op(17, 1, VIRTIO_VSOCK_OP_RST);
	send_op(256, 1, VIRTIO_VSOCK_OP_REQUEST);
	give_buffer(RX_LEN);
	close(connect_for(1, false));
	expect(0, 1, VIRTIO_VSOCK_OP_RESPONSE, NULL);
}
END_TEST

static void expect_broken(const char *why)
{
	ck_assert(rig_wait_broken(&rig));
	ck_assert_str_eq(device_broken(rig.dev), why);
	start();
}

START_TEST(broken_packets)
{
	offer(header(1, 2, VIRTIO_VSOCK_OP_RW, 0), NULL, HEADER - 1);
	expect_broken("a vsock packet lacks its header");
	offer(header(1, 2, VIRTIO_VSOCK_OP_RW, 100), NULL, HEADER + 99);
	expect_broken("a vsock packet is shorter than it says");
	offer(header(1, 2, VIRTIO_VSOCK_OP_RW, UINT32_MAX), NULL, HEADER);
	expect_broken("a vsock packet is shorter than it says");
	give_buffer(HEADER);
	expect_broken("a vsock buffer has no room for a packet");
	rig_select(&rig, RX);
	rig_desc(&rig, 0, RIG_OUTSIDE, RX_LEN, WRITE, 0);
	rig_offer(&rig, 0);
	rig_notify(&rig);
	offer(header(1, 2, VIRTIO_VSOCK_OP_RW, 0), NULL, HEADER);
	expect_broken("a vsock buffer lies outside of guest memory");
}
END_TEST

/* A reset drops every connection; the device is as new. */
START_TEST(reset_drops_all)
{
	int fd = guest_connects(1, 2);
	char c;

	start();
	ck_assert_int_eq(recv(fd, &c, 1, 0), 0);
	close(fd);
	fd = guest_connects(1, 2);
	close(fd);
}
END_TEST

/* Stands before the C library's: a vCPU, which is this thread, may make no such call. */
static atomic_uint vcpu_epolls;
/* How many times a connection was watched for room. */
static atomic_uint waiting;

int epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
	if (getpid() == (pid_t)syscall(SYS_gettid))
		atomic_fetch_add(&vcpu_epolls, 1);
	if (op == EPOLL_CTL_ADD && event->events & EPOLLOUT)
		atomic_fetch_add(&waiting, 1);
	return (int)syscall(SYS_epoll_ctl, epoll, op, fd, event);
}

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
	expect(256, 1, VIRTIO_VSOCK_OP_RST, NULL);
	atomic_store(&vcpu_epolls, 0);
	start();
	ck_assert_uint_eq(atomic_load(&vcpu_epolls), 0);
	fd = client("CONNECT 9\n");
	give_buffer(RX_LEN);
	hdr = expect(9, 0, VIRTIO_VSOCK_OP_REQUEST, NULL);
	ck_assert_uint_ge(hdr.src_port, 1u << 30);
	close(fd);
}
END_TEST

/* --- a connector that lies ------------------------------------------------------------------- */

/* The lowest descriptor that is free. */
static int free_fd(void)
{
	int fd = dup(listener);

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
	unsigned before = atomic_load(&waiting);

	while (atomic_load(&waiting) == before)
		send_hdr(header(guest, host, VIRTIO_VSOCK_OP_RW, 0), data, sizeof(data));
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
	start();
	close(fd);
	close(kept);
	/* The same for room, with another connection that waits for it. */
	second = guest_connects(5, 6);
	fd = guest_connects_as(3, 4, KEPT);
	send_until_it_waits(3, 4);
	send_op(3, 4, VIRTIO_VSOCK_OP_RST);
	send_until_it_waits(5, 6);
	while (recv(fd, data, sizeof(data), MSG_DONTWAIT) > 0)
		;
	ck_assert(rig_wait_idle());
	start();
	close(fd);
	close(kept);
	close(second);
	/* Nobody else is worse off. */
	fd = guest_connects(7, 8);
	give_buffer(RX_LEN);
	ck_assert_int_eq(send(fd, "y", 1, 0), 1);
	expect(7, 8, VIRTIO_VSOCK_OP_RW, data);
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
	expect(1, 2, VIRTIO_VSOCK_OP_RST, NULL);
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
	expect(1, 2, VIRTIO_VSOCK_OP_RW, back);
	start();
	close(fd);
	fd = guest_connects_as(1, 2, BLOCKING);
	for (unsigned i = 0; i < 64; i++)
		send_hdr(header(1, 2, VIRTIO_VSOCK_OP_RW, 0), data, sizeof(data));
	start();
	close(fd);
}
END_TEST

Suite *vsock_suite(void)
{
	Suite *suite = suite_create("virtio-vsock");
	TCase *tc = tcase_create("virtio-vsock");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, guest_to_host);
	tcase_add_test(tc, host_speaks_first);
	tcase_add_test(tc, host_to_guest);
	tcase_add_test(tc, host_is_refused);
	tcase_add_loop_test(tc, wrong_lines, 0, 8);
	tcase_add_test(tc, guest_is_refused);
	tcase_add_test(tc, credit_of_the_guest);
	tcase_add_test(tc, credit_of_the_host);
	tcase_add_test(tc, guest_sends_too_much);
	tcase_add_test(tc, packets_of_nothing);
	tcase_add_test(tc, requested_twice);
	tcase_add_test(tc, refusals_without_buffers);
	tcase_add_test(tc, refusals_with_buffers);
	tcase_add_test(tc, full_table);
	tcase_add_test(tc, broken_packets);
	tcase_add_test(tc, reset_drops_all);
	tcase_add_test(tc, reset_of_a_full_table);
	tcase_add_test(tc, more_sockets_than_due);
	tcase_add_test(tc, socket_that_is_kept);
	tcase_add_test(tc, socket_with_half_a_record);
	tcase_add_test(tc, socket_that_blocks);
	suite_add_tcase(suite, tc);
	return suite;
}
