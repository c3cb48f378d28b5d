#include "vmm/control_streams.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/vm.h"

/* So many pieces of the log go to one, and then to the next. */
#define TURNS (CONSOLE_LOG_SIZE / sizeof(((struct stream_room *)0)->out))

void streams_init(struct streams *streams)
{
	for (int i = 0; i < CONTROL_STREAMS; i++)
		streams->list[i] = (struct stream){.fd = -1, .room = &streams->rooms[i]};
}

/* A client may pass any descriptor: only a socket can be told not to block by each call. */
static bool is_stream_socket(int fd)
{
	int type = 0;
	socklen_t len = sizeof(type);

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

struct stream *streams_place(struct streams *streams, int fd)
{
	if (!is_stream_socket(fd))
		return NULL;
	for (int i = 0; i < CONTROL_STREAMS; i++)
		if (streams->list[i].fd < 0)
			return &streams->list[i];
	return NULL;
}

void stream_begin(struct stream *s, int fd, uint64_t at)
{
	*s = (struct stream){.fd = fd, .at = at, .room = s->room};
}

void stream_type(struct stream *s, const void *data, size_t len)
{
	size_t room = sizeof(s->room->queue) - s->typed;

	len = len < room ? len : room;
	memcpy(s->room->queue + s->typed, data, len);
	s->typed += len;
}

static void drop(struct stream *s)
{
	close(s->fd);
	s->fd = -1;
}

void streams_let_go(struct streams *streams)
{
	for (int i = 0; i < CONTROL_STREAMS; i++)
		if (streams->list[i].fd >= 0)
			drop(&streams->list[i]);
}

/* --- from the guest ---------------------------------------------------------------------- */

/* False: gone. */
static bool send_out(struct stream *s)
{
	while (s->sent < s->left_of) {
		ssize_t n = send(s->fd, s->room->out + s->sent, s->left_of - s->sent,
				 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			s->behind = true;
			return true;
		}
		if (n <= 0) {
			drop(s);
			return false;
		}
		s->sent += (size_t)n;
	}
	s->sent = s->left_of = 0;
	s->behind = false;
	return true;
}

static void refill(struct stream *s, struct console_log *log)
{
	uint64_t lost;
	size_t note = 0;

	s->left_of = console_log_read(log, &s->at, s->room->out, sizeof(s->room->out) - 64, &lost);
	if (lost) {
		char text[64];

		note =
		    (size_t)snprintf(text, sizeof(text), "\r\n[%" PRIu64 " bytes lost]\r\n", lost);
		memmove(s->room->out + note, s->room->out, s->left_of);
		memcpy(s->room->out, text, note);
	}
	s->left_of += note;
}

/* Until there is no more, or the socket is full, or it is others' turn. */
static void follow(struct stream *s, struct console_log *log)
{
	for (int turn = 0; s->fd >= 0 && send_out(s) && !s->behind; turn++) {
		refill(s, log);
		if (s->left_of == 0)
			return;
		s->behind = turn == TURNS;
	}
}

/* --- to the guest ------------------------------------------------------------------------ */

static void listen_to(struct stream *s)
{
	ssize_t n =
	    recv(s->fd, s->room->queue + s->typed, sizeof(s->room->queue) - s->typed, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0)
		drop(s);
	else if (n == 0)
		s->deaf = true;
	else
		s->typed += (size_t)n;
}

static void type(struct stream *s, struct vm *vm)
{
	if (s->fd < 0 || s->typed == 0 || !quiesce_enter(&vm->quiesce))
		return;
	size_t taken = vm->hvc ? virtio_console_input(vm->hvc, s->room->queue, s->typed)
			       : serial_input(vm->serial, s->room->queue, s->typed);
	quiesce_leave(&vm->quiesce);
	s->typed -= taken;
	memmove(s->room->queue, s->room->queue + taken, s->typed);
}

/* --- all of them --------------------------------------------------------------------------- */

void streams_poll(const struct streams *streams, struct pollfd *fds)
{
	for (int i = 0; i < CONTROL_STREAMS; i++) {
		const struct stream *s = &streams->list[i];
		short events = s->behind ? POLLOUT : 0;

		if (!s->deaf && s->typed < sizeof(s->room->queue))
			events |= POLLIN;
		fds[i] = (struct pollfd){.fd = s->fd, .events = events};
	}
}

bool streams_move(struct streams *streams, struct console_log *log, struct vm *vm,
		  const struct pollfd *fds)
{
	bool left = false;

	for (int i = 0; i < CONTROL_STREAMS; i++) {
		struct stream *s = &streams->list[i];

		if (s->fd < 0)
			continue;
		bool ours = fds[i].fd == s->fd;
		if (ours && fds[i].revents & POLLIN && !s->deaf)
			listen_to(s);
		else if (ours && fds[i].revents & (POLLERR | POLLHUP | POLLNVAL))
			drop(s);
		type(s, vm);
		if (s->fd >= 0 && (!s->behind || (ours && fds[i].revents & POLLOUT)))
			follow(s, log);
		left |= s->fd >= 0 && s->typed > 0;
	}
	return left;
}

void streams_end(struct streams *streams, struct console_log *log)
{
	for (int i = 0; i < CONTROL_STREAMS; i++) {
		struct stream *s = &streams->list[i];

		follow(s, log);
		if (s->fd >= 0)
			drop(s);
	}
}
