/*
 * virtio-rng (virtio 1.2, 5.4): random bytes of the host's. A request may ask
 * for any amount and is content with less, so it gets a piece.
 */
#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "devices/virtio.h"

/* getrandom(2) gives so much without being interrupted. */
#define PIECE 256

static int rng_serve(struct virtio_device *vdev, struct virtqueue *vq, struct vq_chain *chain,
		     uint32_t *written)
{
	struct vq_cursor to = vq_writable(chain);
	uint8_t bytes[PIECE];
	size_t len = chain->writable < PIECE ? chain->writable : PIECE;
	int rc;

	(void)vdev;
	if (len == 0)
		return vq_break(vq, "a request for random bytes has no room for them");
	/* Waits only for a host that has just been switched on. */
	if (getrandom(bytes, len, 0) != (ssize_t)len)
		return vq_break(vq, "the host has no random bytes");
	rc = vq_copy_in(vq, &to, bytes, len);
	explicit_bzero(bytes, sizeof(bytes));
	if (rc)
		return rc == -ESHUTDOWN
			   ? rc
			   : vq_break(vq, "a buffer for random bytes cannot be written");
	*written = (uint32_t)len;
	return 0;
}

static const struct virtio_type rng_type = {
    .id = VIRTIO_ID_RNG,
    .label = "rng",
    .nr_queues = 1,
    .serve = rng_serve,
};

static void rng_destroy(struct device *dev)
{
	virtio_fini(virtio_of(dev));
	free(virtio_of(dev));
}

const struct device_ops virtio_rng_device = {
    .kind = "virtio-rng",
    VIRTIO_DEVICE_OPS,
    .destroy = rng_destroy,
};

int virtio_rng_create(const struct device_host *host, unsigned pin, struct device **out)
{
	struct virtio_device *vdev = calloc(1, sizeof(*vdev));
	int rc;

	if (!vdev)
		return -ENOMEM;
	rc = virtio_init(vdev, &virtio_rng_device, host, &rng_type, pin, 0, NULL, 0);
	if (rc) {
		free(vdev);
		return rc;
	}
	*out = &vdev->dev;
	return 0;
}
