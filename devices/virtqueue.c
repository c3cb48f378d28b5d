/* What all ring layouts share: chains, cursors over them, fields in guest memory. */
#include <errno.h>
#include <string.h>

#include "devices/state.h"
#include "devices/virtqueue.h"

void vq_reset(struct virtqueue *vq, struct ept_space *memory)
{
	/* Both wrap counters begin at 1 (2.8.1). */
	*vq = (struct virtqueue){
	    .memory = memory, .format = &vq_split, .avail_wrap = true, .used_wrap = true};
}

const char *vq_enable(struct virtqueue *vq, uint64_t features)
{
	const char *why;

	vq->format = features & 1ULL << VIRTIO_F_RING_PACKED ? &vq_packed : &vq_split;
	why = vq->format->check(vq);
	if (why)
		return why;
	vq->indirect = features & 1ULL << VIRTIO_RING_F_INDIRECT_DESC;
	vq->event_idx = features & 1ULL << VIRTIO_RING_F_EVENT_IDX;
	vq->ready = true;
	return NULL;
}

static void position_state(struct virtqueue *vq, struct state *s)
{
	state_u16(s, &vq->next_avail);
	state_u16(s, &vq->next_used);
	state_u16(s, &vq->signalled);
	state_bool(s, &vq->signalled_valid);
	state_bool(s, &vq->avail_wrap);
	state_bool(s, &vq->used_wrap);
	state_number(s, &vq->in_flight, VQ_SIZE_MAX, "the slots in flight");
	state_number(s, &vq->unsignalled, UINT16_MAX, "the slots not told of");
}

bool vq_state(struct virtqueue *vq, struct state *s, uint64_t features, const struct vq_held *held)
{
	struct virtqueue copy = *vq;
	const char *why = NULL;

	if (s->loading)
		vq_reset(&copy, vq->memory);
	else if (copy.ready)
		copy.format->unpop(&copy, held->chains, held->slots);
	state_bool(s, &copy.ready);
	state_u32(s, &copy.size);
	state_u64(s, &copy.desc);
	state_u64(s, &copy.driver);
	state_u64(s, &copy.device);
	position_state(&copy, s);
	if (!s->loading || !state_ok(s))
		return state_ok(s);
	if (copy.ready) {
		copy.ready = false;
		why = vq_enable(&copy, features);
		if (!why)
			why = copy.format->check_position(&copy);
		if (!state_check(s, !why, why))
			return false;
		*vq = copy;
		return true;
	}
	vq_reset(vq, vq->memory);
	vq->size = copy.size;
	vq->desc = copy.desc;
	vq->driver = copy.driver;
	vq->device = copy.device;
	return true;
}

int vq_pop(struct virtqueue *vq, struct vq_chain *chain)
{
	return vq->format->pop(vq, chain);
}

int vq_push(struct virtqueue *vq, const struct vq_chain *chain, uint32_t written)
{
	struct vq_used used = vq_done(chain, written);

	return vq->format->push(vq, &used, 1);
}

struct vq_used vq_done(const struct vq_chain *chain, uint32_t written)
{
	return (struct vq_used){.id = chain->id, .slots = chain->slots, .written = written};
}

int vq_push_all(struct virtqueue *vq, const struct vq_used *used, unsigned nr)
{
	return vq->format->push(vq, used, nr);
}

int vq_suppress(struct virtqueue *vq)
{
	return vq->format->suppress(vq);
}

int vq_arm(struct virtqueue *vq)
{
	return vq->format->arm(vq);
}

int vq_signal_wanted(struct virtqueue *vq)
{
	return vq->format->signal_wanted(vq);
}

int vq_break(struct virtqueue *vq, const char *why)
{
	vq->broken = why;
	return -EPROTO;
}

/* --- ring fields ------------------------------------------------------------------ */

/* A ring that cannot be touched is the driver's fault, unless memory is going away. */
static int ring_error(struct virtqueue *vq, int rc)
{
	if (rc == -ESHUTDOWN)
		return rc;
	return vq_break(vq, "a virtqueue lies outside of guest memory");
}

int vq_read(struct virtqueue *vq, uint64_t gpa, void *data, size_t len)
{
	int rc = ept_read(vq->memory, GPA(gpa), data, len, EPT_ORIGIN_DEVICE);

	return rc ? ring_error(vq, rc) : 0;
}

int vq_write(struct virtqueue *vq, uint64_t gpa, const void *data, size_t len)
{
	int rc = ept_write(vq->memory, GPA(gpa), data, len, EPT_ORIGIN_DEVICE);

	return rc ? ring_error(vq, rc) : 0;
}

/* Aligned, so it is within a page and one iovec. */
static int map16(struct virtqueue *vq, uint64_t gpa, enum ept_access access, uint16_t **field)
{
	struct iovec iov;
	ssize_t n = ept_map(vq->memory, GPA(gpa), 2, access, EPT_ORIGIN_DEVICE, &iov, 1);

	if (n < 0)
		return ring_error(vq, (int)n);
	*field = iov.iov_base;
	return 0;
}

