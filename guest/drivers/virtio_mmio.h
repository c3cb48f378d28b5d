/* What the queue code asks of the transport. */
#ifndef GUEST_VIRTIO_MMIO_H
#define GUEST_VIRTIO_MMIO_H

#include "guest/drivers/virtio.h"

/* The largest power of two that the device, and VIRTQUEUE_MAX, allow. 0, -ENODEV or -EBUSY. */
int virtio_mmio_queue_size(struct virtio_device *dev, u16 index, u16 *size);
/* Gives the queue's memory to the device. 0, or -EIO if it does not take it. */
int virtio_mmio_queue_start(struct virtqueue *vq);
void virtio_mmio_notify(struct virtqueue *vq);

#endif
