/*
 * One client of the control socket: lines in, lines out, and the limits that keep a
 * client that is slow, endless or deaf from costing more than its place. Nothing here
 * blocks. The control thread's alone. Private to vmm/.
 */
#ifndef FOAL_VMM_CONTROL_CONN_H
#define FOAL_VMM_CONTROL_CONN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/control_request.h"

/* How long a client may take for its first request, for the rest of a line, to read an answer. */
#define CONN_PATIENCE_NS (30 * 1000000000ULL)
/* How long it may be silent between requests. */
#define CONN_SILENCE_NS	 (600 * 1000000000ULL)
/* What may wait for a client that does not read. */
#define CONN_OUT_MAX	 (1U << 20)

struct conn {
	int fd;	  /* -1: the place is free */
	char *in; /* room for CONTROL_LINE_MAX + 1, from when it first said something */
	size_t in_len;
	int passed; /* a descriptor that came with the request; -1 */
	char *out;
	size_t out_len, out_at;
	bool closing;	   /* when what waits is out */
	bool owed;	   /* it waits for the end of the VM */
	json_t *owed_id;   /* as its request had it; owned */
	uint64_t deadline; /* now_ns() when its patience is over; 0: never */
};

/* Take @fd, non-blocking. */
void conn_open(struct conn *conn, int fd, uint64_t now);
void conn_close(struct conn *conn);

/* Send @object, which is used up, as a line; what does not go waits. */
void conn_send(struct conn *conn, json_t *object, uint64_t now);

/*
 * {"id": @id, "ok": true} for the caller to add to; @id may be NULL. Or the whole line
 * that says what went wrong.
 */
json_t *conn_reply(json_t *id);
json_t *conn_error(json_t *id, enum control_error code, const char *text);

/* What to poll for: POLLIN, POLLOUT, or 0. */
short conn_events(const struct conn *conn);

/*
 * Poll said something. True: a line is there, at conn->in, *@len bytes; after it was
 * served, conn_next_line(). The connection may be closed afterwards (fd -1).
 */
bool conn_ready(struct conn *conn, short events, uint64_t now, size_t *len);
/* Drop the line that was served; true: there is another one, that can be answered. */
bool conn_next_line(struct conn *conn, size_t *len, uint64_t now);

/* Has its patience run out? Says so to the client and closes. */
void conn_check_time(struct conn *conn, uint64_t now);

#endif
