/*
 * A virtio device: the transport's registers (virtio_mmio.c), a worker thread
 * that serves its queues (virtio_worker.c), and a type that knows what the
 * requests mean (virtio_blk.c, virtio_pmem.c).
 *
 * Life, as the driver drives it (virtio 1.2, 3.1):
 *
 *   reset -> features agreed -> queues set up -> DRIVER_OK -> running
 *     -> reset, from any state; broken -> reset
 *
 * A queue is the transport's until DRIVER_OK and after virtio_quiesce(), and
 * the worker's while it is running: neither needs a lock around it.
 */
#ifndef FOAL_DEVICES_VIRTIO_H
#define FOAL_DEVICES_VIRTIO_H

#include <pthread.h>

#include "devices/device.h"
#include "devices/virtqueue.h"

#define VIRTIO_QUEUES_MAX 4
#define VIRTIO_CONFIG_MAX 128

struct virtio_device;

/* A kind of virtio device. */
struct virtio_type {
	uint32_t id;	   /* VIRTIO_ID_* */
	const char *label; /* of the worker thread */
	unsigned nr_queues;
	/*
	 * Serve one request. 0: give the chain back with *@written. -ECANCELED: drop
	 * it (see virtio_cancelled). Otherwise the queue is unusable, as the
	 * functions of virtqueue.h say.
	 */
	int (*serve)(struct virtio_device *vdev, struct virtqueue *vq, struct vq_chain *chain,
		     uint32_t *written);
};

struct virtio_device {
	struct device dev;
	/* Fixed when created. */
	const struct virtio_type *type;
	unsigned pin;
	uint64_t features; /* offered */
	uint8_t config[VIRTIO_CONFIG_MAX];
	unsigned config_size;
	int kick; /* eventfd: a driver notified, or the worker is to look up */

	atomic_bool cancel;   /* give up the request at hand */
	atomic_bool stopping; /* for good */

	/* The worker's own. */
	struct vq_chain chain;

	pthread_mutex_t lock; /* all below */
	pthread_cond_t idle;  /* busy became false */
	bool busy;	      /* the worker is at the queues */
	bool running;	      /* DRIVER_OK, not being reset: the worker may begin */
	bool quiescing;	      /* someone waits for idle; registers are not written */
	bool has_thread;
	pthread_t thread;
	uint8_t status, interrupt_status;
	bool line; /* of the interrupt pin */
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	uint64_t driver_features;
	struct virtqueue queues[VIRTIO_QUEUES_MAX];
};

/*
 * Initialise a device that offers @features and the transport's own. @pin and
 * @type as above. Errors: -EMFILE etc. from eventfd; nothing to undo then.
 */
int virtio_init(struct virtio_device *vdev, const struct device_ops *ops,
		const struct device_host *host, const struct virtio_type *type, unsigned pin,
		uint64_t features, const void *config, unsigned config_size);
void virtio_fini(struct virtio_device *vdev);

static inline struct virtio_device *virtio_of(struct device *dev)
{
	return device_of(dev, struct virtio_device, dev);
}

/* The register file of virtio-mmio version 2 (virtio 1.2, 4.2.2). */
uint64_t virtio_mmio_read(struct device *dev, uint64_t offset, unsigned len);
void virtio_mmio_write(struct device *dev, uint64_t offset, unsigned len, uint64_t value);

/* Whether the request at hand is to be dropped: the driver resets, or the run ends. */
static inline bool virtio_cancelled(struct virtio_device *vdev)
{
	return atomic_load_explicit(&vdev->cancel, memory_order_relaxed);
}

/* Raise the interrupt for @bits (VIRTIO_MMIO_INT_*). Lock held. */
void virtio_raise(struct virtio_device *vdev, uint8_t bits);

/* Mark it broken: DEVICE_NEEDS_RESET. @why is a string literal. Lock held. */
void virtio_break(struct virtio_device *vdev, const char *why);

/* --- the worker ------------------------------------------------------------------- */

/* Start serving; the first time starts the thread. Lock held. Errors: pthread_create's. */
int virtio_run(struct virtio_device *vdev);
/* Have the worker look at the queues. */
void virtio_kick(struct virtio_device *vdev);
/*
 * Stop serving, drop the request at hand, and wait for the worker to be idle.
 * Lock held; given up while waiting, in which the registers stand still.
 * False: the run is ending and the worker still at the queues, which nobody
 * else may touch any more.
 */
bool virtio_quiesce(struct virtio_device *vdev);
/* device_ops.stop: end the thread. */
void virtio_stop(struct device *dev);

#endif
