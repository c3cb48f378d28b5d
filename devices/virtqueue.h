/*
 * A virtqueue as the device sees it (virtio 1.2, 2.6 to 2.8). Everything a
 * driver says about its rings is taken apart here and nowhere else; a device
 * gets chains of guest ranges whose number, order and lengths are sound, and
 * maps or copies them through this file.
 *
 * What a chain's addresses point at is known only when it is touched: mapping
 * fails with -EFAULT then, and the device fails the request.
 *
 * One thread at a time uses a queue (its device's worker); setting it up is
 * for the transport while that thread is idle. Rings are read and written in
 * guest memory at each use: nothing of them is kept.
 */
#ifndef FOAL_DEVICES_VIRTQUEUE_H
#define FOAL_DEVICES_VIRTQUEUE_H

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "ept/ept.h"

#define VQ_SIZE_MAX  256
/* Buffers in one chain, those of an indirect table included. */
#define VQ_CHAIN_MAX 256

struct state;
struct virtqueue;

/* A guest range; addresses are checked when it is mapped. */
struct vq_buf {
	gpa_t gpa;
	uint32_t len; /* never 0 */
};

/* One request: what the device may read comes first, what it may write after. */
struct vq_chain {
	uint16_t id;
	uint16_t slots; /* descriptors of the ring that it takes; an indirect table is one */
	unsigned nr_readable, nr;
	uint64_t readable, writable; /* bytes of each part */
	struct vq_buf buf[VQ_CHAIN_MAX];
};

/* A chain to be given back; made by vq_done(), so that the chain need not be kept. */
struct vq_used {
	uint16_t id, slots;
	uint32_t written; /* bytes of its writable part that were filled, from the start */
};

/* How a ring is laid out in memory; one row a layout. */
struct vq_format {
	/* NULL, or what is wrong with size and addresses. */
	const char *(*check)(const struct virtqueue *vq);
	/* NULL, or what is wrong with where the device is. */
	const char *(*check_position)(const struct virtqueue *vq);
	/* Go back by the last @chains that were popped, @slots in all. */
	void (*unpop)(struct virtqueue *vq, unsigned chains, unsigned slots);
	int (*pop)(struct virtqueue *vq, struct vq_chain *chain);
	int (*push)(struct virtqueue *vq, const struct vq_used *used, unsigned nr);
	int (*suppress)(struct virtqueue *vq);
	int (*arm)(struct virtqueue *vq);
	int (*signal_wanted)(struct virtqueue *vq);
};

extern const struct vq_format vq_split, vq_packed;

/* What a driver may choose of a ring's layout. */
#define VQ_FEATURES \
	(1ULL << VIRTIO_RING_F_INDIRECT_DESC | 1ULL << VIRTIO_RING_F_EVENT_IDX | \
	 1ULL << VIRTIO_F_RING_PACKED)

struct virtqueue {
	struct ept_space *memory;
	const struct vq_format *format;
	/* As the driver set it up. */
	bool ready;
	uint32_t size;
	uint64_t desc, driver, device; /* guest-physical */
	bool indirect, event_idx;      /* features negotiated */
	/* Where the device is. Split: free-running, modulo 2^16; packed: a slot. */
	uint16_t next_avail, next_used;
	/* Split: next_used when the driver was last told. */
	uint16_t signalled;
	bool signalled_valid;
	/* Packed: wrap counters; slots of chains taken; slots used and not told of. */
	bool avail_wrap, used_wrap;
	uint32_t in_flight, unsignalled;
	const char *broken; /* why it is: a string literal */
};

/* Back to what a reset leaves: nothing set up. */
void vq_reset(struct virtqueue *vq, struct ept_space *memory);

/*
 * Check what the driver set up and make the queue ready; of the @features it
 * took, VQ_FEATURES count. Returns NULL, or what is wrong.
 */
const char *vq_enable(struct virtqueue *vq, uint64_t features);

