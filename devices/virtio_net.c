/* virtio-net: the device around its two queues (see virtio_net.h). */
#include "devices/virtio_net.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#define RECEIVE	     0
#define TRANSMIT     1

/* Frames moved before the other queue gets its turn. */
#define BUDGET	     128

#define FEATURE(bit) (1ULL << (bit))

static struct virtio_net *net_of(struct virtio_device *vdev)
{
	return device_of(vdev, struct virtio_net, vdev);
}

static struct virtio_net_config *config_of(struct virtio_net *net)
{
	return (void *)net->vdev.config;
}

void net_gone(struct virtio_net *net)
{
	pthread_mutex_lock(&net->vdev.lock);
	net->gone = true;
	net->relink = false;
	config_of(net)->status &= ~VIRTIO_NET_S_LINK_UP;
	virtio_config_changed(&net->vdev);
	pthread_mutex_unlock(&net->vdev.lock);
}

/* --- what the worker calls --------------------------------------------------------------- */

/* TUN_F_* for what the driver takes; segmentation comes with checksums or not at all. */
static unsigned offloads(const struct virtio_device *vdev)
{
	static const struct {
		unsigned bit, flag;
	} map[] = {
	    {VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM},
	    {VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4},
	    {VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6},
	    {VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN},
	};
	unsigned flags = 0;

	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
		if (virtio_negotiated(vdev, map[i].bit))
			flags |= map[i].flag;
	return flags & TUN_F_CSUM ? flags : 0;
}

/* Done here and not by the vCPU, which has no business with the link's descriptor. */
static void attach(struct virtio_net *net)
{
	if (atomic_exchange(&net->attach, false) && !net->gone)
		net->link->ops->attach(net->link, offloads(&net->vdev));
}

static void flush(struct virtio_net *net)
{
	int rc = net->link->unsent && !net->gone ? net->link->ops->flush(net->link) : 0;

	if (rc && rc != -EAGAIN)
		net_gone(net);
}

/* Frames until there are none, or the other queue is to have its turn. */
static int move(struct virtio_net *net, unsigned index)
{
	struct virtqueue *vq = &net->vdev.queues[index];
	int rc = vq_suppress(vq);

	for (unsigned i = 0; rc == 0 && i < BUDGET; i++) {
		if (virtio_cancelled(&net->vdev))
			return 0;
		rc = index == RECEIVE ? net_receive(net, vq) : net_transmit(net, vq);
		if (rc <= 0)
			return rc;
		rc = 0;
	}
	virtio_kick(&net->vdev);
	return rc;
}

static int net_serve_queue(struct virtio_device *vdev, unsigned index)
{
	struct virtio_net *net = net_of(vdev);
	int rc;

	attach(net);
	if (index == TRANSMIT)
		flush(net);
	else if (net->gone)
		return 0;
	rc = move(net, index);
	return rc ? rc : virtio_signal_used(vdev, &vdev->queues[index]);
}

static unsigned net_poll(struct virtio_device *vdev, struct pollfd *fds)
{
	struct virtio_net *net = net_of(vdev);
	short events = 0;

	if (net->gone)
		return 0;
	/* A driver may have taken a queue away, and what it would be served for is left. */
	if (!net->rx.starved && vdev->queues[RECEIVE].ready)
		events |= POLLIN;
	if ((net->waiting || net->link->unsent) && vdev->queues[TRANSMIT].ready)
		events |= POLLOUT;
	fds[0] = (struct pollfd){.fd = net->link->fd, .events = events};
	return events != 0;
}

/* --- another network than the driver knows --------------------------------------------------- */

/*
 * Drivers look at the status of the link, and hardly at the address once they have it. So the
 * link goes down, and comes up again when that was read: what is above it begins anew. Frames
 * are moved meanwhile.
 */
static void net_renewed(struct virtio_device *vdev)
{
	struct virtio_net *net = net_of(vdev);

	if (net->gone || !(vdev->status & VIRTIO_CONFIG_S_DRIVER_OK) ||
	    !virtio_negotiated(vdev, VIRTIO_NET_F_STATUS))
		return;
	config_of(net)->status &= ~VIRTIO_NET_S_LINK_UP;
	net->relink = true;
}

