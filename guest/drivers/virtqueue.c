/* The split virtqueue (virtio 1.2, section 2.7), driver's side. */
#include "guest/drivers/virtio.h"
#include "guest/drivers/virtio_mmio.h"
#include "guest/include/errno.h"
#include "guest/include/io.h"
#include "guest/include/page.h"

/* Second frame: available ring, at most 6 + 2 * 256 bytes, then the used one, 6 + 8 * 256. */
enum { USED_OFFSET = 1024 };
_Static_assert(6 + 2 * VIRTQUEUE_MAX <= USED_OFFSET, "rings overlap");
_Static_assert(USED_OFFSET + 6 + 8 * VIRTQUEUE_MAX <= PAGE_SIZE, "rings do not fit");
_Static_assert(sizeof(struct vring_desc) * VIRTQUEUE_MAX <= PAGE_SIZE, "table does not fit");

/* What one side writes for the other to see in order; the processor keeps stores in order. */
#define smp_wmb() barrier()
#define smp_rmb() barrier()
/* A store followed by a load of something else is the one order that needs an instruction. */
#define smp_mb()  __atomic_thread_fence(__ATOMIC_SEQ_CST)

static u16 *used_event(struct virtqueue *vq)
{
	return &vq->avail->ring[vq->size];
}

static u16 *avail_event(struct virtqueue *vq)
{
	return (u16 *)&vq->used->ring[vq->size];
}

void virtqueue_free(struct virtqueue *vq)
{
	if (vq->pages)
		put_page(vq->pages);
	kfree(vq->tokens);
}

int virtqueue_init(struct virtqueue *vq, struct virtio_device *dev, u16 index)
{
	u16 size;
	int err = virtio_mmio_queue_size(dev, index, &size);

	if (err)
		return err;
	*vq = (struct virtqueue){.dev = dev, .index = index, .size = size, .nr_free = size};
	vq->tokens = kzalloc(size * sizeof(*vq->tokens));
	vq->pages = alloc_pages(1, GFP_ZERO);
	if (!vq->tokens || !vq->pages) {
		err = -ENOMEM;
		goto fail;
	}
	char *mem = page_kva(vq->pages);
	vq->desc = (struct vring_desc *)mem;
	vq->avail = (struct vring_avail *)(mem + PAGE_SIZE);
	vq->used = (struct vring_used *)(mem + PAGE_SIZE + USED_OFFSET);
	for (u16 i = 0; i < size; i++)
		vq->desc[i].next = i + 1;
	err = virtio_mmio_queue_start(vq);
	if (err)
		goto fail;
	return 0;
fail:
	virtqueue_free(vq);
	return err;
}

/* Fills a chain: in the queue's own table along the free list, or in an indirect one from 0. */
static void fill_chain(struct vring_desc *table, u16 at, const struct vq_buf *bufs, unsigned out,
		       unsigned in)
{
	for (unsigned i = 0; i < out + in; i++) {
		struct vring_desc *d = &table[at];

		d->addr = bufs[i].phys;
		d->len = bufs[i].len;
		d->flags =
		    (i < out ? 0 : VRING_DESC_WRITE) | (i + 1 < out + in ? VRING_DESC_NEXT : 0);
		at = d->next;
	}
}

int virtqueue_add(struct virtqueue *vq, const struct vq_buf *bufs, unsigned out, unsigned in,
		  void *token, struct vring_desc *table)
{
	bool indirect = table && virtio_has(vq->dev, VIRTIO_F_INDIRECT_DESC);
	unsigned need = indirect ? 1 : out + in;
	u16 head = vq->free_head;
	u16 last = head;

	if (need > vq->nr_free)
		return -ENOSPC;
	for (unsigned i = 1; i < need; i++)
		last = vq->desc[last].next;
	u16 next_free = vq->desc[last].next;

	if (indirect) {
		for (unsigned i = 0; i < out + in; i++)
			table[i].next = (u16)(i + 1);
		fill_chain(table, 0, bufs, out, in);
		vq->desc[head].addr = virt_to_phys(table);
		vq->desc[head].len = (out + in) * (u32)sizeof(*table);
		vq->desc[head].flags = VRING_DESC_INDIRECT;
	} else {
		fill_chain(vq->desc, head, bufs, out, in);
	}
	vq->free_head = next_free;
	vq->nr_free -= need;
	vq->tokens[head] = token;

	vq->avail->ring[vq->last_avail & (vq->size - 1)] = head;
	smp_wmb();
	WRITE_ONCE(vq->avail->idx, ++vq->last_avail);
	return 0;
}

void virtqueue_kick(struct virtqueue *vq)
{
	u16 added = vq->last_avail - vq->last_kick;
	bool want;

	smp_mb(); /* avail->idx is out before the device's wish is read (2.7.21.1) */
	if (virtio_has(vq->dev, VIRTIO_F_EVENT_IDX))
		want = (u16)(vq->last_avail - READ_ONCE(*avail_event(vq)) - 1) < added;
	else
		want = !(READ_ONCE(vq->used->flags) & VRING_USED_NO_NOTIFY);
	vq->last_kick = vq->last_avail;
	if (want && added)
		virtio_mmio_notify(vq);
}

/* Gives the chain's descriptors back. The driver wrote them, yet they are in shared memory. */
static bool free_chain(struct virtqueue *vq, u16 head)
{
	u16 last = head;
	u16 n = 1;

	while (vq->desc[last].flags & VRING_DESC_NEXT) {
		last = vq->desc[last].next;
		if (last >= vq->size || ++n > vq->size - vq->nr_free)
			return false;
	}
	vq->desc[last].next = vq->free_head;
	vq->free_head = head;
	vq->nr_free += n;
	return true;
}

void *virtqueue_get(struct virtqueue *vq)
{
	u16 idx = READ_ONCE(vq->used->idx);

	if (vq->dev->broken)
		return NULL;
	if (idx == vq->last_used) {
		/* Ask to be told of the next one, then look again: it may be there already. */
		if (!virtio_has(vq->dev, VIRTIO_F_EVENT_IDX))
			return NULL;
		WRITE_ONCE(*used_event(vq), vq->last_used);
		smp_mb();
		idx = READ_ONCE(vq->used->idx);
		if (idx == vq->last_used)
			return NULL;
	}
	if ((u16)(idx - vq->last_used) > vq->size) {
		virtio_broken(vq->dev, "used index runs ahead", idx);
		return NULL;
	}
	smp_rmb();
	u32 id = READ_ONCE(vq->used->ring[vq->last_used & (vq->size - 1)].id);
	if (id >= vq->size || !vq->tokens[id]) {
		virtio_broken(vq->dev, "used entry names no open request", id);
		return NULL;
	}
	void *token = vq->tokens[id];
	vq->last_used++;
	vq->tokens[id] = NULL;
	if (!free_chain(vq, (u16)id))
		virtio_broken(vq->dev, "descriptors were changed, chain", id);
	return token;
}

void *virtqueue_take_any(struct virtqueue *vq)
{
	for (u16 i = 0; i < vq->size; i++) {
		void *token = vq->tokens[i];

		vq->tokens[i] = NULL;
		if (token)
			return token;
	}
	return NULL;
}