/* The last chains popped, that were not given back. */
struct vq_held {
	unsigned chains, slots;
};

static inline void vq_hold(struct vq_held *held, const struct vq_chain *chain)
{
	held->chains++;
	held->slots += chain->slots;
}

/*
 * Save or load (devices/state.h) a queue whose driver took @features. What is @held is
 * saved as not taken: who loads finds it in the ring again. What is loaded is
 * checked as if the driver had set it up.
 */
bool vq_state(struct virtqueue *vq, struct state *s, uint64_t features, const struct vq_held *held);

/*
 * The functions below return -EPROTO when the driver broke the ring's rules;
 * vq->broken says which, and the queue is of no use until a reset. -ESHUTDOWN:
 * guest memory is going away.
 */

/* Take the next chain. 1, or 0 if there is none. */
int vq_pop(struct virtqueue *vq, struct vq_chain *chain);

/* Give a chain back, @written bytes of its writable part filled from the start. */
int vq_push(struct virtqueue *vq, const struct vq_chain *chain, uint32_t written);

/*
 * Give @nr chains back, in any order; the driver sees all of them or none. No
 * more than were taken.
 */
struct vq_used vq_done(const struct vq_chain *chain, uint32_t written);
int vq_push_all(struct virtqueue *vq, const struct vq_used *used, unsigned nr);

/* Tell the driver that it need not notify; a hint. */
int vq_suppress(struct virtqueue *vq);

/* Ask for notifications again. 1 if chains came meanwhile, of which none may tell. */
int vq_arm(struct virtqueue *vq);

/* Whether the driver wants an interrupt for what was pushed since the last call: 1 or 0. */
int vq_signal_wanted(struct virtqueue *vq);

/* Mark it broken; returns -EPROTO. @why is a string literal. */
int vq_break(struct virtqueue *vq, const char *why);

/* --- the ranges of a chain ------------------------------------------------------ */

/* A place in one part of a chain; moves forward as it is used. */
struct vq_cursor {
	const struct vq_buf *buf, *end;
	uint32_t offset; /* in *buf */
	enum ept_access access;
};

struct vq_cursor vq_readable(const struct vq_chain *chain);
struct vq_cursor vq_writable(const struct vq_chain *chain);

/* Move on by @len bytes, at most to the end. */
void vq_skip(struct vq_cursor *cursor, uint64_t len);

/* Copy the next @len bytes out of or into guest memory. -EFAULT etc., or -ENODATA past the end. */
int vq_copy_out(struct virtqueue *vq, struct vq_cursor *cursor, void *data, size_t len);
int vq_copy_in(struct virtqueue *vq, struct vq_cursor *cursor, const void *data, size_t len);

/*
 * Map the next at most @len bytes as iovecs and move on. Returns how many
 * iovecs; *@mapped is the number of bytes, less than @len at the end of the part
 * or of @iov. Errors as ept_map.
 */
ssize_t vq_map(struct virtqueue *vq, struct vq_cursor *cursor, uint64_t len, struct iovec *iov,
	       size_t max, uint64_t *mapped);

/* --- for the formats: ring fields and chains under construction ------------------ */

/*
 * 16-bit fields of a ring, little-endian as the host is. Sequentially
 * consistent: both sides store one field and then look at another, and at
 * least one has to see what the other stored.
 */
int vq_load16(struct virtqueue *vq, uint64_t gpa, uint16_t *value);
int vq_store16(struct virtqueue *vq, uint64_t gpa, uint16_t value);
int vq_read(struct virtqueue *vq, uint64_t gpa, void *data, size_t len);
int vq_write(struct virtqueue *vq, uint64_t gpa, const void *data, size_t len);

void vq_chain_init(struct vq_chain *chain, uint16_t id);
int vq_chain_add(struct virtqueue *vq, struct vq_chain *chain, uint64_t gpa, uint32_t len,
		 bool writable);

#endif
