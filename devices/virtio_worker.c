/*
 * The thread that serves the queues of one virtio device, so that a vCPU never
 * waits for a disk or a network. It sleeps until the driver notifies (an eventfd,
 * which KVM or the register file writes) or a descriptor that the type waits for
 * is ready. It is there from the start, made by the thread that builds the VM:
 * made by a vCPU it would inherit what that one is confined to.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/virtio.h"
#include "ept/new_thread.h"
#include "guest/abi.h"

void virtio_kick(struct virtio_device *vdev)
{
	(void)eventfd_write(vdev->kick, 1);
}

int virtio_signal_used(struct virtio_device *vdev, struct virtqueue *vq)
{
	int rc = vq_signal_wanted(vq);

	if (rc <= 0)
		return rc;
	pthread_mutex_lock(&vdev->lock);
	/* A driver that is resetting has no use for the news. */
	if (vdev->running)
		vdev->transport->used(vdev, (unsigned)(vq - vdev->queues));
	pthread_mutex_unlock(&vdev->lock);
	return 0;
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
	if (rc == 0)
		rc = virtio_signal_used(vdev, vq);
	return rc ? rc : 1;
}

int virtio_serve_chains(struct virtio_device *vdev, struct virtqueue *vq)
{
	int rc;

	do {
		rc = vq_suppress(vq);
		while (rc == 0 && !virtio_leaves(vdev)) {
			rc = serve_one(vdev, vq);
			if (rc == 0)
				break;
			if (rc > 0)
				rc = 0;
		}
		if (rc == 0)
			rc = vq_arm(vq);
	} while (rc > 0 && !virtio_leaves(vdev));
	return rc;
}

static bool begin(struct virtio_device *vdev)
{
	pthread_mutex_lock(&vdev->lock);
	vdev->busy = vdev->running && !atomic_load(&vdev->hold);
	if (vdev->busy && vdev->config_news) {
		vdev->config_news = false;
		vdev->transport->config_changed(vdev);
	}
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

/* All queues that are set up. NULL, or why the device is broken. */
static const char *serve_queues(struct virtio_device *vdev)
{
	const struct virtio_type *type = vdev->type;

	for (unsigned i = 0; i < type->nr_queues; i++) {
		struct virtqueue *vq = &vdev->queues[i];
		int rc = 0;

		if (vq->ready)
			rc = type->serve_queue ? type->serve_queue(vdev, i)
					       : virtio_serve_chains(vdev, vq);
		if (rc == -EPROTO)
			return vq->broken;
	}
	return NULL;
}

/*
 * What to wait for is asked while busy, so that no reset gets in between. It
 * may be out of date when it turns up; then there is one round for nothing.
 */
static void *worker(void *arg)
{
	struct virtio_device *vdev = arg;
	const struct device_host *host = vdev->dev.host;
	struct pollfd fds[1 + VIRTIO_POLL_MAX] = {{.fd = vdev->kick, .events = POLLIN}};
	unsigned nr = 0;
	eventfd_t count;
	char name[16];

	snprintf(name, sizeof(name), "foal-%s/%u", vdev->type->label,
		 vdev->mmio.pin - FOAL_VIRTIO_MMIO_PIN);
	pthread_setname_np(pthread_self(), name);
	if (host->thread_begins)
		host->thread_begins(host->ctx, vdev->type->label);
	while (!atomic_load(&vdev->stopping)) {
		if (poll(fds, 1 + nr, -1) < 0)
			continue;
		if (fds[0].revents)
			(void)eventfd_read(vdev->kick, &count);
		nr = 0;
		if (begin(vdev)) {
			const char *why = serve_queues(vdev);

			if (!why && vdev->type->poll)
				nr = vdev->type->poll(vdev, fds + 1);
			end(vdev, why);
		}
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
	sigdelset(set, SIGSYS);
}

int virtio_start(struct virtio_device *vdev)
{
	sigset_t all, old;
	int rc;

	if (vdev->dev.host->thread_expected)
		vdev->dev.host->thread_expected(vdev->dev.host->ctx);
	mask_for_worker(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = ept_new_thread(&vdev->thread, worker, vdev);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	vdev->has_thread = rc == 0;
	return -rc;
}

void virtio_run(struct virtio_device *vdev)
{
	if (atomic_load(&vdev->stopping))
		return;
	atomic_store(&vdev->cancel, false);
	vdev->running = true;
	virtio_kick(vdev);
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

struct device *virtio_hold(struct device *dev, uint64_t deadline)
{
	struct virtio_device *vdev = virtio_of(dev);
	struct timespec until = {(time_t)(deadline / 1000000000u), (long)(deadline % 1000000000u)};
	bool busy;
	int rc = deadline ? 0 : ETIMEDOUT;

	pthread_mutex_lock(&vdev->lock);
	atomic_store(&vdev->hold, true);
	while (vdev->busy && rc != ETIMEDOUT)
		rc = pthread_cond_clockwait(&vdev->idle, &vdev->lock, CLOCK_MONOTONIC, &until);
	busy = vdev->busy;
	pthread_mutex_unlock(&vdev->lock);
	return busy ? dev : NULL;
}

/* What came meanwhile was not looked at. */
void virtio_release(struct device *dev)
{
	struct virtio_device *vdev = virtio_of(dev);

	pthread_mutex_lock(&vdev->lock);
	atomic_store(&vdev->hold, false);
	pthread_mutex_unlock(&vdev->lock);
	virtio_kick(vdev);
}

void virtio_forked(struct device *dev)
{
	virtio_of(dev)->has_thread = false;
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
