/*
 * A virtio device is made of four parts:
 *
 *   a register file   how a driver reaches it (virtio_mmio.c, virtio_pci.c)
 *   the state machine status, features, queues, configuration (virtio.c)
 *   a worker thread   serves the queues (virtio_worker.c)
 *   a type            knows what the requests mean (virtio_blk.c, ...)
 *
 * Life, as the driver drives it (virtio 1.2, 3.1):
 *
 *   reset -> features agreed -> queues set up -> DRIVER_OK -> running
 *     -> reset, from any state; broken -> reset
 *
 * A queue is the register file's until DRIVER_OK and after virtio_quiesce(),
 * and the worker's while it is running: neither needs a lock around it.
 */
#ifndef FOAL_DEVICES_VIRTIO_H
#define FOAL_DEVICES_VIRTIO_H

#include <poll.h>
#include <pthread.h>

#include "devices/device.h"
#include "devices/virtqueue.h"

#define VIRTIO_QUEUES_MAX 8
#define VIRTIO_CONFIG_MAX 128
/* Descriptors that a type waits for; one that needs more polls an epoll descriptor. */
#define VIRTIO_POLL_MAX	  4

struct state;
struct virtio_device;
struct virtio_pci;

/*
 * A kind of virtio device. What returns int for a queue returns 0, or -EPROTO
 * or -ESHUTDOWN as the functions of virtqueue.h do.
 */
struct virtio_type {
	uint32_t id;	   /* VIRTIO_ID_* */
	const char *label; /* of the worker thread; names its kind to host->thread_begins */
	unsigned nr_queues;
	/*
	 * Serve one request. 0: give the chain back with *@written. -ECANCELED: drop
	 * it (see virtio_cancelled). Otherwise the queue is unusable.
	 */
	int (*serve)(struct virtio_device *vdev, struct virtqueue *vq, struct vq_chain *chain,
		     uint32_t *written);
	/*
	 * Optional, for types whose requests wait for data of the host's: do what
	 * can be done on queue @index now, without blocking. Called for every queue
	 * that is set up, after a notification or when a descriptor of @poll is
	 * ready. Without it, and where it calls virtio_serve_chains(), @serve is.
	 */
	int (*serve_queue)(struct virtio_device *vdev, unsigned index);
	/*
	 * Optional: what the worker is to wait for besides notifications. Fills in
	 * at most VIRTIO_POLL_MAX of @fds and returns how many. Called after the
	 * queues were served: a descriptor that is ready and of no use (data, but
	 * no buffer for it) is to be left out, or the worker spins.
	 */
	unsigned (*poll)(struct virtio_device *vdev, struct pollfd *fds);
	/*
	 * Optional; lock held, the worker idle. @activate: DRIVER_OK, features are
	 * settled; returns NULL or why the device cannot run (a string literal).
	 * @reset: forget what the driver had going.
	 */
	const char *(*activate)(struct virtio_device *vdev);
	void (*reset)(struct virtio_device *vdev);
	/*
	 * Optional; lock held: the driver writes @len bytes of the configuration at
	 * @offset, all inside of it. Changes vdev->config itself, where it may be.
	 */
	void (*config_write)(struct virtio_device *vdev, unsigned offset, unsigned len,
			     uint64_t value);
	/* The same: it has read @len bytes at @offset. */
	void (*config_was_read)(struct virtio_device *vdev, uint64_t offset, unsigned len);
	/*
	 * Optional; lock held, the worker idle: the state of a driver was loaded that knows
	 * another configuration than this one, and will hear that it changed. Before @activate.
	 */
	void (*renewed)(struct virtio_device *vdev);
	/*
	 * Optional; lock held, the worker idle. @held: the chains of queue @index that were
	 * taken and not given back, which are served once more after a load. @state:
	 * save or load what is the type's (devices/state.h), after @reset when
	 * loading; the configuration of the machine that loads stays its own, but
	 * for what the type sets here.
	 */
	void (*held)(struct virtio_device *vdev, unsigned index, struct vq_held *held);
	void (*state)(struct virtio_device *vdev, struct state *s);
};

