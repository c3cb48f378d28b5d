/*
 * A disk behind a companion that is a thread of this program, sound or hostile, on
 * the other end of the socket.
 */
#ifndef FOAL_TESTS_REMOTE_RIG_H
#define FOAL_TESTS_REMOTE_RIG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/disk.h"
#include "devices/disk_backend.h"
#include "devices/nbd/protocol.h"

#define REMOTE_SIZE (8UL << 20)

/* What the fake companion does with a request, other than to serve it. */
enum twist {
	SERVE,
	WRONG_TAG,
	WRONG_MAGIC,
	POSITIVE_ERROR,
	HUGE_ERROR,
	SAY_CANCELED,
	SAY_ESHUTDOWN,
	SAY_ENOSPC,
	HALF_AN_ANSWER,
	LEAVE,
	HOLD, /* no answer until released */
};

extern struct remote_rig {
	int socket[2]; /* the disk's end, the companion's end */
	struct nbd_hello hello;
	atomic_int twist;	    /* of the next request */
	atomic_bool held, release;  /* by and from HOLD */
	atomic_bool writable_asked; /* by the disk, at its start */
	atomic_uint requests, flushes;
	uint8_t *bytes; /* the companion's while a request is under way */

	struct disk_backend *backend;
	char text[DISK_TEXT];
	atomic_bool cancel; /* for a test to make the backend's */
} remote;

extern uint8_t remote_buffer[3 << 20];

/* Fixtures: sockets, and the bytes, each 512 of them holding the next number. */
void remote_set_up(void);
void remote_tear_down(void);

/* Start the companion and open the disk. */
int remote_open(bool writable);

/* The backend's answer to a request with remote_buffer, in two pieces. */
int remote_read(uint64_t offset, uint64_t len);
int remote_write(uint64_t offset, uint64_t len);
/* What the companion has there: remote_buffer; this byte. */
void remote_expect(uint64_t offset, uint64_t len);
uint8_t remote_byte(uint64_t offset);

#endif
