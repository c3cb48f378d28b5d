/*
 * The thread that serves the queues of one virtio device, so that a vCPU never
 * waits for a disk. It sleeps on an eventfd, which the driver's notification
 * writes, and starts when a driver first says DRIVER_OK: a device that is not
 * used costs no thread.
 */
#include <errno.h>
#include <linux/virtio_mmio.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/virtio.h"
#include "guest/abi.h"

void virtio_kick(struct virtio_device *vdev)
{
	(void)eventfd_write(vdev->kick, 1);
}

static void signal_driver(struct virtio_device *vdev)
{
	pthread_mutex_lock(&vdev->lock);
	virtio_raise(vdev, VIRTIO_MMIO_INT_VRING);
	pthread_mutex_unlock(&vdev->lock);
}

/* One chain: 1 served, 0 none there, or why the queue cannot go on. */
static int serve_one(struct virtio_device *vdev, struct virtqueue *vq)
{
	uint32_t written = 0;
	int rc = vq_pop(vq, &vdev->chain);

	if (rc <= 0)
		return rc;
	rc = vdev->type->serve(vdev, vq, &vdev->chain, &written);
	if (rc)
		return rc;
	rc = vq_push(vq, &vdev->chain, written);
	if (rc)
		return rc;
	rc = vq_signal_wanted(vq);
	if (rc < 0)
		return rc;
	if (rc > 0)
		signal_driver(vdev);
	return 1;
}

/* Until the queue is empty, and asked to tell when it no longer is. */
static int serve_queue(struct virtio_device *vdev, struct virtqueue *vq)
{
	int rc;

	do {
		rc = vq_suppress(vq);
		while (rc == 0 && !virtio_cancelled(vdev)) {
			rc = serve_one(vdev, vq);
			if (rc == 0)
				break;
			if (rc > 0)
				rc = 0;
		}
		if (rc == 0)
			rc = vq_arm(vq);
	} while (rc > 0 && !virtio_cancelled(vdev));
	return rc;
}

static bool begin(struct virtio_device *vdev)
{
	pthread_mutex_lock(&vdev->lock);
	vdev->busy = vdev->running;
	pthread_mutex_unlock(&vdev->lock);
	return vdev->busy;
}

static void end(struct virtio_device *vdev, const char *why)
{
	pthread_mutex_lock(&vdev->lock);
	vdev->busy = false;
	/* A driver that is resetting has no use for the news. */
	if (why && vdev->running)
		virtio_break(vdev, why);
	pthread_cond_broadcast(&vdev->idle);
	pthread_mutex_unlock(&vdev->lock);
}

static void *worker(void *arg)
{
	struct virtio_device *vdev = arg;
	eventfd_t count;

	while (!atomic_load(&vdev->stopping)) {
		const char *why = NULL;

		if (eventfd_read(vdev->kick, &count) || !begin(vdev))
			continue;
		for (unsigned i = 0; i < vdev->type->nr_queues && !why; i++) {
			struct virtqueue *vq = &vdev->queues[i];

			if (vq->ready && serve_queue(vdev, vq) == -EPROTO)
				why = vq->broken;
		}
		end(vdev, why);
	}
	return NULL;
}

/*
 * Signals are for the monitor's main thread, but not those of a crash: blocked,
 * they would end the process past the handler that puts the terminal back.
 */
static void mask_for_worker(sigset_t *set)
{
	sigfillset(set);
	sigdelset(set, SIGSEGV);
	sigdelset(set, SIGBUS);
	sigdelset(set, SIGILL);
	sigdelset(set, SIGFPE);
}

static int start_thread(struct virtio_device *vdev)
{
	sigset_t all, old;
	char name[16];
	int rc;

	mask_for_worker(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&vdev->thread, NULL, worker, vdev);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return -rc;
	snprintf(name, sizeof(name), "foal-%s/%u", vdev->type->label,
		 vdev->pin - FOAL_VIRTIO_MMIO_PIN);
	pthread_setname_np(vdev->thread, name);
	return 0;
}

int virtio_run(struct virtio_device *vdev)
{
	if (atomic_load(&vdev->stopping))
		return 0;
	if (!vdev->has_thread) {
		int rc = start_thread(vdev);

		if (rc)
			return rc;
		vdev->has_thread = true;
	}
	atomic_store(&vdev->cancel, false);
	vdev->running = true;
	return 0;
}

bool virtio_quiesce(struct virtio_device *vdev)
{
	vdev->quiescing = true;
	vdev->running = false;
	atomic_store(&vdev->cancel, true);
	/* A run that ends must not wait for a vCPU that waits here. */
	while (vdev->busy && !atomic_load(&vdev->stopping))
		pthread_cond_wait(&vdev->idle, &vdev->lock);
	vdev->quiescing = false;
	return !vdev->busy;
}

void virtio_stop(struct device *dev)
{
	struct virtio_device *vdev = virtio_of(dev);
	bool join;

	pthread_mutex_lock(&vdev->lock);
	atomic_store(&vdev->stopping, true);
	atomic_store(&vdev->cancel, true);
	vdev->running = false;
	join = vdev->has_thread;
	vdev->has_thread = false;
	pthread_cond_broadcast(&vdev->idle);
	pthread_mutex_unlock(&vdev->lock);
	virtio_kick(vdev);
	if (join)
		pthread_join(vdev->thread, NULL);
}