/* How a register file tells its driver something; lock held. */
struct virtio_transport {
	/* Queue @index has used buffers. */
	void (*used)(struct virtio_device *vdev, unsigned index);
	/* The configuration changed, or the device needs a reset. */
	void (*config_changed)(struct virtio_device *vdev);
	/* The device was reset. */
	void (*reset)(struct virtio_device *vdev);
	/* Save or load the registers, when the device's own are. Interrupts are not told of. */
	void (*state)(struct virtio_device *vdev, struct state *s);
};

/* What virtio-mmio has beyond the device's own state. */
struct virtio_mmio {
	unsigned pin;
	uint8_t interrupt_status;
	bool line; /* of the interrupt pin */
	uint32_t device_features_sel, driver_features_sel, queue_sel;
};

struct virtio_device {
	struct device dev;
	/* Fixed when created. */
	const struct virtio_type *type;
	const struct virtio_transport *transport;
	uint64_t features; /* offered */
	unsigned config_size;
	int kick; /* eventfd: a driver notified, or the worker is to look up */

	atomic_bool cancel;   /* give up the request at hand */
	atomic_bool stopping; /* for good */
	atomic_bool
	    hold; /* begin nothing more until virtio_release(); written with the lock held */

	/* The worker's own. */
	struct vq_chain chain;

	pthread_mutex_t lock; /* all below */
	pthread_cond_t idle;  /* busy became false */
	bool busy;	      /* the worker is at the queues */
	bool running;	      /* DRIVER_OK, not being reset: the worker may begin */
	bool quiescing;	      /* someone waits for idle; registers are not written */
	bool has_thread;
	pthread_t thread;
	uint8_t status;
	uint32_t generation; /* of the configuration */
	bool config_news;    /* the driver is to hear of a change once the worker runs */
	_Alignas(8) uint8_t config[VIRTIO_CONFIG_MAX]; /* types look at it as their struct */
	uint64_t driver_features;
	struct virtqueue queues[VIRTIO_QUEUES_MAX];
	struct virtio_mmio mmio;
	struct virtio_pci *pci; /* where that is the register file; of virtio_pci.c */
};

static inline struct virtio_device *virtio_of(struct device *dev)
{
	return device_of(dev, struct virtio_device, dev);
}

/* --- for types ------------------------------------------------------------------- */

/*
 * Initialise a device that offers @features and those that all have, reached
 * through virtio-mmio with its interrupt on @pin. Errors: -EMFILE etc. from
 * eventfd; nothing to undo then.
 */
int virtio_init(struct virtio_device *vdev, const struct device_ops *ops,
		const struct device_host *host, const struct virtio_type *type, unsigned pin,
		uint64_t features, const void *config, unsigned config_size);
void virtio_fini(struct virtio_device *vdev);

/* Whether the driver took feature @bit. Settled from activate() to reset(). */
static inline bool virtio_negotiated(const struct virtio_device *vdev, unsigned bit)
{
	return vdev->driver_features >> bit & 1;
}

/* Whether the request at hand is to be dropped: the driver resets, or the run ends. */
static inline bool virtio_cancelled(struct virtio_device *vdev)
{
	return atomic_load_explicit(&vdev->cancel, memory_order_relaxed);
}

/* Whether to begin another request: not if it would be dropped, or the VM is paused. */
static inline bool virtio_leaves(struct virtio_device *vdev)
{
	return virtio_cancelled(vdev) || atomic_load_explicit(&vdev->hold, memory_order_relaxed);
}

/* vdev->config was changed: a new generation, and the driver is told. Lock held. */
void virtio_config_changed(struct virtio_device *vdev);

/* Mark it broken: DEVICE_NEEDS_RESET. @why is a string literal. Lock held. */
void virtio_break(struct virtio_device *vdev, const char *why);

