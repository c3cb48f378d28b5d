/*
 * The split virtqueue (virtio 1.2, 2.7).
 *
 *   desc    16-byte descriptors: address, length, flags, next
 *   driver  flags, idx, ring[size] of chain heads, used_event     "available"
 *   device  flags, idx, ring[size] of {id, length}, avail_event   "used"
 */
#include <errno.h>
#include <linux/virtio_ring.h>

#include "devices/virtqueue.h"

#define RING_FLAGS 0
#define RING_IDX   2
#define RING_ITEMS 4

static uint64_t used_event(const struct virtqueue *vq)
{
	return vq->driver + RING_ITEMS + vq->size * sizeof(uint16_t);
}

static uint64_t avail_event(const struct virtqueue *vq)
{
	return vq->device + RING_ITEMS + vq->size * sizeof(struct vring_used_elem);
}

/* Alignments are virtio 1.2's, 2.7; whether there is memory is seen at each use. */
static const char *split_check(const struct virtqueue *vq)
{
	if (vq->size == 0 || vq->size > VQ_SIZE_MAX || (vq->size & (vq->size - 1)))
		return "a virtqueue's size is no power of two within its limit";
	if (vq->desc % 16 || vq->driver % 2 || vq->device % 4)
		return "a virtqueue is not aligned";
	if ((vq->desc | vq->driver | vq->device) >> EPT_GPA_BITS)
		return "a virtqueue lies outside of guest memory";
	return NULL;
}

/* Both count on for ever; pending() sees where they are apart by more than the ring. */
static const char *split_check_position(const struct virtqueue *vq)
{
	return vq->in_flight ? "a split virtqueue counts slots in flight" : NULL;
}

static void split_unpop(struct virtqueue *vq, unsigned chains, unsigned slots)
{
	(void)slots;
	vq->next_avail -= chains;
}

static int add(struct virtqueue *vq, struct vq_chain *chain, const struct vring_desc *desc)
{
	return vq_chain_add(vq, chain, desc->addr, desc->len, desc->flags & VRING_DESC_F_WRITE);
}

/* The table is copied out first, so the driver cannot change it under the checks. */
static int collect_indirect(struct virtqueue *vq, struct vq_chain *chain,
			    const struct vring_desc *outer)
{
	struct vring_desc table[VQ_CHAIN_MAX];
	unsigned nr = outer->len / sizeof(*table), i = 0;
	int rc;

	if (!vq->indirect)
		return vq_break(vq, "an indirect descriptor was not negotiated");
	if (outer->flags & VRING_DESC_F_NEXT)
		return vq_break(vq, "an indirect descriptor has a next one");
	if (nr == 0 || outer->len % sizeof(*table) || nr > VQ_CHAIN_MAX)
		return vq_break(vq, "an indirect table has a wrong length");
	rc = vq_read(vq, outer->addr, table, outer->len);
	if (rc)
		return rc;

	for (unsigned steps = 0; steps < nr; steps++) {
		if (table[i].flags & VRING_DESC_F_INDIRECT)
			return vq_break(vq, "an indirect table holds an indirect descriptor");
		rc = add(vq, chain, &table[i]);
		if (rc || !(table[i].flags & VRING_DESC_F_NEXT))
			return rc;
		i = table[i].next;
		if (i >= nr)
			return vq_break(vq, "an indirect table's next lies outside of it");
	}
	return vq_break(vq, "an indirect table loops");
}

static int collect(struct virtqueue *vq, struct vq_chain *chain, uint16_t head)
{
	unsigned i = head;

	/* A chain of more descriptors than there are has met one twice. */
	for (unsigned steps = 0; steps < vq->size; steps++) {
		struct vring_desc desc;
		int rc;

		chain->slots++;
		if (i >= vq->size)
			return vq_break(vq, "a descriptor's index lies outside of the queue");
		rc = vq_read(vq, vq->desc + i * sizeof(desc), &desc, sizeof(desc));
		if (rc)
			return rc;
		if (desc.flags & VRING_DESC_F_INDIRECT)
			return collect_indirect(vq, chain, &desc);
		rc = add(vq, chain, &desc);
		if (rc || !(desc.flags & VRING_DESC_F_NEXT))
			return rc;
		i = desc.next;
	}
	return vq_break(vq, "a descriptor chain loops");
}

/* How many chains wait; the load of the index orders what the driver wrote before it. */
static int pending(struct virtqueue *vq, uint16_t *count)
{
	uint16_t idx;
	int rc = vq_load16(vq, vq->driver + RING_IDX, &idx);

	if (rc)
		return rc;
	*count = (uint16_t)(idx - vq->next_avail);
	if (*count > vq->size)
		return vq_break(vq, "the available index jumped");
	return 0;
}

static int split_pop(struct virtqueue *vq, struct vq_chain *chain)
{
	uint16_t count, head;
	int rc = pending(vq, &count);

	if (rc || count == 0)
		return rc;
	rc = vq_load16(vq, vq->driver + RING_ITEMS + vq->next_avail % vq->size * sizeof(head),
		       &head);
	if (rc)
		return rc;
	vq_chain_init(chain, head);
	rc = collect(vq, chain, head);
	if (rc)
		return rc;
	vq->next_avail++;
	return 1;
}

/* The index goes last: it makes all of them the driver's at once. */
static int split_push(struct virtqueue *vq, const struct vq_used *used, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++) {
		uint16_t slot = (uint16_t)(vq->next_used + i) % vq->size;
		struct vring_used_elem elem = {.id = used[i].id, .len = used[i].written};
		int rc = vq_write(vq, vq->device + RING_ITEMS + slot * sizeof(elem), &elem,
				  sizeof(elem));

		if (rc)
			return rc;
	}
	vq->next_used += nr;
	return vq_store16(vq, vq->device + RING_IDX, vq->next_used);
}

/* With event indexes an old avail_event suppresses by itself. */
static int split_suppress(struct virtqueue *vq)
{
	if (vq->event_idx)
		return 0;
	return vq_store16(vq, vq->device + RING_FLAGS, VRING_USED_F_NO_NOTIFY);
}

static int split_arm(struct virtqueue *vq)
{
	uint16_t count;
	int rc;

	if (vq->event_idx)
		rc = vq_store16(vq, avail_event(vq), vq->next_avail);
	else
		rc = vq_store16(vq, vq->device + RING_FLAGS, 0);
	if (rc)
		return rc;
	/* Asked for before looking again: one of the two sides sees the other. */
	rc = pending(vq, &count);
	return rc ? rc : count > 0;
}

static int split_signal_wanted(struct virtqueue *vq)
{
	uint16_t old = vq->signalled, new = vq->next_used, field;
	bool valid = vq->signalled_valid;
	int rc;

	vq->signalled = new;
	vq->signalled_valid = true;
	/* The used index is out by now, before the driver's wish is read. */
	if (!vq->event_idx) {
		rc = vq_load16(vq, vq->driver + RING_FLAGS, &field);
		return rc ? rc : !(field & VRING_AVAIL_F_NO_INTERRUPT);
	}
	rc = vq_load16(vq, used_event(vq), &field);
	if (rc)
		return rc;
	/* Wanted if the event lies among what was pushed since (virtio 1.2, 2.7.7.2). */
	return !valid || (uint16_t)(new - field - 1) < (uint16_t)(new - old);
}

const struct vq_format vq_split = {
    .check = split_check,
    .check_position = split_check_position,
    .unpop = split_unpop,
    .pop = split_pop,
    .push = split_push,
    .suppress = split_suppress,
    .arm = split_arm,
    .signal_wanted = split_signal_wanted,
};