int vq_load16(struct virtqueue *vq, uint64_t gpa, uint16_t *value)
{
	uint16_t *field;
	int rc = map16(vq, gpa, EPT_READ, &field);

	if (rc)
		return rc;
	*value = __atomic_load_n(field, __ATOMIC_SEQ_CST);
	return 0;
}

int vq_store16(struct virtqueue *vq, uint64_t gpa, uint16_t value)
{
	uint16_t *field;
	int rc = map16(vq, gpa, EPT_WRITE, &field);

	if (rc)
		return rc;
	__atomic_store_n(field, value, __ATOMIC_SEQ_CST);
	return 0;
}

/* --- chains ------------------------------------------------------------------------- */

void vq_chain_init(struct vq_chain *chain, uint16_t id)
{
	chain->id = id;
	chain->slots = 0;
	chain->nr_readable = chain->nr = 0;
	chain->readable = chain->writable = 0;
}

int vq_chain_add(struct virtqueue *vq, struct vq_chain *chain, uint64_t gpa, uint32_t len,
		 bool writable)
{
	if (chain->nr == VQ_CHAIN_MAX)
		return vq_break(vq, "a descriptor chain is too long");
	if (len == 0)
		return vq_break(vq, "a descriptor has no length");
	if (gpa > UINT64_MAX - len)
		return vq_break(vq, "a descriptor wraps around the address space");
	if (!writable && chain->nr_readable < chain->nr)
		return vq_break(vq, "a readable descriptor follows a writable one");

	chain->buf[chain->nr++] = (struct vq_buf){GPA(gpa), len};
	if (writable) {
		chain->writable += len;
	} else {
		chain->readable += len;
		chain->nr_readable++;
	}
	return 0;
}

struct vq_cursor vq_readable(const struct vq_chain *chain)
{
	return (struct vq_cursor){chain->buf, chain->buf + chain->nr_readable, 0, EPT_READ};
}

struct vq_cursor vq_writable(const struct vq_chain *chain)
{
	return (struct vq_cursor){chain->buf + chain->nr_readable, chain->buf + chain->nr, 0,
				  EPT_WRITE};
}

/*
 * The next contiguous range of at most @len bytes, and move past it. Its
 * length is 0 at the end.
 */
static struct vq_buf next_range(struct vq_cursor *cursor, uint64_t len)
{
	struct vq_buf range = {GPA(0), 0};
	uint32_t left;

	if (cursor->buf == cursor->end || len == 0)
		return range;
	left = cursor->buf->len - cursor->offset;
	range.gpa = GPA(cursor->buf->gpa.v + cursor->offset);
	range.len = len < left ? (uint32_t)len : left;
	cursor->offset += range.len;
	if (cursor->offset == cursor->buf->len) {
		cursor->buf++;
		cursor->offset = 0;
	}
	return range;
}

void vq_skip(struct vq_cursor *cursor, uint64_t len)
{
	struct vq_buf range;

	while ((range = next_range(cursor, len)).len > 0)
		len -= range.len;
}

int vq_copy_out(struct virtqueue *vq, struct vq_cursor *cursor, void *data, size_t len)
{
	uint8_t *to = data;

	while (len > 0) {
		struct vq_buf range = next_range(cursor, len);
		int rc;

		if (range.len == 0)
			return -ENODATA;
		rc = ept_read(vq->memory, range.gpa, to, range.len, EPT_ORIGIN_DEVICE);
		if (rc)
			return rc;
		to += range.len;
		len -= range.len;
	}
	return 0;
}

int vq_copy_in(struct virtqueue *vq, struct vq_cursor *cursor, const void *data, size_t len)
{
	const uint8_t *from = data;

	while (len > 0) {
		struct vq_buf range = next_range(cursor, len);
		int rc;

		if (range.len == 0)
			return -ENODATA;
		rc = ept_write(vq->memory, range.gpa, from, range.len, EPT_ORIGIN_DEVICE);
		if (rc)
			return rc;
		from += range.len;
		len -= range.len;
	}
	return 0;
}

ssize_t vq_map(struct virtqueue *vq, struct vq_cursor *cursor, uint64_t len, struct iovec *iov,
	       size_t max, uint64_t *mapped)
{
	size_t nr = 0;

	*mapped = 0;
	while (*mapped < len) {
		struct vq_cursor before = *cursor;
		struct vq_buf range = next_range(cursor, len - *mapped);
		ssize_t n;

		if (range.len == 0)
			break;
		n = ept_map(vq->memory, range.gpa, range.len, cursor->access, EPT_ORIGIN_DEVICE,
			    iov + nr, max - nr);
		/* No room for all of this one: it comes first next time. */
		if (n == -E2BIG && nr > 0) {
			*cursor = before;
			break;
		}
		if (n < 0)
			return n;
		nr += (size_t)n;
		*mapped += range.len;
	}
	return (ssize_t)nr;
}
