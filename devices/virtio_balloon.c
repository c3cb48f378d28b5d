/*
 * virtio-balloon (virtio 1.2, 5.5): the guest names pages that it does not need,
 * and foal gives them back to the host.
 *
 *   inflate, deflate   pages the guest put aside, because num_pages asks for it
 *   reporting          ranges that are free at the moment, offered all the time
 *   hints              the same for a caller that asked (virtio_balloon_hints())
 *   statistics         what the guest knows of its memory, as of its last word
 *
 * A hinted range is never dropped here. The guest may take it back and write to
 * it while the hint is still in the ring (5.5.6.6): only who watches writes
 * from the hint's round on can tell, and that is the one who asked.
 */
#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "devices/state.h"
#include "devices/virtio_balloon.h"

#define FEATURE(bit)  (1ULL << (bit))
#define PFN_SHIFT     VIRTIO_BALLOON_PFN_SHIFT
/* Hints are numbered from here (5.5.6.6); below are commands. */
#define FIRST_HINT_ID 2
/* Statistics looked at in one report. */
#define MAX_STATS     256

enum { INFLATE, DEFLATE, STATS, HINTS, REPORTING, NR_QUEUES };

/* --- hints ------------------------------------------------------------------------------ */

/*
 * A readable buffer has the number of the round that begins, or says that it
 * ended; writable ones are the free ranges of that round.
 */
static int serve_hints(struct virtio_balloon *balloon, struct virtqueue *vq,
		       const struct vq_chain *chain)
{
	struct vq_cursor from = vq_readable(chain);
	struct virtio_device *vdev = &balloon->vdev;
	uint32_t id;
	int rc;

	if (chain->readable >= sizeof(id)) {
		rc = vq_copy_out(vq, &from, &id, sizeof(id));
		if (rc)
			return rc == -ESHUTDOWN
				   ? rc
				   : vq_break(vq, "a hint's number lies outside of guest memory");
		pthread_mutex_lock(&vdev->lock);
		balloon->hinting =
		    id >= FIRST_HINT_ID && id == config_of(balloon)->free_page_hint_cmd_id;
		pthread_mutex_unlock(&vdev->lock);
	}
	pthread_mutex_lock(&vdev->lock);
	for (unsigned i = chain->nr_readable; i < chain->nr && balloon->hinting; i++) {
		balloon_count(&balloon->stats.hinted, chain->buf[i].len);
		if (balloon->hint)
			balloon->hint(balloon->hint_ctx, chain->buf[i].gpa, chain->buf[i].len);
	}
	pthread_mutex_unlock(&vdev->lock);
	return 0;
}

/* --- the guest's statistics ---------------------------------------------------------------- */

static int read_report(struct virtio_balloon *balloon, struct virtqueue *vq,
		       const struct vq_chain *chain)
{
	struct vq_cursor from = vq_readable(chain);
	struct virtio_balloon_stat stat;

	for (uint64_t i = 0; i < chain->readable / sizeof(stat) && i < MAX_STATS; i++) {
		int rc = vq_copy_out(vq, &from, &stat, sizeof(stat));

		if (rc)
			return rc == -ESHUTDOWN
				   ? rc
				   : vq_break(vq, "balloon statistics lie outside of guest memory");
		if (stat.tag < BALLOON_GUEST_STATS)
			atomic_store(&balloon->guest[stat.tag], stat.val);
	}
	return 0;
}

static int return_report(struct virtio_balloon *balloon, struct virtqueue *vq)
{
	int rc = vq_push_all(vq, &balloon->report, 1);

	balloon->has_report = false;
	return rc ? rc : virtio_signal_used(&balloon->vdev, vq);
}

/*
 * The driver's buffer is kept, and giving it back asks for new figures
 * (5.5.6.3). One that offers a second gets the first back.
 */
