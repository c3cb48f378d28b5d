/*
 * Who is attached to the console: bytes both ways over a socket, beginning with what
 * the log has. The control thread's alone. Private to vmm/.
 */
#ifndef FOAL_VMM_CONTROL_STREAMS_H
#define FOAL_VMM_CONTROL_STREAMS_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/console_log.h"

struct vm;

#define CONTROL_STREAMS 8
/* No less than may follow a request that makes its connection the console. */
#define STREAM_QUEUE	4096

struct stream_room {
	unsigned char queue[STREAM_QUEUE]; /* typed, not yet taken by the guest */
	unsigned char out[4096];	   /* from the log */
};

struct stream {
	int fd;		/* -1: the place is free */
	uint64_t at;	/* in the log: what is sent next */
	bool behind;	/* its socket is full */
	bool deaf;	/* its other end sends nothing more; what the guest says is still sent */
	size_t typed;	/* bytes in the queue */
	size_t left_of; /* bytes of `out` */
	size_t sent;	/* of these, on their way already */
	struct stream_room *room;
};

struct streams {
	struct stream list[CONTROL_STREAMS];
	struct stream_room rooms[CONTROL_STREAMS]; /* apart: untouched as long as nobody is there */
};

void streams_init(struct streams *streams);

/* A free place for @fd; NULL: there is none, or @fd is no stream socket. */
struct stream *streams_place(struct streams *streams, int fd);
/* Take @fd there, from place @at of the log. */
void stream_begin(struct stream *stream, int fd, uint64_t at);
/* What was typed ahead; what there is no room for is dropped. */
void stream_type(struct stream *stream, const void *data, size_t len);

/* Fill in @fds, CONTROL_STREAMS of them. */
void streams_poll(const struct streams *streams, struct pollfd *fds);

/*
 * Move what can be moved: from the log to who is attached, from them to the guest's
 * console, unless it is paused. True: something typed is left, look again soon.
 */
bool streams_move(struct streams *streams, struct console_log *log, struct vm *vm,
		  const struct pollfd *fds);

/* In a child that was forked: close all, the parent goes on. */
void streams_let_go(struct streams *streams);

/* Send the rest of the log, as far as sockets take it, and close all. */
void streams_end(struct streams *streams, struct console_log *log);

#endif
