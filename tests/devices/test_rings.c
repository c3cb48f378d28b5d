/*
 * Both ring formats against one model of a driver: random chains go in, are
 * served out of order and come back; what a format delivers, and when it wants
 * either side to be told, has to be what the model says.
 */
#include <stdlib.h>
#include <string.h>

#include "devices/virtqueue.h"
#include "tests/devices/rig.h"

#define SIZE	   16
#define STEPS	   40000
#define PACKED	   (1ULL << VIRTIO_F_RING_PACKED)
#define RING	   0x1000UL
#define DRIVER	   0x3000UL
#define DEVICE	   0x4000UL
#define TABLES	   0x10000UL /* one for each id */
#define TABLE_SIZE 0x1000UL
#define CHAIN_BUFS 8

/* A chain as the driver made it. */
struct request {
	bool used;
	unsigned nr, nr_readable, slots;
	struct vq_buf buf[CHAIN_BUFS];
	uint32_t written;
};

/* A driver: where it is in the ring, and what it has out. */
struct driver {
	struct ept_space *memory;
	struct virtqueue vq;
	bool indirect, packed;
	struct request request[SIZE];
	unsigned free_slots;
	uint16_t next, seen; /* slot, or index */
	bool next_wrap, seen_wrap;
	uint16_t event;	     /* position at which it wants to hear */
	uint32_t total_used; /* slots of packed, elements of split */
	/* Chains the device has taken and not given back. */
	struct vq_chain held[SIZE];
	unsigned nr_held;
};

static void *at(struct driver *drv, uint64_t gpa)
{
	return drv->memory->bytes + gpa;
}

static void driver_init(struct driver *drv, uint64_t features)
{
	memset(drv, 0, sizeof(*drv));
	drv->memory = fake_space(1 << 20);
	drv->indirect = features & INDIRECT;
	drv->packed = features & PACKED;
	drv->free_slots = SIZE;
	drv->next_wrap = drv->seen_wrap = true;
	vq_reset(&drv->vq, drv->memory);
	drv->vq.size = SIZE;
	drv->vq.desc = RING;
	drv->vq.driver = DRIVER;
	drv->vq.device = DEVICE;
	ck_assert_ptr_null(vq_enable(&drv->vq, features));
}

/* --- offering ------------------------------------------------------------------------- */

static uint16_t buf_flags(const struct request *req, unsigned i)
{
	return i >= req->nr_readable ? VRING_DESC_F_WRITE : 0;
}

static void split_desc(struct driver *drv, uint64_t table, unsigned i, struct vq_buf buf,
		       uint16_t flags, uint16_t next)
{
	struct vring_desc desc = {.addr = buf.gpa.v, .len = buf.len, .flags = flags, .next = next};

	memcpy(at(drv, table + i * sizeof(desc)), &desc, sizeof(desc));
}

static void split_offer(struct driver *drv, struct request *req, uint16_t id)
{
	uint16_t *avail = at(drv, DRIVER);
	uint64_t table = TABLES + id * TABLE_SIZE;

	/* Ids are heads here: each chain is a table, or has its slots to itself. */
	for (unsigned i = 0; i < req->nr; i++) {
		uint16_t more = i + 1 < req->nr ? VRING_DESC_F_NEXT : 0;

		if (drv->indirect)
			split_desc(drv, table, i, req->buf[i], buf_flags(req, i) | more,
				   (uint16_t)(i + 1));
		else
			split_desc(drv, RING, (id + i) % SIZE, req->buf[i],
				   buf_flags(req, i) | more, (uint16_t)((id + i + 1) % SIZE));
	}
	if (drv->indirect)
		split_desc(drv, RING, id, (struct vq_buf){GPA(table), req->nr * 16},
			   VRING_DESC_F_INDIRECT, 0);
	avail[2 + drv->next % SIZE] = id;
	avail[1] = ++drv->next;
}

static void packed_desc(struct driver *drv, uint64_t gpa, struct vq_buf buf, uint16_t id,
			uint16_t flags)
{
	struct vring_packed_desc desc = {
	    .addr = buf.gpa.v, .len = buf.len, .id = id, .flags = flags};

	memcpy(at(drv, gpa), &desc, sizeof(desc));
}

