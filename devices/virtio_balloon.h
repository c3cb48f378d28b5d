/*
 * virtio-balloon in two files: the device (virtio_balloon.c), and what goes back
 * to the host (virtio_balloon_pages.c).
 */
#ifndef FOAL_DEVICES_VIRTIO_BALLOON_H
#define FOAL_DEVICES_VIRTIO_BALLOON_H

#include <linux/virtio_balloon.h>

#include "devices/virtio.h"

struct virtio_balloon {
	struct virtio_device vdev;
	struct {
#define X(field, name) _Atomic uint64_t field;
		BALLOON_COUNTERS(X)
#undef X
	} stats;
	_Atomic uint64_t guest[BALLOON_GUEST_STATS]; /* by VIRTIO_BALLOON_S_*, ~0: not told */

	/* The driver's statistics buffer, held until the next are wanted; the worker's. */
	bool has_report;
	struct vq_used report;
	atomic_bool want_report;

	/* Who wants hints, and the number of the last round; under vdev.lock. */
	balloon_hint_fn *hint;
	void *hint_ctx;
	uint32_t round;
	/* The driver has begun the round that was asked for; the worker's. */
	bool hinting;
};

static inline struct virtio_balloon *balloon_of(struct virtio_device *vdev)
{
	return device_of(vdev, struct virtio_balloon, vdev);
}

static inline struct virtio_balloon_config *config_of(struct virtio_balloon *balloon)
{
	return (struct virtio_balloon_config *)(void *)balloon->vdev.config;
}

static inline void balloon_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* --- virtio_balloon_pages.c; called by the worker ------------------------------------ */

/* What a queue's service returns (virtio_type.serve). */
int balloon_serve_pfns(struct virtio_balloon *balloon, struct virtqueue *vq,
		       const struct vq_chain *chain, bool inflate);
int balloon_serve_reporting(struct virtio_balloon *balloon, const struct vq_chain *chain);

#endif
