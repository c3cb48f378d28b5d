/*
 * virtio-pmem (virtio 1.2, 5.19): tells where an area of guest memory lies that
 * a file is behind, and makes what the guest wrote there durable on request.
 */
#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pmem.h>
#include <stdlib.h>

#include "devices/state.h"
#include "devices/virtio.h"
#include "ept/stats.h"

/* Answers (5.19.6), which the kernel's header does not name. */
#define PMEM_OK	 0
#define PMEM_EIO 1

struct virtio_pmem {
	struct virtio_device vdev;
	struct ept_area *area; /* borrowed */
};

static int pmem_serve(struct virtio_device *vdev, struct virtqueue *vq, struct vq_chain *chain,
		      uint32_t *written)
{
	struct virtio_pmem *pmem = device_of(vdev, struct virtio_pmem, vdev);
	struct vq_cursor in = vq_readable(chain), out = vq_writable(chain);
	struct virtio_pmem_req request;
	struct virtio_pmem_resp response = {.ret = PMEM_EIO};
	int rc;

	if (chain->readable < sizeof(request) || chain->writable < sizeof(response))
		return vq_break(vq, "a flush request lacks its type or its answer");
	rc = vq_copy_out(vq, &in, &request, sizeof(request));
	if (rc == 0 && request.type == VIRTIO_PMEM_REQ_TYPE_FLUSH && ept_area_sync(pmem->area) == 0)
		response.ret = PMEM_OK;
	if (rc == 0)
		rc = vq_copy_in(vq, &out, &response, sizeof(response));
	if (rc == -ESHUTDOWN)
		return rc;
	if (rc)
		return vq_break(vq, "a flush request lies outside of guest memory");
	*written = sizeof(response);
	return 0;
}

static void pmem_state(struct virtio_device *vdev, struct state *s)
{
	const struct virtio_pmem *pmem = device_of(vdev, struct virtio_pmem, vdev);
	struct ept_area_info info;

	ept_area_info(pmem->area, &info);
	state_fixed(s, info.gpa.v, "where the file lies in memory");
	state_fixed(s, info.size, "the file's size");
}

static const struct virtio_type pmem_type = {
    .id = VIRTIO_ID_PMEM,
    .label = "pmem",
    .nr_queues = 1,
    .serve = pmem_serve,
    .state = pmem_state,
};

static void pmem_destroy(struct device *dev)
{
	struct virtio_pmem *pmem = device_of(virtio_of(dev), struct virtio_pmem, vdev);

	virtio_fini(&pmem->vdev);
	free(pmem);
}

const struct device_ops virtio_pmem_device = {
    .kind = "virtio-pmem",
    VIRTIO_DEVICE_OPS,
    .destroy = pmem_destroy,
};

int virtio_pmem_create(const struct device_host *host, unsigned pin, struct ept_area *area,
		       struct device **out)
{
	struct virtio_pmem *pmem = calloc(1, sizeof(*pmem));
	struct virtio_pmem_config config;
	struct ept_area_info info;
	int rc;

	if (!pmem)
		return -ENOMEM;
	ept_area_info(area, &info);
	config = (struct virtio_pmem_config){.start = info.gpa.v, .size = info.size};
	pmem->area = area;
	rc = virtio_init(&pmem->vdev, &virtio_pmem_device, host, &pmem_type, pin, 0, &config,
			 sizeof(config));
	if (rc) {
		free(pmem);
		return rc;
	}
	*out = &pmem->vdev.dev;
	return 0;
}