static int serve_stats(struct virtio_balloon *balloon, struct virtqueue *vq)
{
	struct vq_chain *chain = &balloon->vdev.chain;
	int rc = 0;

	if (balloon->has_report && atomic_exchange(&balloon->want_report, false))
		rc = return_report(balloon, vq);
	while (rc == 0 && !virtio_cancelled(&balloon->vdev)) {
		rc = vq_pop(vq, chain);
		if (rc == 0) {
			rc = vq_arm(vq);
			if (rc <= 0)
				return rc;
			rc = 0;
			continue;
		}
		if (rc > 0)
			rc = read_report(balloon, vq, chain);
		if (rc == 0 && balloon->has_report)
			rc = return_report(balloon, vq);
		balloon->report = vq_done(chain, 0);
		balloon->has_report = rc == 0;
	}
	return rc;
}

/* --- the device ------------------------------------------------------------------------------ */

/*
 * Without hints the reporting queue has number 4 by the specification, and 3
 * with drivers that number only what there is (Linux before 6.11). All features
 * are offered, so the two agree unless the driver leaves hints out.
 */
static int balloon_serve(struct virtio_device *vdev, struct virtqueue *vq, struct vq_chain *chain,
			 uint32_t *written)
{
	struct virtio_balloon *balloon = balloon_of(vdev);
	unsigned index = (unsigned)(vq - vdev->queues);

	*written = 0;
	if (index == HINTS && virtio_negotiated(vdev, VIRTIO_BALLOON_F_FREE_PAGE_HINT))
		return serve_hints(balloon, vq, chain);
	if (index == HINTS || index == REPORTING)
		return balloon_serve_reporting(balloon, chain);
	return balloon_serve_pfns(balloon, vq, chain, index == INFLATE);
}

static int balloon_serve_queue(struct virtio_device *vdev, unsigned index)
{
	if (index == STATS && virtio_negotiated(vdev, VIRTIO_BALLOON_F_STATS_VQ))
		return serve_stats(balloon_of(vdev), &vdev->queues[index]);
	return virtio_serve_chains(vdev, &vdev->queues[index]);
}

static void balloon_config_write(struct virtio_device *vdev, unsigned offset, unsigned len,
				 uint64_t value)
{
	struct virtio_balloon_config *config = config_of(balloon_of(vdev));

	if (len != 4)
		return;
	if (offset == offsetof(struct virtio_balloon_config, actual))
		config->actual = (uint32_t)value;
	else if (offset == offsetof(struct virtio_balloon_config, poison_val))
		config->poison_val = (uint32_t)value;
}

/* What the next driver is asked for is what this one was. */
static void balloon_reset(struct virtio_device *vdev)
{
	struct virtio_balloon *balloon = balloon_of(vdev);

	balloon->has_report = false;
	balloon->hinting = false;
	config_of(balloon)->actual = 0;
	config_of(balloon)->poison_val = 0;
}

/* The statistics buffer; its report is read again. */
static void balloon_held(struct virtio_device *vdev, unsigned index, struct vq_held *held)
{
	const struct virtio_balloon *balloon = balloon_of(vdev);

	if (index == STATS && balloon->has_report) {
		held->chains = 1;
		held->slots = balloon->report.slots;
	}
}

/* Hints were for who asked, who is not here: the driver hears that they end. */
static void balloon_state(struct virtio_device *vdev, struct state *s)
{
	struct virtio_balloon *balloon = balloon_of(vdev);
	struct virtio_balloon_config *config = config_of(balloon);

	state_u32(s, &config->num_pages);
	state_u32(s, &config->actual);
	state_u32(s, &config->poison_val);
	state_u32(s, &balloon->round);
	for (unsigned i = 0; i < BALLOON_GUEST_STATS; i++) {
		uint64_t value = atomic_load(&balloon->guest[i]);

		state_u64(s, &value);
		atomic_store(&balloon->guest[i], value);
	}
}

static const struct virtio_type balloon_type = {
    .id = VIRTIO_ID_BALLOON,
    .label = "balloon",
    .nr_queues = NR_QUEUES,
    .serve = balloon_serve,
    .serve_queue = balloon_serve_queue,
    .reset = balloon_reset,
    .config_write = balloon_config_write,
    .held = balloon_held,
    .state = balloon_state,
};

static void balloon_destroy(struct device *dev)
{
	struct virtio_balloon *balloon = balloon_of(virtio_of(dev));

	virtio_fini(&balloon->vdev);
	free(balloon);
}

