/*
 * The driver of a virtio-net device, and the other end of its link: a stream
 * socket as to a helper, or a datagram socket, which reads and writes frames with
 * their header as a tap interface does.
 */
#ifndef FOAL_TESTS_NET_RIG_H
#define FOAL_TESTS_NET_RIG_H

#include <linux/virtio_net.h>
#include <sys/types.h>

#include "tests/devices/rig.h"

#define MRG    (1ULL << VIRTIO_NET_F_MRG_RXBUF)
#define STATUS (1ULL << VIRTIO_NET_F_STATUS)
#define CSUM   (1ULL << VIRTIO_NET_F_CSUM)
#define HEADER 12
#define SIZE   16

/* A queue of the driver's: desc, avail and used, a page apart, from @base. */
struct ring {
	unsigned index;
	uint64_t base;
	uint16_t avail_idx, used_idx;
};

extern struct rig net_rig;
extern struct ring net_rx, net_tx;
extern int net_peer; /* the other end of the link */
extern const struct virtio_net_hdr_v1 net_plain_header;

/* Fixtures: a device and its link, no driver yet. */
void net_set_up_stream(void);
void net_set_up_tap(void);
void net_tear_down(void);

/* A driver that takes @features, up to DRIVER_OK, with fresh rings. */
void net_start(uint64_t features);
/* The device is stopped for that. */
struct net_stats net_counts(void);
void *net_at(uint64_t gpa);
/* Bytes that differ from those of another @seed. */
void net_fill(uint8_t *frame, size_t len, unsigned seed);

void ring_desc(struct ring *ring, uint16_t i, uint64_t gpa, uint32_t len, uint16_t flags);
void ring_offer(struct ring *ring, uint16_t head);
void ring_notify(struct ring *ring);
uint16_t ring_used_idx(const struct ring *ring);
/* Wait for the next used element; false after five seconds. */
bool ring_used(struct ring *ring, struct vring_used_elem *elem);

/* A frame from the other end of a stream. */
void stream_say(const void *frame, size_t len);
/* What the device sent, or -1 when nothing comes. */
ssize_t stream_hear(void *frame, size_t max);

/* Offer @frame, its header @header before it, as two descriptors; wait for its return. */
void send_frame(const struct virtio_net_hdr_v1 *header, const void *frame, uint32_t len);

/* Buffers of @len bytes, one descriptor each, in RIG_DATA. */
void offer_buffers(uint16_t nr, uint32_t len);
/* The frame in the buffers that come back, put together; its length. */
size_t collect(uint8_t *to, struct virtio_net_hdr_v1 *header);
/* The next frame is this one; the header it came with. */
struct virtio_net_hdr_v1 expect_frame(const uint8_t *frame, size_t len);

/* Once a frame is out the driver is known, and what waited for none is gone. */
void expect_attached(void);

#endif
