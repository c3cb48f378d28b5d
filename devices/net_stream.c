/*
 * A stream socket to a helper such as passt: each frame comes after its length,
 * 32 bits, big-endian. The helper knows no offloads, and its frames no header.
 * What it says is not trusted: a length that no frame has ends the link.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/net_link.h"

#define PREFIX	sizeof(uint32_t)
#define IN_SIZE (4 * (PREFIX + NET_FRAME_MAX))

struct net_stream {
	struct net_link link;
	size_t in_at, in_end;	/* received, not yet taken, in @in */
	size_t out_at, out_end; /* of a frame that the socket took a part of */
	uint8_t in[IN_SIZE];
	uint8_t out[PREFIX + NET_FRAME_MAX];
};

static struct net_stream *stream_of(struct net_link *link)
{
	return (struct net_stream *)link;
}

/* --- in -------------------------------------------------------------------------------- */

/* The length of the frame at the front if all of it is there, else -EAGAIN; -EPROTO. */
static ssize_t front(const struct net_stream *s)
{
	size_t have = s->in_end - s->in_at;
	uint32_t len;

	if (have < PREFIX)
		return -EAGAIN;
	memcpy(&len, s->in + s->in_at, PREFIX);
	len = ntohl(len);
	if (len < NET_FRAME_MIN || len > NET_FRAME_MAX)
		return -EPROTO;
	return have - PREFIX < len ? -EAGAIN : (ssize_t)len;
}

/* Read more behind what is there. Less than a frame is, so there is room. */
static int fill(struct net_stream *s)
{
	ssize_t n;

	memmove(s->in, s->in + s->in_at, s->in_end - s->in_at);
	s->in_end -= s->in_at;
	s->in_at = 0;
	do
		n = recv(s->link.fd, s->in + s->in_end, IN_SIZE - s->in_end, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n == 0)
		return -EPIPE;
	s->in_end += (size_t)n;
	return 0;
}

static void scatter(const struct iovec *iov, int nr, const uint8_t *data, size_t len)
{
	static const uint8_t header[NET_HEADER];
	size_t ahead = sizeof(header);

	for (int i = 0; i < nr && ahead + len > 0; i++) {
		uint8_t *to = iov[i].iov_base;
		size_t room = iov[i].iov_len, n = ahead < room ? ahead : room;

		memcpy(to, header, n);
		ahead -= n;
		room -= n;
		to += n;
		n = len < room ? len : room;
		memcpy(to, data, n);
		data += n;
		len -= n;
	}
}

static ssize_t stream_receive(struct net_link *link, const struct iovec *iov, int nr)
{
	struct net_stream *s = stream_of(link);
	ssize_t len;

	while ((len = front(s)) == -EAGAIN) {
		int rc = fill(s);

		if (rc)
			return rc;
	}
	if (len < 0)
		return len;
	scatter(iov, nr, s->in + s->in_at + PREFIX, (size_t)len);
	s->in_at += PREFIX + (size_t)len;
	return NET_HEADER + len;
}

/* --- out ------------------------------------------------------------------------------- */

static int stream_flush(struct net_link *link)
{
	struct net_stream *s = stream_of(link);

	while (s->out_at < s->out_end) {
		ssize_t n = send(s->link.fd, s->out + s->out_at, s->out_end - s->out_at,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		s->out_at += (size_t)n;
	}
	s->out_at = s->out_end = 0;
	s->link.unsent = false;
	return 0;
}

/* Keep what the socket did not take: all but the first @sent bytes. */
static void keep(struct net_stream *s, const struct iovec *iov, int nr, size_t sent)
{
	for (int i = 0; i < nr; i++) {
		size_t skip = sent < iov[i].iov_len ? sent : iov[i].iov_len;
		size_t len = iov[i].iov_len - skip;

		sent -= skip;
		if (len == 0)
			continue;
		memcpy(s->out + s->out_end, (const uint8_t *)iov[i].iov_base + skip, len);
		s->out_end += len;
	}
	s->link.unsent = s->out_end > 0;
}

static int stream_send(struct net_link *link, struct iovec *iov, int nr, size_t len)
{
	struct net_stream *s = stream_of(link);
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)nr};
	uint32_t prefix = htonl((uint32_t)len);
	ssize_t n;
	int rc = stream_flush(link);

	if (rc)
		return rc;
	iov[0] = (struct iovec){&prefix, PREFIX};
	do
		n = sendmsg(s->link.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	keep(s, iov, nr, (size_t)n);
	return 0;
}

/* --- its life -------------------------------------------------------------------------- */

static void stream_attach(struct net_link *link, unsigned offloads)
{
	(void)link, (void)offloads;
}

static void stream_close(struct net_link *link)
{
	close(link->fd);
	free(stream_of(link));
}

static const struct net_link_ops stream_ops = {
    .receive = stream_receive,
    .send = stream_send,
    .flush = stream_flush,
    .attach = stream_attach,
    .close = stream_close,
};

int net_stream_open(int fd, struct net_link **out)
{
	struct net_stream *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->link = (struct net_link){.ops = &stream_ops};
	s->link.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (s->link.fd < 0) {
		int rc = -errno;

		free(s);
		return rc;
	}
	*out = &s->link;
	return 0;
}
