/*
 * virtio over MMIO, version 2, with split virtqueues (virtio 1.2, sections 2.7 and 4.2).
 *
 * A device is not trusted further than its job: what it writes into used rings and registers is
 * checked, and a device that breaks the rules is marked broken, with a message; its requests then
 * end with -EIO, and nothing waits for it.
 */
#ifndef GUEST_VIRTIO_H
#define GUEST_VIRTIO_H

#include "guest/include/spinlock.h"
#include "guest/include/types.h"

enum { VIRTIO_ID_BLOCK = 2, VIRTIO_ID_PMEM = 27 };

/* Feature bits (section 6). */
enum {
	VIRTIO_F_INDIRECT_DESC = 28,
	VIRTIO_F_EVENT_IDX = 29,
	VIRTIO_F_VERSION_1 = 32,
};

/* Split virtqueue (section 2.7). All fields are little-endian, as is this machine. */
struct vring_desc {
	u64 addr;
	u32 len;
	u16 flags;
	u16 next;
};

enum { VRING_DESC_NEXT = 1, VRING_DESC_WRITE = 2, VRING_DESC_INDIRECT = 4 };

struct vring_avail {
	u16 flags;
	u16 idx;
	u16 ring[]; /* then u16 used_event */
};

struct vring_used_elem {
	u32 id;
	u32 len;
};

struct vring_used {
	u16 flags;
	u16 idx;
	struct vring_used_elem ring[]; /* then u16 avail_event */
};

enum { VRING_USED_NO_NOTIFY = 1 };

#define VIRTQUEUE_MAX 256 /* so that all of a queue fits two frames */

struct virtio_device;
struct page;

/* Every field is guarded by the owner's lock. */
struct virtqueue {
	struct virtio_device *dev;
	struct page *pages;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	void **tokens; /* by chain's first descriptor: NULL, or what the owner gave */
	u16 index;
	u16 size;
	u16 nr_free;
	u16 free_head;	/* free descriptors are chained by next */
	u16 last_used;	/* used entries taken so far, modulo 2^16 */
	u16 last_avail; /* entries made available so far */
	u16 last_kick;	/* last_avail at the last kick */
};

/* A driver's side of a kind of device; the table of them is in virtio_mmio.c. */
struct virtio_driver {
	u32 id;
	const char *name;
	u64 features; /* all that the driver understands, VIRTIO_F_* of the ring apart */
	/* Sets the device up, up to virtio_ready. The device is reset if this fails. */
	int (*probe)(struct virtio_device *dev);
	/* After the device's last reset: frees what was kept for further requests. Or NULL. */
	void (*shutdown)(struct virtio_device *dev);
};

struct virtio_device {
	void *regs;
	u64 phys;     /* of the registers: the device's name in messages */
	u32 pin;      /* of the IOAPIC */
	u64 features; /* negotiated */
	bool broken;
	const struct virtio_driver *driver;
	void *private;
	/*
	 * Queues may have changed. Called with interrupts off, also when the device broke: the
	 * requests still open are then taken back with virtqueue_take_any.
	 */
	void (*interrupt)(struct virtio_device *dev);
	struct virtio_device *next;
};

extern const struct virtio_driver virtio_blk_driver;
extern const struct virtio_driver virtio_pmem_driver;

/* Finds and starts the devices that the command line names. */
void virtio_mmio_init(void);
/* Resets every device, so that no DMA is under way. */
void virtio_mmio_shutdown(void);

static inline bool virtio_has(const struct virtio_device *dev, unsigned feature)
{
	return dev->features >> feature & 1;
}

/* The device's own configuration, at a byte offset that is a multiple of 4. */
u32 virtio_config32(struct virtio_device *dev, unsigned offset);
/* Two reads, repeated until the configuration's generation did not change between. */
u64 virtio_config64(struct virtio_device *dev, unsigned offset);

/* Tells the device that the driver is ready (DRIVER_OK): its queues are live from here. */
void virtio_ready(struct virtio_device *dev);

/* The device broke a rule: prints why and stops it, once. From its interrupt handler. */
void virtio_broken(struct virtio_device *dev, const char *why, u64 detail);

/* Allocates queue `index` and gives it to the device. */
int virtqueue_init(struct virtqueue *vq, struct virtio_device *dev, u16 index);
/* Frees the queue of a device that was never ready, or is reset. */
void virtqueue_free(struct virtqueue *vq);

/* A piece of physically contiguous memory of a request. */
struct vq_buf {
	u64 phys;
	u32 len;
};

/*
 * Makes a request available: `out` pieces that the device reads, then `in` pieces that it writes.
 * With `table` (room for out + in entries, in the direct map, the request's until it is back) and
 * the feature negotiated, it takes one descriptor, else out + in. `token`, not NULL, comes back
 * from virtqueue_get. 0, or -ENOSPC: no room now.
 */
int virtqueue_add(struct virtqueue *vq, const struct vq_buf *bufs, unsigned out, unsigned in,
		  void *token, struct vring_desc *table);

/* Lets the device know of what was added since the last kick, if it asked to know. */
void virtqueue_kick(struct virtqueue *vq);

/* The next finished request's token, or NULL: none, or the device is broken now. */
void *virtqueue_get(struct virtqueue *vq);

/* Of a broken device: any request still open, taken out of the queue, or NULL. */
void *virtqueue_take_any(struct virtqueue *vq);

#endif