static void packed_slot(struct driver *drv, struct vq_buf buf, uint16_t id, uint16_t flags)
{
	flags |= drv->next_wrap ? 1U << VRING_PACKED_DESC_F_AVAIL : 1U << VRING_PACKED_DESC_F_USED;
	packed_desc(drv, RING + drv->next * 16UL, buf, id, flags);
	if (++drv->next == SIZE) {
		drv->next = 0;
		drv->next_wrap = !drv->next_wrap;
	}
}

static void packed_offer(struct driver *drv, struct request *req, uint16_t id)
{
	uint64_t table = TABLES + id * TABLE_SIZE;

	for (unsigned i = 0; i < req->nr; i++) {
		uint16_t flags = buf_flags(req, i);

		if (drv->indirect)
			packed_desc(drv, table + i * 16, req->buf[i], 0xabcd, flags);
		else
			packed_slot(drv, req->buf[i], id,
				    flags | (i + 1 < req->nr ? VRING_DESC_F_NEXT : 0));
	}
	if (drv->indirect)
		packed_slot(drv, (struct vq_buf){GPA(table), req->nr * 16}, id,
			    VRING_DESC_F_INDIRECT);
}

/*
 * An id that is free and, for a split ring without tables, whose following
 * descriptors are free as well; or SIZE.
 */
static unsigned free_id(const struct driver *drv, unsigned slots)
{
	bool busy[SIZE] = {false};

	for (unsigned id = 0; id < SIZE; id++)
		for (unsigned i = 0; drv->request[id].used && i < drv->request[id].slots; i++)
			busy[drv->packed ? id : (id + i) % SIZE] = true;
	for (unsigned id = 0; id < SIZE; id++) {
		unsigned n = 0;

		while (n < slots && !busy[drv->packed ? id : (id + n) % SIZE])
			n++;
		if (n == slots)
			return id;
	}
	return SIZE;
}

static void offer(struct driver *drv)
{
	struct request req = {.used = true, .nr = 1 + (unsigned)rand() % CHAIN_BUFS};
	unsigned id;

	req.nr_readable = (unsigned)rand() % (req.nr + 1);
	req.slots = drv->indirect ? 1 : req.nr;
	for (unsigned i = 0; i < req.nr; i++)
		req.buf[i] = (struct vq_buf){GPA(rand()), 1 + (unsigned)rand() % 5000};
	id = free_id(drv, req.slots);
	if (req.slots > drv->free_slots || id == SIZE)
		return;
	drv->free_slots -= req.slots;
	drv->request[id] = req;
	if (drv->packed)
		packed_offer(drv, &req, (uint16_t)id);
	else
		split_offer(drv, &req, (uint16_t)id);
}

/* --- the device takes and gives back -------------------------------------------------- */

static void take(struct driver *drv)
{
	struct vq_chain *chain = &drv->held[drv->nr_held];
	const struct request *req;
	int rc;

	if (drv->nr_held == SIZE)
		return;
	rc = vq_pop(&drv->vq, chain);
	ck_assert_int_ge(rc, 0);
	if (rc == 0)
		return;
	req = &drv->request[chain->id];
	ck_assert(req->used);
	ck_assert_uint_eq(chain->nr, req->nr);
	ck_assert_uint_eq(chain->nr_readable, req->nr_readable);
	for (unsigned i = 0; i < req->nr; i++)
		if (chain->buf[i].gpa.v != req->buf[i].gpa.v ||
		    chain->buf[i].len != req->buf[i].len)
			ck_abort_msg("buffer %u is not the request's", i);
	drv->nr_held++;
}

/* How far from the place where the driver wants to hear to the end of what is used. */
static bool model_wants(const struct driver *drv, uint32_t before)
{
	return (uint16_t)(drv->total_used - drv->event - 1) < (uint16_t)(drv->total_used - before);
}

static void put_event(struct driver *drv)
{
	if (drv->packed) {
		uint16_t *event = at(drv, DRIVER);

		/* Rounds are told apart by their lowest bit: the first has it set. */
		event[0] = (uint16_t)(drv->event % SIZE | (drv->event / SIZE % 2 ? 0 : 1U << 15));
		event[1] = VRING_PACKED_EVENT_FLAG_DESC;
	} else {
		((uint16_t *)at(drv, DRIVER))[2 + SIZE] = drv->event;
	}
}