/*
 * Serve @vq's chains by the type's @serve until there are none, and ask to be
 * notified of the next. Worker, lock not held.
 */
int virtio_serve_chains(struct virtio_device *vdev, struct virtqueue *vq);

/* Interrupt the driver if it wants to hear of what was pushed to @vq. Worker, lock not held. */
int virtio_signal_used(struct virtio_device *vdev, struct virtqueue *vq);

/* --- for register files; lock held ------------------------------------------------- */

/* 32 bits of the features offered; those taken. Bits from 64 up are offered by nobody. */
uint32_t virtio_features_word(const struct virtio_device *vdev, uint32_t word);
void virtio_take_features(struct virtio_device *vdev, uint32_t word, uint32_t value);

/* The driver writes the status; 0 resets. May give the lock up while it waits. */
void virtio_set_status(struct virtio_device *vdev, uint32_t value);

/*
 * Forget what the driver set up and take its interrupts back. False: as virtio_quiesce(),
 * and nothing is forgotten.
 */
bool virtio_reset(struct virtio_device *vdev);

/* Do the features that the driver took make sense? */
bool virtio_features_sound(const struct virtio_device *vdev);

/* Queue @index, or NULL. */
struct virtqueue *virtio_queue(struct virtio_device *vdev, uint32_t index);
/* Make it ready as it was set up, or forget it. */
void virtio_queue_enable(struct virtio_device *vdev, struct virtqueue *vq);
void virtio_queue_disable(struct virtio_device *vdev, struct virtqueue *vq);

/* Bytes past the end read as 0; a write that is not all inside does nothing. */
uint64_t virtio_config_read(struct virtio_device *vdev, uint64_t offset, unsigned len);
void virtio_config_write(struct virtio_device *vdev, uint64_t offset, unsigned len, uint64_t value);

/* --- the register file of virtio-mmio version 2 (virtio 1.2, 4.2.2) ------------------ */

extern const struct virtio_transport virtio_mmio_transport;

/* Of struct device_ops. */
int virtio_mmio_start(struct device *dev, uint64_t base);
uint64_t virtio_mmio_read(struct device *dev, uint64_t offset, unsigned len);
void virtio_mmio_write(struct device *dev, uint64_t offset, unsigned len, uint64_t value);

/* virtio_state.c; of struct device_ops, whatever the register file is. */
#define VIRTIO_STATE_VERSION 1
bool virtio_state(struct device *dev, struct state *s);
bool virtio_remembers(const struct device *dev);

/* What the ops of every virtio device say, besides .kind and .destroy. */
#define VIRTIO_DEVICE_OPS \
	.start = virtio_mmio_start, .read = virtio_mmio_read, .write = virtio_mmio_write, \
	.hold = virtio_hold, .release = virtio_release, .forked = virtio_forked, \
	.stop = virtio_stop, .state = virtio_state, .state_version = VIRTIO_STATE_VERSION, \
	.remembers = virtio_remembers

/* --- the worker ------------------------------------------------------------------- */

/* Create the thread; it waits until virtio_run(). Errors: pthread_create's. */
int virtio_start(struct virtio_device *vdev);
/* Let the worker at the queues, and have it look. Lock held. */
void virtio_run(struct virtio_device *vdev);
/* Have the worker look at the queues. */
void virtio_kick(struct virtio_device *vdev);
/*
 * Stop serving, drop the request at hand, and wait for the worker to be idle.
 * Lock held; given up while waiting, in which the registers stand still.
 * False: the run is ending and the worker still at the queues, which nobody
 * else may touch any more.
 */
bool virtio_quiesce(struct virtio_device *vdev);
/* device_ops.hold and .release: the worker ends the request at hand, and begins no other. */
struct device *virtio_hold(struct device *dev, uint64_t deadline);
void virtio_release(struct device *dev);
/* device_ops.forked. */
void virtio_forked(struct device *dev);
/* device_ops.stop: end the thread. */
void virtio_stop(struct device *dev);

#endif
