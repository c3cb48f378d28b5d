/*
 * The packed virtqueue (virtio 1.2, 2.8).
 *
 *   desc    one ring of 16-byte descriptors that both sides write
 *   driver  when the driver wants an interrupt     offset and wrap, then flags
 *   device  when the device wants a notification   the same
 *
 * Each side goes round the ring and keeps a wrap counter that flips at its end.
 * A descriptor is available when its AVAIL bit equals the device's counter and
 * its USED bit does not, and used when both equal the driver's.
 */
#include <errno.h>
#include <linux/virtio_ring.h>
#include <stddef.h>

#include "devices/virtqueue.h"

#define DESC_AVAIL  (1U << VRING_PACKED_DESC_F_AVAIL)
#define DESC_USED   (1U << VRING_PACKED_DESC_F_USED)

#define EVENT_OFF   offsetof(struct vring_packed_desc_event, off_wrap)
#define EVENT_FLAGS offsetof(struct vring_packed_desc_event, flags)
#define EVENT_WRAP  (1U << VRING_PACKED_EVENT_F_WRAP_CTR)

/* Any size goes (2.8.10.1); alignments are those of 2.8. */
static const char *packed_check(const struct virtqueue *vq)
{
	if (vq->size == 0 || vq->size > VQ_SIZE_MAX)
		return "a virtqueue's size is not within its limit";
	if (vq->desc % 16 || vq->driver % 4 || vq->device % 4)
		return "a virtqueue is not aligned";
	if ((vq->desc | vq->driver | vq->device) >> EPT_GPA_BITS)
		return "a virtqueue lies outside of guest memory";
	return NULL;
}

static const char *packed_check_position(const struct virtqueue *vq)
{
	if (vq->next_avail >= vq->size || vq->next_used >= vq->size || vq->in_flight > vq->size)
		return "a packed virtqueue's positions lie outside of it";
	return NULL;
}

static void packed_unpop(struct virtqueue *vq, unsigned chains, unsigned slots)
{
	(void)chains;
	if (slots > vq->next_avail) {
		vq->next_avail += vq->size;
		vq->avail_wrap = !vq->avail_wrap;
	}
	vq->next_avail -= slots;
	vq->in_flight -= slots;
}

static uint64_t desc_at(const struct virtqueue *vq, uint16_t slot)
{
	return vq->desc + slot * sizeof(struct vring_packed_desc);
}

/* Move @slot on by @by, at most once round the ring. */
static void advance(const struct virtqueue *vq, uint16_t *slot, bool *wrap, uint16_t by)
{
	unsigned next = (unsigned)*slot + by;

	if (next >= vq->size) {
		next -= vq->size;
		*wrap = !*wrap;
	}
	*slot = (uint16_t)next;
}

/*
 * 1 and the flags if the descriptor is available, or 0. The load orders what
 * the driver wrote before the flags.
 */
static int available(struct virtqueue *vq, uint16_t slot, bool wrap, uint16_t *flags)
{
	int rc =
	    vq_load16(vq, desc_at(vq, slot) + offsetof(struct vring_packed_desc, flags), flags);

	if (rc)
		return rc;
	return !!(*flags & DESC_AVAIL) == wrap && !!(*flags & DESC_USED) != wrap;
}

/*
 * Its entries follow each other, and of their flags only WRITE counts (2.8.7).
 * Copied out first, so the driver cannot change it under the checks.
 */
static int collect_indirect(struct virtqueue *vq, struct vq_chain *chain,
			    const struct vring_packed_desc *outer, uint16_t flags)
{
	struct vring_packed_desc table[VQ_CHAIN_MAX];
	unsigned nr = outer->len / sizeof(*table);
	int rc;

	if (!vq->indirect)
		return vq_break(vq, "an indirect descriptor was not negotiated");
	if (flags & VRING_DESC_F_NEXT)
		return vq_break(vq, "an indirect descriptor has a next one");
	if (nr == 0 || outer->len % sizeof(*table) || nr > VQ_CHAIN_MAX)
		return vq_break(vq, "an indirect table has a wrong length");
	rc = vq_read(vq, outer->addr, table, outer->len);
	for (unsigned i = 0; i < nr && rc == 0; i++)
		rc = vq_chain_add(vq, chain, table[i].addr, table[i].len,
				  table[i].flags & VRING_DESC_F_WRITE);
	return rc;
}

/* The descriptors of the chain that begins at next_avail, whose first has @flags. */
static int collect(struct virtqueue *vq, struct vq_chain *chain, uint16_t flags)
{
	uint16_t slot = vq->next_avail;
	bool wrap = vq->avail_wrap;

	for (;;) {
		struct vring_packed_desc desc;
		int rc;

		/* What is not given back yet cannot be offered again. */
		if (vq->in_flight + chain->slots >= vq->size)
			return vq_break(vq, "more descriptors are available than the queue has");
		chain->slots++;
		rc = vq_read(vq, desc_at(vq, slot), &desc, sizeof(desc));
		if (rc)
			return rc;
		/* The last descriptor has the buffer's id (2.8.6). */
		chain->id = desc.id;
		if (flags & VRING_DESC_F_INDIRECT)
			return collect_indirect(vq, chain, &desc, flags);
		rc = vq_chain_add(vq, chain, desc.addr, desc.len, flags & VRING_DESC_F_WRITE);
		if (rc || !(flags & VRING_DESC_F_NEXT))
			return rc;
		advance(vq, &slot, &wrap, 1);
		rc = available(vq, slot, wrap, &flags);
		if (rc < 0)
			return rc;
		if (rc == 0)
			return vq_break(vq,
					"a chain goes on to a descriptor that is not available");
	}
}