static void net_config_was_read(struct virtio_device *vdev, uint64_t offset, unsigned len)
{
	const uint64_t status = offsetof(struct virtio_net_config, status);
	struct virtio_net *net = net_of(vdev);

	/* What was read before the driver heard of it tells it nothing. */
	if (!net->relink || vdev->config_news || offset > status ||
	    offset + len < status + sizeof(uint16_t))
		return;
	net->relink = false;
	config_of(net)->status |= VIRTIO_NET_S_LINK_UP;
	virtio_config_changed(vdev);
}

static const char *net_activate(struct virtio_device *vdev)
{
	atomic_store(&net_of(vdev)->attach, true);
	return NULL;
}

static void net_reset(struct virtio_device *vdev)
{
	struct virtio_net *net = net_of(vdev);

	if (net->relink)
		config_of(net)->status |= VIRTIO_NET_S_LINK_UP;
	net->relink = false;
	net->waiting = false;
	net->rx.has_chain = false;
	net->rx.starved = true;
	net->rx.nr_used = net->rx.slots = 0;
	net->rx.at = net->rx.end = 0;
}

/* A frame that was on its way to the guest is lost, as frames are. */
static void net_held(struct virtio_device *vdev, unsigned index, struct vq_held *held)
{
	const struct virtio_net *net = net_of(vdev);

	if (index == TRANSMIT && net->waiting)
		vq_hold(held, &vdev->chain);
	if (index == RECEIVE) {
		held->chains = net->rx.nr_used;
		held->slots = net->rx.slots;
		if (net->rx.has_chain)
			vq_hold(held, &net->rx.chain);
	}
}

static const struct virtio_type net_type = {
    .id = VIRTIO_ID_NET,
    .label = "net",
    .nr_queues = 2,
    .serve_queue = net_serve_queue,
    .poll = net_poll,
    .activate = net_activate,
    .reset = net_reset,
    .held = net_held,
    .config_was_read = net_config_was_read,
    .renewed = net_renewed,
};

/* --- the device ---------------------------------------------------------------------------- */

void virtio_net_stats(struct device *dev, struct net_stats *out)
{
	struct virtio_net *net = net_of(virtio_of(dev));

#define X(field, name) out->field = atomic_load_explicit(&net->stats.field, memory_order_relaxed);
	NET_COUNTERS(X)
#undef X
}

static void net_destroy(struct device *dev)
{
	struct virtio_net *net = net_of(virtio_of(dev));

	virtio_fini(&net->vdev);
	net->link->ops->close(net->link);
	free(net);
}

const struct device_ops virtio_net_device = {
    .kind = "virtio-net",
    VIRTIO_DEVICE_OPS,
    .destroy = net_destroy,
};

int virtio_net_create(const struct device_host *host, unsigned pin, const struct net_config *config,
		      struct device **out)
{
	struct virtio_net *net = calloc(1, sizeof(*net));
	struct virtio_net_config space = {.status = VIRTIO_NET_S_LINK_UP, .mtu = config->mtu};
	uint64_t features = FEATURE(VIRTIO_NET_F_MAC) | FEATURE(VIRTIO_NET_F_STATUS) |
			    FEATURE(VIRTIO_NET_F_MRG_RXBUF);
	int rc;

	if (!net)
		return -ENOMEM;
	rc = config->kind == NET_TAP ? net_tap_open(config->fd, &net->link)
				     : net_stream_open(config->fd, &net->link);
	if (rc)
		goto err_free;
	memcpy(space.mac, config->mac, sizeof(space.mac));
	if (config->mtu)
		features |= FEATURE(VIRTIO_NET_F_MTU);
	rc = virtio_init(&net->vdev, &virtio_net_device, host, &net_type, pin,
			 features | net->link->features, &space,
			 offsetof(struct virtio_net_config, speed));
	if (rc)
		goto err_link;
	net->rx.starved = true;
	*out = &net->vdev.dev;
	return 0;

err_link:
	net->link->ops->close(net->link);
err_free:
	free(net);
	return rc;
}
