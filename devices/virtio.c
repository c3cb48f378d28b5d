/*
 * The state machine of a virtio device, whatever register file leads to it:
 * status and features (virtio 1.2, 2.1, 2.2, 3.1), queues that become ready,
 * the configuration and its generation (2.5). All with the device's lock held.
 */
#include "devices/virtio.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define FEATURE(bit)	(1ULL << (bit))
#define COMMON_FEATURES (FEATURE(VIRTIO_F_VERSION_1) | VQ_FEATURES)

void virtio_break(struct virtio_device *vdev, const char *why)
{
	if (vdev->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	vdev->running = false;
	atomic_store_explicit(&vdev->dev.broken, why, memory_order_release);
	vdev->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	if (vdev->status & VIRTIO_CONFIG_S_DRIVER_OK)
		vdev->transport->config_changed(vdev);
}

/* --- status --------------------------------------------------------------------------- */

bool virtio_reset(struct virtio_device *vdev)
{
	if (!virtio_quiesce(vdev))
		return false;
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		vq_reset(&vdev->queues[i], vdev->dev.host->memory);
	vdev->driver_features = 0;
	vdev->status = 0;
	if (vdev->type->reset)
		vdev->type->reset(vdev);
	vdev->transport->reset(vdev);
	vdev->config_news = false;
	atomic_store_explicit(&vdev->dev.broken, NULL, memory_order_release);
	return true;
}

bool virtio_features_sound(const struct virtio_device *vdev)
{
	return !(vdev->driver_features & ~vdev->features) &&
	       virtio_negotiated(vdev, VIRTIO_F_VERSION_1);
}

static void driver_ok(struct virtio_device *vdev)
{
	const char *why = NULL;

	/* Broken while it was set up: the driver hears of it now. */
	if (vdev->status & VIRTIO_CONFIG_S_NEEDS_RESET) {
		vdev->transport->config_changed(vdev);
		return;
	}
	if (vdev->type->activate)
		why = vdev->type->activate(vdev);
	if (why)
		virtio_break(vdev, why);
	else
		virtio_run(vdev);
}

/* A driver only ever adds bits; what it may not add stays clear, for it to read back. */
void virtio_set_status(struct virtio_device *vdev, uint32_t value)
{
	uint8_t added = value & ~vdev->status & ~VIRTIO_CONFIG_S_NEEDS_RESET & UINT8_MAX;

	if (value == 0) {
		virtio_reset(vdev);
		return;
	}
	if ((added & VIRTIO_CONFIG_S_FEATURES_OK) && !virtio_features_sound(vdev))
		added &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	if (!((vdev->status | added) & VIRTIO_CONFIG_S_FEATURES_OK))
		added &= ~VIRTIO_CONFIG_S_DRIVER_OK;
	vdev->status |= added;
	if (added & VIRTIO_CONFIG_S_DRIVER_OK)
		driver_ok(vdev);
}

uint32_t virtio_features_word(const struct virtio_device *vdev, uint32_t word)
{
	return word <= 1 ? (uint32_t)(vdev->features >> (32 * word)) : 0;
}

/* Settled once FEATURES_OK is. */
void virtio_take_features(struct virtio_device *vdev, uint32_t word, uint32_t value)
{
	unsigned shift = 32 * word;

	if (word > 1 || (vdev->status & VIRTIO_CONFIG_S_FEATURES_OK))
		return;
	vdev->driver_features &= ~((uint64_t)UINT32_MAX << shift);
	vdev->driver_features |= (uint64_t)value << shift;
}

/* --- queues --------------------------------------------------------------------------- */

struct virtqueue *virtio_queue(struct virtio_device *vdev, uint32_t index)
{
	return index < vdev->type->nr_queues ? &vdev->queues[index] : NULL;
}

void virtio_queue_enable(struct virtio_device *vdev, struct virtqueue *vq)
{
	const char *why;

	if (!(vdev->status & VIRTIO_CONFIG_S_FEATURES_OK) ||
	    (vdev->status & VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	why = vq_enable(vq, vdev->driver_features);
	if (why)
		virtio_break(vdev, why);
}

/* The other queues of a running device go on. */
void virtio_queue_disable(struct virtio_device *vdev, struct virtqueue *vq)
{
	bool resume = vdev->running;

	if (!virtio_quiesce(vdev))
		return;
	vq_reset(vq, vdev->dev.host->memory);
	if (resume)
		virtio_run(vdev);
}

/* --- configuration ---------------------------------------------------------------------- */

uint64_t virtio_config_read(struct virtio_device *vdev, uint64_t offset, unsigned len)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < len && offset + i < vdev->config_size; i++)
		value |= (uint64_t)vdev->config[offset + i] << (8 * i);
	if (vdev->type->config_was_read)
		vdev->type->config_was_read(vdev, offset, len);
	return value;
}

void virtio_config_write(struct virtio_device *vdev, uint64_t offset, unsigned len, uint64_t value)
{
	if (!vdev->type->config_write || offset >= vdev->config_size ||
	    len > vdev->config_size - offset)
		return;
	vdev->type->config_write(vdev, (unsigned)offset, len, value);
}

void virtio_config_changed(struct virtio_device *vdev)
{
	vdev->generation++;
	if (vdev->status & VIRTIO_CONFIG_S_DRIVER_OK)
		vdev->transport->config_changed(vdev);
}

/* --- creation --------------------------------------------------------------------------- */

int virtio_init(struct virtio_device *vdev, const struct device_ops *ops,
		const struct device_host *host, const struct virtio_type *type, unsigned pin,
		uint64_t features, const void *config, unsigned config_size)
{
	vdev->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vdev->kick < 0)
		return -errno;
	device_init(&vdev->dev, ops, host);
	vdev->type = type;
	vdev->transport = &virtio_mmio_transport;
	vdev->mmio.pin = pin;
	vdev->features = features | COMMON_FEATURES;
	if (config_size)
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