static void give_back(struct driver *drv)
{
	uint32_t before = drv->total_used;
	unsigned nr = 1 + (unsigned)rand() % 3, nr_used = 0;
	struct vq_used used[3];
	int wanted;

	for (; nr > 0 && drv->nr_held > 0; nr--) {
		unsigned i = (unsigned)rand() % drv->nr_held;
		struct request *req = &drv->request[drv->held[i].id];

		req->written = (uint32_t)rand() % 5000;
		used[nr_used++] = vq_done(&drv->held[i], req->written);
		drv->held[i] = drv->held[--drv->nr_held];
		drv->total_used += drv->packed ? req->slots : 1;
	}
	ck_assert_int_eq(vq_push_all(&drv->vq, used, nr_used), 0);
	if (drv->total_used == before)
		return;
	wanted = vq_signal_wanted(&drv->vq);
	/* The first time a split ring tells in any case. */
	if (before > 0)
		ck_assert_int_eq(wanted, model_wants(drv, before));
}

/* --- the driver takes back -------------------------------------------------------------- */

static bool packed_collect(struct driver *drv, uint16_t *id, uint32_t *len)
{
	struct vring_packed_desc desc;
	unsigned avail, used;

	memcpy(&desc, at(drv, RING + drv->seen * 16UL), sizeof(desc));
	avail = desc.flags >> VRING_PACKED_DESC_F_AVAIL & 1;
	used = desc.flags >> VRING_PACKED_DESC_F_USED & 1;
	if (avail != used || used != drv->seen_wrap)
		return false;
	*id = desc.id;
	*len = desc.len;
	drv->seen += drv->request[desc.id].slots;
	if (drv->seen >= SIZE) {
		drv->seen -= SIZE;
		drv->seen_wrap = !drv->seen_wrap;
	}
	return true;
}

static bool split_collect(struct driver *drv, uint16_t *id, uint32_t *len)
{
	const uint16_t *used = at(drv, DEVICE);
	struct vring_used_elem elem;

	if (used[1] == drv->seen)
		return false;
	memcpy(&elem, at(drv, DEVICE + 4 + drv->seen++ % SIZE * sizeof(elem)), sizeof(elem));
	*id = (uint16_t)elem.id;
	*len = elem.len;
	return true;
}

static void collect(struct driver *drv)
{
	uint32_t len;
	uint16_t id;

	while (drv->packed ? packed_collect(drv, &id, &len) : split_collect(drv, &id, &len)) {
		ck_assert(drv->request[id].used);
		ck_assert_uint_eq(len, drv->request[id].written);
		drv->request[id].used = false;
		drv->free_slots += drv->request[id].slots;
	}
	/* Somewhere from here to a ring's length on. */
	drv->event = (uint16_t)(drv->total_used + (unsigned)rand() % (SIZE / 2));
	put_event(drv);
}

/* Chains that nobody has taken yet are what arming has to report. */
static void arm(struct driver *drv)
{
	unsigned out = 0;

	collect(drv);
	for (unsigned id = 0; id < SIZE; id++)
		out += drv->request[id].used;
	ck_assert_int_eq(vq_suppress(&drv->vq), 0);
	ck_assert_int_eq(vq_arm(&drv->vq), out > drv->nr_held);
}

static void run(uint64_t features)
{
	struct driver drv;

	srand(1);
	driver_init(&drv, features | EVENT_IDX);
	put_event(&drv);
	for (unsigned i = 0; i < STEPS; i++) {
		switch (rand() % 8) {
		case 0 ... 2:
			offer(&drv);
			break;
		case 3 ... 4:
			take(&drv);
			break;
		case 5:
			give_back(&drv);
			break;
		case 6:
			collect(&drv);
			break;
		case 7:
			arm(&drv);
			break;
		}
	}
	ck_assert_uint_gt(drv.total_used, 100 * SIZE);
	fake_space_free(drv.memory);
}

START_TEST(agree)
{
	static const uint64_t features[] = {0, INDIRECT, PACKED, PACKED | INDIRECT};

	run(features[_i]);
}
END_TEST

Suite *rings_suite(void)
{
	Suite *suite = suite_create("rings");
	TCase *tc = tcase_create("rings");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, agree, 0, 4);
	suite_add_tcase(suite, tc);
	return suite;
}
