/*
 * The register file of virtio-mmio, version 2 (virtio 1.2, 4.2.2), and the
 * state machine behind it. Registers are 32 bits wide and so accessed, the
 * configuration space in any width; anything else reads as 0 and does nothing.
 */
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/virtio.h"

#define MAGIC	     0x74726976 /* "virt" */
#define VERSION	     2
#define VENDOR	     0x4c414f46 /* "FOAL" */

#define FEATURE(bit) (1ULL << (bit))
#define TRANSPORT_FEATURES \
	(FEATURE(VIRTIO_F_VERSION_1) | FEATURE(VIRTIO_RING_F_INDIRECT_DESC) | \
	 FEATURE(VIRTIO_RING_F_EVENT_IDX))

/* --- interrupts --------------------------------------------------------------------- */

static void set_line(struct virtio_device *vdev, bool level)
{
	vdev->line = level;
	vdev->dev.host->set_pin(vdev->dev.host->ctx, vdev->pin, level);
}

/*
 * The line is high while the interrupt status is not 0. A level-triggered pin
 * needs no more. An edge-triggered one sees only the rise, and a driver may be
 * past its look at the ring while it has not acknowledged yet: so the line
 * falls and rises again for news that come meanwhile.
 */
void virtio_raise(struct virtio_device *vdev, uint8_t bits)
{
	vdev->interrupt_status |= bits;
	if (vdev->line)
		set_line(vdev, false);
	set_line(vdev, true);
}

static void acknowledge(struct virtio_device *vdev, uint32_t bits)
{
	vdev->interrupt_status &= ~bits;
	if (vdev->line && vdev->interrupt_status == 0)
		set_line(vdev, false);
}