static int packed_pop(struct virtqueue *vq, struct vq_chain *chain)
{
	uint16_t flags;
	int rc = available(vq, vq->next_avail, vq->avail_wrap, &flags);

	if (rc <= 0)
		return rc;
	vq_chain_init(chain, 0);
	rc = collect(vq, chain, flags);
	if (rc)
		return rc;
	advance(vq, &vq->next_avail, &vq->avail_wrap, chain->slots);
	vq->in_flight += chain->slots;
	return 1;
}

static int store_flags(struct virtqueue *vq, uint16_t slot, bool wrap, uint32_t written)
{
	uint16_t flags = wrap ? DESC_AVAIL | DESC_USED : 0;

	if (written)
		flags |= VRING_DESC_F_WRITE;
	return vq_store16(vq, desc_at(vq, slot) + offsetof(struct vring_packed_desc, flags), flags);
}

/*
 * One used descriptor stands for a whole chain; the driver skips the rest
 * (2.8.8). Its flags make it used, those of the first last of all: the driver
 * meets that one first, and then sees all of them.
 */
static int packed_push(struct virtqueue *vq, const struct vq_used *used, unsigned nr)
{
	uint16_t slot = vq->next_used;
	bool wrap = vq->used_wrap;
	uint32_t slots = 0;
	int rc;

	for (unsigned i = 0; i < nr; i++) {
		struct vring_packed_desc desc = {.len = used[i].written, .id = used[i].id};

		rc = vq_write(vq, desc_at(vq, slot) + offsetof(struct vring_packed_desc, len),
			      &desc.len, sizeof(desc.len) + sizeof(desc.id));
		if (rc == 0 && i > 0)
			rc = store_flags(vq, slot, wrap, used[i].written);
		if (rc)
			return rc;
		advance(vq, &slot, &wrap, used[i].slots);
		slots += used[i].slots;
	}
	rc = nr ? store_flags(vq, vq->next_used, vq->used_wrap, used[0].written) : 0;
	if (rc)
		return rc;
	vq->next_used = slot;
	vq->used_wrap = wrap;
	vq->in_flight -= slots;
	vq->unsignalled += slots;
	return 0;
}

/* With event indexes an old offset suppresses by itself. */
static int packed_suppress(struct virtqueue *vq)
{
	if (vq->event_idx)
		return 0;
	return vq_store16(vq, vq->device + EVENT_FLAGS, VRING_PACKED_EVENT_FLAG_DISABLE);
}

static int packed_arm(struct virtqueue *vq)
{
	uint16_t off_wrap = vq->next_avail | (vq->avail_wrap ? EVENT_WRAP : 0), flags;
	int rc = 0;

	/* The offset first: its flags say that it counts. */
	if (vq->event_idx)
		rc = vq_store16(vq, vq->device + EVENT_OFF, off_wrap);
	if (rc == 0)
		rc = vq_store16(vq, vq->device + EVENT_FLAGS,
				vq->event_idx ? VRING_PACKED_EVENT_FLAG_DESC
					      : VRING_PACKED_EVENT_FLAG_ENABLE);
	if (rc)
		return rc;
	/* Asked for before looking again: one of the two sides sees the other. */
	return available(vq, vq->next_avail, vq->avail_wrap, &flags);
}

/*
 * Whether slot @off of the round @wrap is among the last @unsignalled that were
 * used. Positions count from the start of the used side's round, so those of
 * the round before are negative.
 */
static bool passed(const struct virtqueue *vq, uint16_t off_wrap, uint32_t unsignalled)
{
	int end = vq->next_used, event = (int)(off_wrap & (EVENT_WRAP - 1));

	if (!!(off_wrap & EVENT_WRAP) != vq->used_wrap)
		event -= (int)vq->size;
	return event < end && event >= end - (int)unsignalled;
}

static int packed_signal_wanted(struct virtqueue *vq)
{
	uint32_t unsignalled = vq->unsignalled;
	uint16_t flags, off_wrap;
	int rc;

	vq->unsignalled = 0;
	/* What was used is out by now, before the driver's wish is read. */
	rc = vq_load16(vq, vq->driver + EVENT_FLAGS, &flags);
	if (rc)
		return rc;
	flags &= 3; /* the rest is reserved (2.8.14) */
	if (flags == VRING_PACKED_EVENT_FLAG_DISABLE)
		return 0;
	if (flags != VRING_PACKED_EVENT_FLAG_DESC || !vq->event_idx)
		return unsignalled > 0;
	rc = vq_load16(vq, vq->driver + EVENT_OFF, &off_wrap);
	return rc ? rc : passed(vq, off_wrap, unsignalled);
}

const struct vq_format vq_packed = {
    .check = packed_check,
    .check_position = packed_check_position,
    .unpop = packed_unpop,
    .pop = packed_pop,
    .push = packed_push,
    .suppress = packed_suppress,
    .arm = packed_arm,
    .signal_wanted = packed_signal_wanted,
};