const struct device_ops virtio_balloon_device = {
    .kind = "virtio-balloon",
    VIRTIO_DEVICE_OPS,
    .destroy = balloon_destroy,
};

int virtio_balloon_create(const struct device_host *host, unsigned pin, uint64_t target,
			  struct device **out)
{
	struct virtio_balloon_config config = {.num_pages = (uint32_t)(target >> PFN_SHIFT)};
	struct virtio_balloon *balloon = calloc(1, sizeof(*balloon));
	int rc;

	if (!balloon)
		return -ENOMEM;
	if (target >> PFN_SHIFT > UINT32_MAX) {
		free(balloon);
		return -EINVAL;
	}
	for (unsigned i = 0; i < BALLOON_GUEST_STATS; i++)
		atomic_init(&balloon->guest[i], UINT64_MAX);
	rc = virtio_init(
	    &balloon->vdev, &virtio_balloon_device, host, &balloon_type, pin,
	    FEATURE(VIRTIO_BALLOON_F_STATS_VQ) | FEATURE(VIRTIO_BALLOON_F_DEFLATE_ON_OOM) |
		FEATURE(VIRTIO_BALLOON_F_FREE_PAGE_HINT) | FEATURE(VIRTIO_BALLOON_F_PAGE_POISON) |
		FEATURE(VIRTIO_BALLOON_F_REPORTING),
	    &config, sizeof(config));
	if (rc) {
		free(balloon);
		return rc;
	}
	*out = &balloon->vdev.dev;
	return 0;
}

/* --- for the monitor ---------------------------------------------------------------------------
 */

int virtio_balloon_set_target(struct device *dev, uint64_t bytes)
{
	struct virtio_balloon *balloon = balloon_of(virtio_of(dev));

	if (bytes >> PFN_SHIFT > UINT32_MAX)
		return -EINVAL;
	pthread_mutex_lock(&balloon->vdev.lock);
	config_of(balloon)->num_pages = (uint32_t)(bytes >> PFN_SHIFT);
	virtio_config_changed(&balloon->vdev);
	pthread_mutex_unlock(&balloon->vdev.lock);
	virtio_balloon_ask(dev);
	return 0;
}

void virtio_balloon_ask(struct device *dev)
{
	struct virtio_balloon *balloon = balloon_of(virtio_of(dev));

	atomic_store(&balloon->want_report, true);
	virtio_kick(&balloon->vdev);
}

/* A new number for each round, so that late hints of another are told apart. */
void virtio_balloon_hints(struct device *dev, balloon_hint_fn *hint, void *ctx)
{
	struct virtio_balloon *balloon = balloon_of(virtio_of(dev));
	struct virtio_device *vdev = &balloon->vdev;

	pthread_mutex_lock(&vdev->lock);
	balloon->hint = hint;
	balloon->hint_ctx = ctx;
	if (hint && ++balloon->round < FIRST_HINT_ID)
		balloon->round = FIRST_HINT_ID;
	config_of(balloon)->free_page_hint_cmd_id =
	    hint ? balloon->round : VIRTIO_BALLOON_CMD_ID_DONE;
	virtio_config_changed(vdev);
	pthread_mutex_unlock(&vdev->lock);
}

void virtio_balloon_stats(struct device *dev, struct balloon_stats *out)
{
	struct virtio_balloon *balloon = balloon_of(virtio_of(dev));

#define X(field, name) \
	out->field = atomic_load_explicit(&balloon->stats.field, memory_order_relaxed);
	BALLOON_COUNTERS(X)
#undef X
	for (unsigned i = 0; i < BALLOON_GUEST_STATS; i++)
		out->guest[i] = atomic_load(&balloon->guest[i]);
	pthread_mutex_lock(&balloon->vdev.lock);
	out->target = (uint64_t)config_of(balloon)->num_pages << PFN_SHIFT;
	out->actual = (uint64_t)config_of(balloon)->actual << PFN_SHIFT;
	pthread_mutex_unlock(&balloon->vdev.lock);
}
