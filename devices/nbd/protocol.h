/*
 * What foal and its companion foal-nbd say to each other over a stream socket:
 * records of a fixed size, in the host's byte order. docs/nbd.md describes it.
 *
 *   foal -> companion   setup, with the window's descriptor (SCM_RIGHTS)
 *   companion -> foal   hello, once it is connected, or why it is not
 *   foal -> companion   request     one at a time, answered in turn
 *   companion -> foal   answer
 *
 * A setup NBD_SETUP_SHARE, any number of times before that of the window, and a request NBD_SHARE
 * come with a socket instead: another companion is started for it, which serves the same, and
 * waits for its own setup. There is no answer. VMs that were forked get theirs by that: they start
 * no program, and whoever asks cannot choose what is served. What such a companion has to say goes
 * where a setup NBD_SETUP_LOG tells it, and nowhere before.
 *
 * Data lies at the start of the window, a memfd that can neither grow nor
 * shrink. Neither side trusts what the other says.
 */
#ifndef FOAL_DEVICES_NBD_PROTOCOL_H
#define FOAL_DEVICES_NBD_PROTOCOL_H

#include <stdint.h>

#define NBD_MAGIC	   0x646e6f66u /* "fond" */
#define NBD_VERSION	   3
#define NBD_WINDOW_BYTES   (1u << 20)
#define NBD_TEXT_BYTES	   200

/* How long a server may take over one request before the companion gives up. */
#define NBD_SERVER_SECONDS 25

enum nbd_setup_op {
	NBD_SETUP_WINDOW, /* the descriptor is the window; the last setup */
	NBD_SETUP_SHARE,  /* it is another companion's socket */
	NBD_SETUP_LOG,	  /* it is where the companion's messages go */
};

struct nbd_setup {
	uint32_t magic, version;
	uint32_t op;
	uint32_t window_bytes;
	uint32_t writable; /* 0: nothing but reads will come */
};

struct nbd_hello {
	uint32_t magic, version;
	int32_t error; /* 0, or a negative errno and @text says why */
	uint32_t read_only;
	uint64_t size; /* bytes */
	char text[NBD_TEXT_BYTES];
};

enum nbd_op {
	NBD_READ,	/* @len bytes to the window */
	NBD_WRITE,	/* @len bytes from the window */
	NBD_FLUSH,	/* all writes answered before are durable */
	NBD_DISCARD,	/* the range's contents are no longer needed */
	NBD_ZERO,	/* the range reads as zeroes, its storage kept */
	NBD_ZERO_UNMAP, /* the same, storage may go */
	NBD_SHARE,	/* the descriptor is another companion's socket */
	NBD_NR_OPS
};

struct nbd_request {
	uint32_t magic, op;
	uint64_t tag; /* comes back in the answer */
	uint64_t offset;
	uint64_t len; /* of reads and writes at most the window */
};

struct nbd_answer {
	uint32_t magic;
	int32_t error; /* 0 or a negative errno */
	uint64_t tag;
};

#endif
