/*
 * What a guest does without goes back to the host. It reads as zero on the next
 * touch, by guest or device; that is a fault like the first one. Only anonymous
 * memory goes: a page of a file that was dropped would come back with the file's
 * old content.
 */
#include <errno.h>

#include "devices/virtio_balloon.h"

#define PFN_SHIFT VIRTIO_BALLOON_PFN_SHIFT
/* Page frame numbers looked at in one go. */
#define PFNS	  256

/* Drop what of the range is whole pages of anonymous memory. 0 or -ESHUTDOWN. */
static int give_back(struct virtio_balloon *balloon, uint64_t gpa, uint64_t len)
{
	uint64_t end = (gpa + len) & EPT_PAGE_MASK, given = 0;
	int rc = 0;

	if (gpa >> EPT_GPA_BITS) /* rounding must not wrap */
		return 0;
	gpa = (gpa + EPT_PAGE_SIZE - 1) & EPT_PAGE_MASK;
	if (gpa < end)
		rc = ept_discard_anonymous(balloon->vdev.dev.host->memory, GPA(gpa), end - gpa,
					   &given);
	balloon_count(&balloon->stats.given_back, given);
	/* Memory that the host keeps is no reason to stop the guest. */
	return rc == -ESHUTDOWN ? rc : 0;
}

/* --- inflating and deflating ---------------------------------------------------------- */

static int give_back_pfns(struct virtio_balloon *balloon, const uint32_t *pfn, unsigned nr)
{
	int rc = 0;

	/* Neighbours go together, in whichever direction they come. */
	for (unsigned i = 0, run; i < nr && rc == 0; i += run) {
		uint32_t low = pfn[i];

		for (run = 1; i + run < nr; run++) {
			if (pfn[i + run] == low - 1 && low > 0)
				low--;
			else if (pfn[i + run] != (uint64_t)low + run)
				break;
		}
		rc = give_back(balloon, (uint64_t)low << PFN_SHIFT, (uint64_t)run << PFN_SHIFT);
	}
	return rc;
}

/* An array of page frame numbers, one for each 4 KiB. */
int balloon_serve_pfns(struct virtio_balloon *balloon, struct virtqueue *vq,
		       const struct vq_chain *chain, bool inflate)
{
	struct vq_cursor from = vq_readable(chain);
	uint64_t left = chain->readable / sizeof(uint32_t);
	uint32_t pfn[PFNS];

	if (chain->readable % sizeof(uint32_t) || chain->nr_readable < chain->nr)
		return vq_break(vq, "a balloon request is no array of page numbers");
	while (left > 0) {
		unsigned nr = left < PFNS ? (unsigned)left : PFNS;
		int rc = vq_copy_out(vq, &from, pfn, nr * sizeof(*pfn));

		if (rc && rc != -ESHUTDOWN)
			return vq_break(vq, "a balloon request lies outside of guest memory");
		balloon_count(inflate ? &balloon->stats.inflated : &balloon->stats.deflated,
			      (uint64_t)nr << PFN_SHIFT);
		/* A page that is taken out of the balloon comes back when it is touched. */
		if (rc == 0 && inflate)
			rc = give_back_pfns(balloon, pfn, nr);
		if (rc)
			return rc;
		if (virtio_cancelled(&balloon->vdev))
			return -ECANCELED;
		left -= nr;
	}
	return 0;
}

/* --- free pages ------------------------------------------------------------------------- */

/* A guest that fills its free pages with a pattern expects to find it. */
static bool poisoned(struct virtio_balloon *balloon)
{
	struct virtio_device *vdev = &balloon->vdev;
	uint32_t value;

	if (!virtio_negotiated(vdev, VIRTIO_BALLOON_F_PAGE_POISON))
		return false;
	pthread_mutex_lock(&vdev->lock);
	value = config_of(balloon)->poison_val;
	pthread_mutex_unlock(&vdev->lock);
	return value != 0;
}

/* The buffers are the free ranges themselves; the guest holds them until they come back. */
int balloon_serve_reporting(struct virtio_balloon *balloon, const struct vq_chain *chain)
{
	bool keep = poisoned(balloon);
	int rc = 0;

	for (unsigned i = chain->nr_readable; i < chain->nr && rc == 0; i++) {
		balloon_count(&balloon->stats.reported, chain->buf[i].len);
		if (!keep)
			rc = give_back(balloon, chain->buf[i].gpa.v, chain->buf[i].len);
		if (virtio_cancelled(&balloon->vdev))
			return -ECANCELED;
	}
	return rc;
}
