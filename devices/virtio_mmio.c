/*
 * The register file of virtio-mmio, version 2 (virtio 1.2, 4.2.2), and its
 * interrupt line. Registers are 32 bits wide and so accessed, the configuration
 * space in any width; anything else reads as 0 and does nothing.
 */
#include <linux/virtio_mmio.h>

#include "devices/state.h"
#include "devices/virtio.h"

#define MAGIC	0x74726976 /* "virt" */
#define VERSION 2
#define VENDOR	0x4c414f46 /* "FOAL" */

/* --- interrupts --------------------------------------------------------------------- */

static void set_line(struct virtio_device *vdev, bool level)
{
	vdev->mmio.line = level;
	vdev->dev.host->set_pin(vdev->dev.host->ctx, vdev->mmio.pin, level);
}

/*
 * The line is high while the interrupt status is not 0. A level-triggered pin
 * needs no more. An edge-triggered one sees only the rise, and a driver may be
 * past its look at the ring while it has not acknowledged yet: so the line
 * falls and rises again for news that come meanwhile.
 */
static void raise_line(struct virtio_device *vdev, uint8_t bits)
{
	vdev->mmio.interrupt_status |= bits;
	if (vdev->mmio.line)
		set_line(vdev, false);
	set_line(vdev, true);
}

static void acknowledge(struct virtio_device *vdev, uint32_t bits)
{
	vdev->mmio.interrupt_status &= ~bits;
	if (vdev->mmio.line && vdev->mmio.interrupt_status == 0)
		set_line(vdev, false);
}

static void mmio_used(struct virtio_device *vdev, unsigned index)
{
	(void)index; /* one line for all queues */
	raise_line(vdev, VIRTIO_MMIO_INT_VRING);
}

static void mmio_config_changed(struct virtio_device *vdev)
{
	raise_line(vdev, VIRTIO_MMIO_INT_CONFIG);
}

static void mmio_reset(struct virtio_device *vdev)
{
	vdev->mmio.device_features_sel = vdev->mmio.driver_features_sel = vdev->mmio.queue_sel = 0;
	acknowledge(vdev, UINT32_MAX);
}

static void mmio_state(struct virtio_device *vdev, struct state *s)
{
	struct virtio_mmio *mmio = &vdev->mmio;

	state_u8(s, &mmio->interrupt_status);
	state_check(s, mmio->interrupt_status <= (VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG),
		    "an interrupt status with bits that are not there");
	state_bool(s, &mmio->line);
	state_u32(s, &mmio->device_features_sel);
	state_u32(s, &mmio->driver_features_sel);
	state_u32(s, &mmio->queue_sel);
}

const struct virtio_transport virtio_mmio_transport = {
    .used = mmio_used,
    .config_changed = mmio_config_changed,
    .reset = mmio_reset,
    .state = mmio_state,
};

/* --- registers ------------------------------------------------------------------------ */

static void set_half(uint64_t *field, bool high, uint32_t value)
{
	if (high)
		*field = (*field & UINT32_MAX) | (uint64_t)value << 32;
	else
		*field = (*field & ~(uint64_t)UINT32_MAX) | value;
}

static void queue_write(struct virtio_device *vdev, uint64_t offset, uint32_t value)
{
	struct virtqueue *vq = virtio_queue(vdev, vdev->mmio.queue_sel);

	if (!vq)
		return;
	if (offset == VIRTIO_MMIO_QUEUE_READY) {
		if (value && !vq->ready)
			virtio_queue_enable(vdev, vq);
		else if (!value && vq->ready)
			virtio_queue_disable(vdev, vq);
		return;
	}
	/* A ready queue is the worker's. */
	if (vq->ready)
		return;
	switch (offset) {
	case VIRTIO_MMIO_QUEUE_NUM:
		vq->size = value;
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		set_half(&vq->desc, offset == VIRTIO_MMIO_QUEUE_DESC_HIGH, value);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		set_half(&vq->driver, offset == VIRTIO_MMIO_QUEUE_AVAIL_HIGH, value);
		break;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		set_half(&vq->device, offset == VIRTIO_MMIO_QUEUE_USED_HIGH, value);
		break;
	}
}

static uint32_t register_read(struct virtio_device *vdev, uint64_t offset)
{
	const struct virtqueue *vq = virtio_queue(vdev, vdev->mmio.queue_sel);

	switch (offset) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC;
	case VIRTIO_MMIO_VERSION:
		return VERSION;
	case VIRTIO_MMIO_DEVICE_ID:
		return vdev->type->id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return virtio_features_word(vdev, vdev->mmio.device_features_sel);
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return vq ? VQ_SIZE_MAX : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return vq && vq->ready;
	case VIRTIO_MMIO_INTERRUPT_STATUS:
		return vdev->mmio.interrupt_status;
	case VIRTIO_MMIO_STATUS:
		return vdev->status;
	/* No shared memory region: length and address are all ones (4.2.2.1). */
	case VIRTIO_MMIO_SHM_LEN_LOW:
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return UINT32_MAX;
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return vdev->generation;
	}
	return 0;
}

static void register_write(struct virtio_device *vdev, uint64_t offset, uint32_t value)
{
	switch (offset) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		vdev->mmio.device_features_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		vdev->mmio.driver_features_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		virtio_take_features(vdev, vdev->mmio.driver_features_sel, value);
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		vdev->mmio.queue_sel = value;
		break;
	/* Where the host takes the doorbell, this comes only before that is hung up. */
	case VIRTIO_MMIO_QUEUE_NOTIFY:
		virtio_kick(vdev);
		break;
	case VIRTIO_MMIO_INTERRUPT_ACK:
		acknowledge(vdev, value);
		break;
	case VIRTIO_MMIO_STATUS:
		virtio_set_status(vdev, value);
		break;
	default:
		queue_write(vdev, offset, value);
	}
}

uint64_t virtio_mmio_read(struct device *dev, uint64_t offset, unsigned len)
{
	struct virtio_device *vdev = virtio_of(dev);
	uint64_t value = 0;

	pthread_mutex_lock(&vdev->lock);
	if (offset >= VIRTIO_MMIO_CONFIG)
		value = virtio_config_read(vdev, offset - VIRTIO_MMIO_CONFIG, len);
	else if (len == 4 && offset % 4 == 0)
		value = register_read(vdev, offset);
	pthread_mutex_unlock(&vdev->lock);
	return value;
}

void virtio_mmio_write(struct device *dev, uint64_t offset, unsigned len, uint64_t value)
{
	struct virtio_device *vdev = virtio_of(dev);

	pthread_mutex_lock(&vdev->lock);
	if (vdev->quiescing)
		;
	else if (offset >= VIRTIO_MMIO_CONFIG)
		virtio_config_write(vdev, offset - VIRTIO_MMIO_CONFIG, len, value);
	else if (len == 4 && offset % 4 == 0)
		register_write(vdev, offset, (uint32_t)value);
	pthread_mutex_unlock(&vdev->lock);
}

/*
 * Notifications then reach the worker without leaving for user space. Which
 * queue is not told: the worker looks at all. A host that cannot do it leaves
 * them to register_write().
 */
int virtio_mmio_start(struct device *dev, uint64_t base)
{
	struct virtio_device *vdev = virtio_of(dev);
	int rc = virtio_start(vdev);

	if (rc == 0 && dev->host->doorbell)
		(void)dev->host->doorbell(dev->host->ctx, base + VIRTIO_MMIO_QUEUE_NOTIFY,
					  vdev->kick, true);
	return rc;
}
