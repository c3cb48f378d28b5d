/*
 * The state of a virtio device, in both directions. What the driver set up is
 * loaded as if it came from a driver: features, queues and status are
 * checked against what this machine's device offers.
 */
#include <linux/virtio_config.h>
#include <string.h>

#include "devices/state.h"
#include "devices/virtio.h"

#define STATUS_BITS \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK | \
	 VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED)

static void status_state(struct virtio_device *vdev, struct state *s)
{
	uint8_t status;

	state_fixed(s, vdev->type->id, "the device's ID");
	state_u8(s, &vdev->status);
	state_u64(s, &vdev->driver_features);
	status = vdev->status;
	state_check(s, !(status & ~STATUS_BITS), "a status with bits that are not there");
	state_check(s,
		    !(status & VIRTIO_CONFIG_S_DRIVER_OK) || status & VIRTIO_CONFIG_S_FEATURES_OK,
		    "a driver that runs before its features are agreed");
	if (s->loading && status & VIRTIO_CONFIG_S_FEATURES_OK && !virtio_features_sound(vdev))
		state_refuse(s, "the driver took features 0x%llx, the device has 0x%llx here",
			     (unsigned long long)vdev->driver_features,
			     (unsigned long long)vdev->features);
}

static void queues_state(struct virtio_device *vdev, struct state *s)
{
	for (unsigned i = 0; i < vdev->type->nr_queues; i++) {
		struct vq_held held = {0};

		if (!s->loading && vdev->type->held)
			vdev->type->held(vdev, i, &held);
		vq_state(&vdev->queues[i], s, vdev->driver_features, &held);
		state_check(s, !vdev->queues[i].ready || vdev->status & VIRTIO_CONFIG_S_FEATURES_OK,
			    "a queue is ready before the features are agreed");
	}
}

/* The driver has read the configuration as it was; where it is another one here, it hears of it. */
static void config_state(struct virtio_device *vdev, struct state *s)
{
	uint8_t was[VIRTIO_CONFIG_MAX];
	bool news = vdev->config_news;

	memcpy(was, vdev->config, sizeof(was));
	state_u32(s, &vdev->generation);
	state_bool(s, &news);
	state_fixed(s, vdev->config_size, "the size of the configuration");
	state_bytes(s, was, vdev->config_size);
	if (!s->loading)
		return;
	vdev->config_news = news;
	if (memcmp(was, vdev->config, vdev->config_size) != 0) {
		vdev->generation++;
		vdev->config_news = true;
		if (vdev->type->renewed)
			vdev->type->renewed(vdev);
	}
}

/* As the driver left it: broken, running, or not that far. */
static void go_on(struct virtio_device *vdev, struct state *s)
{
	const char *why = NULL;

	if (vdev->status & VIRTIO_CONFIG_S_NEEDS_RESET) {
		atomic_store_explicit(&vdev->dev.broken, "it was broken when its state was saved",
				      memory_order_release);
		return;
	}
	if (!(vdev->status & VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	if (vdev->type->activate)
		why = vdev->type->activate(vdev);
	if (state_check(s, !why, why))
		virtio_run(vdev);
}

bool virtio_state(struct device *dev, struct state *s)
{
	struct virtio_device *vdev = virtio_of(dev);

	pthread_mutex_lock(&vdev->lock);
	if (vdev->busy || (s->loading && !virtio_reset(vdev)))
		state_refuse(s, "a request is under way");
	status_state(vdev, s);
	queues_state(vdev, s);
	if (state_ok(s))
		vdev->transport->state(vdev, s);
	if (state_ok(s) && vdev->type->state)
		vdev->type->state(vdev, s);
	config_state(vdev, s);
	if (s->loading && state_ok(s))
		go_on(vdev, s);
	pthread_mutex_unlock(&vdev->lock);
	return state_ok(s);
}

/* A type that keeps chains may also have connections, frames, input of the host's. */
bool virtio_remembers(const struct device *dev)
{
	const struct virtio_device *vdev = device_of(dev, const struct virtio_device, dev);

	return vdev->type->held && vdev->status & VIRTIO_CONFIG_S_DRIVER_OK;
}