void virtio_break(struct virtio_device *vdev, const char *why)
{
	if (vdev->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	vdev->running = false;
	atomic_store_explicit(&vdev->dev.broken, why, memory_order_release);
	vdev->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	if (vdev->status & VIRTIO_CONFIG_S_DRIVER_OK)
		virtio_raise(vdev, VIRTIO_MMIO_INT_CONFIG);
}

/* --- status --------------------------------------------------------------------------- */

static void reset(struct virtio_device *vdev)
{
	if (!virtio_quiesce(vdev))
		return;
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		vq_reset(&vdev->queues[i], vdev->dev.host->memory);
	vdev->device_features_sel = vdev->driver_features_sel = vdev->queue_sel = 0;
	vdev->driver_features = 0;
	vdev->status = 0;
	acknowledge(vdev, UINT32_MAX);
	atomic_store_explicit(&vdev->dev.broken, NULL, memory_order_release);
}

static bool features_sound(const struct virtio_device *vdev)
{
	return !(vdev->driver_features & ~vdev->features) &&
	       (vdev->driver_features & FEATURE(VIRTIO_F_VERSION_1));
}

/* A driver only ever adds bits; what it may not add stays clear, for it to read back. */
static void status_write(struct virtio_device *vdev, uint32_t value)
{
	uint8_t added = value & ~vdev->status & ~VIRTIO_CONFIG_S_NEEDS_RESET & 0xff;

	if (value == 0) {
		reset(vdev);
		return;
	}
	if ((added & VIRTIO_CONFIG_S_FEATURES_OK) && !features_sound(vdev))
		added &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	if (!((vdev->status | added) & VIRTIO_CONFIG_S_FEATURES_OK))
		added &= ~VIRTIO_CONFIG_S_DRIVER_OK;
	vdev->status |= added;
	if (!(added & VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	/* Broken while it was set up: the driver hears of it now. */
	if (vdev->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		virtio_raise(vdev, VIRTIO_MMIO_INT_CONFIG);
	else if (virtio_run(vdev))
		virtio_break(vdev, "its thread could not be started");
}

/* --- queues --------------------------------------------------------------------------- */

/* The selected queue, or NULL. */
static struct virtqueue *selected(struct virtio_device *vdev)
{
	return vdev->queue_sel < vdev->type->nr_queues ? &vdev->queues[vdev->queue_sel] : NULL;
}

static bool negotiated(const struct virtio_device *vdev, unsigned bit)
{
	return vdev->driver_features & FEATURE(bit);
}

static void queue_enable(struct virtio_device *vdev, struct virtqueue *vq)
{
	const char *why;

	if (!(vdev->status & VIRTIO_CONFIG_S_FEATURES_OK) ||
	    (vdev->status & VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	why = vq_enable(vq, negotiated(vdev, VIRTIO_RING_F_INDIRECT_DESC),
			negotiated(vdev, VIRTIO_RING_F_EVENT_IDX));
	if (why)
		virtio_break(vdev, why);
}

/* The other queues of a running device go on. */
static void queue_disable(struct virtio_device *vdev, struct virtqueue *vq)
{
	bool resume = vdev->running;

	if (!virtio_quiesce(vdev))
		return;
	vq_reset(vq, vdev->dev.host->memory);
	if (resume && virtio_run(vdev) == 0)
		virtio_kick(vdev);
}

static void set_half(uint64_t *field, bool high, uint32_t value)
{
	if (high)
		*field = (*field & UINT32_MAX) | (uint64_t)value << 32;
	else
		*field = (*field & ~(uint64_t)UINT32_MAX) | value;
}

static void queue_write(struct virtio_device *vdev, uint64_t offset, uint32_t value)
{
	struct virtqueue *vq = selected(vdev);

	if (!vq)
		return;
	if (offset == VIRTIO_MMIO_QUEUE_READY) {
		if (value && !vq->ready)
			queue_enable(vdev, vq);
		else if (!value && vq->ready)
			queue_disable(vdev, vq);
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

/* --- registers ------------------------------------------------------------------------ */

static uint32_t register_read(struct virtio_device *vdev, uint64_t offset)
{
	const struct virtqueue *vq = selected(vdev);

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
		if (vdev->device_features_sel > 1)
			return 0;
		return (uint32_t)(vdev->features >> (32 * vdev->device_features_sel));
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return vq ? VQ_SIZE_MAX : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return vq && vq->ready;
	case VIRTIO_MMIO_INTERRUPT_STATUS:
		return vdev->interrupt_status;
	case VIRTIO_MMIO_STATUS:
		return vdev->status;
	/* No shared memory region: length and address are all ones (4.2.2.1). */
	case VIRTIO_MMIO_SHM_LEN_LOW:
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return UINT32_MAX;
	/* The configuration of these devices never changes. */
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return 0;
	}
	return 0;
}

static void register_write(struct virtio_device *vdev, uint64_t offset, uint32_t value)
{
	switch (offset) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		vdev->device_features_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		vdev->driver_features_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		/* Settled once FEATURES_OK is. Bits 64 and up are offered by nobody. */
		if (vdev->driver_features_sel <= 1 && !(vdev->status & VIRTIO_CONFIG_S_FEATURES_OK))
			set_half(&vdev->driver_features, vdev->driver_features_sel == 1, value);
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		vdev->queue_sel = value;
		break;
	case VIRTIO_MMIO_QUEUE_NOTIFY:
		if (value < vdev->type->nr_queues)
			virtio_kick(vdev);
		break;
	case VIRTIO_MMIO_INTERRUPT_ACK:
		acknowledge(vdev, value);
		break;
	case VIRTIO_MMIO_STATUS:
		status_write(vdev, value);
		break;
	default:
		queue_write(vdev, offset, value);
	}
}

uint64_t virtio_mmio_read(struct device *dev, uint64_t offset, unsigned len)
{
	struct virtio_device *vdev = virtio_of(dev);
	uint64_t value = 0;

	if (offset >= VIRTIO_MMIO_CONFIG) {
		offset -= VIRTIO_MMIO_CONFIG;
		for (unsigned i = 0; i < len && offset + i < vdev->config_size; i++)
			value |= (uint64_t)vdev->config[offset + i] << (8 * i);
		return value;
	}
	if (len != 4 || offset % 4)
		return 0;
	pthread_mutex_lock(&vdev->lock);
	value = register_read(vdev, offset);
	pthread_mutex_unlock(&vdev->lock);
	return value;
}

void virtio_mmio_write(struct device *dev, uint64_t offset, unsigned len, uint64_t value)
{
	struct virtio_device *vdev = virtio_of(dev);

	/* No device here has a configuration field to write. */
	if (len != 4 || offset % 4 || offset >= VIRTIO_MMIO_CONFIG)
		return;
	pthread_mutex_lock(&vdev->lock);
	if (!vdev->quiescing)
		register_write(vdev, offset, (uint32_t)value);
	pthread_mutex_unlock(&vdev->lock);
}

/* --- creation --------------------------------------------------------------------------- */

int virtio_init(struct virtio_device *vdev, const struct device_ops *ops,
		const struct device_host *host, const struct virtio_type *type, unsigned pin,
		uint64_t features, const void *config, unsigned config_size)
{
	vdev->kick = eventfd(0, EFD_CLOEXEC);
	if (vdev->kick < 0)
		return -errno;
	device_init(&vdev->dev, ops, host);
	vdev->type = type;
	vdev->pin = pin;
	vdev->features = features | TRANSPORT_FEATURES;
	memcpy(vdev->config, config, config_size);
	vdev->config_size = config_size;
	pthread_mutex_init(&vdev->lock, NULL);
	pthread_cond_init(&vdev->idle, NULL);
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		vq_reset(&vdev->queues[i], host->memory);
	return 0;
}

void virtio_fini(struct virtio_device *vdev)
{
	pthread_cond_destroy(&vdev->idle);
	pthread_mutex_destroy(&vdev->lock);
	close(vdev->kick);
}
