/* Packed rings: every rule that a driver can break, and what a sound one may do. */
#include <errno.h>
#include <string.h>

#include "devices/virtqueue.h"
#include "tests/devices/rig.h"

#define NEXT   VRING_DESC_F_NEXT
#define WRITE  VRING_DESC_F_WRITE
#define TABLE  VRING_DESC_F_INDIRECT
#define AVAIL  (1U << VRING_PACKED_DESC_F_AVAIL)
#define USED   (1U << VRING_PACKED_DESC_F_USED)
#define SIZE   6 /* a packed ring's size need not be a power of two */

#define PACKED (1ULL << VIRTIO_F_RING_PACKED)
#define RING   0x1000UL
#define DRIVER 0x3000UL
#define DEVICE 0x4000UL
#define INDIR  0x5000UL
#define DATA   0x8000UL

static struct ept_space *memory;
static struct virtqueue vq;
static struct vq_chain chain;

static void enable(uint64_t features)
{
	vq_reset(&vq, memory);
	memset(memory->bytes, 0, DATA);
	vq.size = SIZE;
	vq.desc = RING;
	vq.driver = DRIVER;
	vq.device = DEVICE;
	ck_assert_ptr_null(vq_enable(&vq, PACKED | features));
}

static void set_up(void)
{
	memory = fake_space(1 << 20);
	enable(INDIRECT);
}

static void tear_down(void)
{
	fake_space_free(memory);
}

static void put(uint64_t table, unsigned index, uint64_t addr, uint32_t len, uint16_t id,
		uint16_t flags)
{
	struct vring_packed_desc desc = {.addr = addr, .len = len, .id = id, .flags = flags};

	memcpy(memory->bytes + table + index * sizeof(desc), &desc, sizeof(desc));
}

static struct vring_packed_desc get(unsigned index)
{
	struct vring_packed_desc desc;

	memcpy(&desc, memory->bytes + RING + index * sizeof(desc), sizeof(desc));
	return desc;
}

static void expect_broken(const char *why)
{
	ck_assert_int_eq(vq_pop(&vq, &chain), -EPROTO);
	ck_assert_str_eq(vq.broken, why);
}

/* One descriptor of one buffer at @index, available in the first round. */
static void put_one(unsigned index, uint16_t id)
{
	put(RING, index, DATA, 64, id, AVAIL | WRITE);
}

static void pop_one(uint16_t id)
{
	ck_assert_int_eq(vq_pop(&vq, &chain), 1);
	ck_assert_uint_eq(chain.id, id);
}

static void set_event(uint64_t at, uint16_t off_wrap, uint16_t flags)
{
	struct vring_packed_desc_event event = {.off_wrap = off_wrap, .flags = flags};

	memcpy(memory->bytes + at, &event, sizeof(event));
}

static void expect_event(uint16_t off_wrap, uint16_t flags)
{
	struct vring_packed_desc_event event;

	memcpy(&event, memory->bytes + DEVICE, sizeof(event));
	ck_assert_uint_eq(event.flags, flags);
	if (flags == VRING_PACKED_EVENT_FLAG_DESC)
		ck_assert_uint_eq(event.off_wrap, off_wrap);
}

/* --- what a driver can do wrong ---------------------------------------------------- */

START_TEST(set_up_wrong)
{
	static const struct {
		uint32_t size;
		uint64_t desc, driver, device;
		const char *why;
	} cases[] = {
	    {0, RING, DRIVER, DEVICE, "a virtqueue's size is not within its limit"},
	    {VQ_SIZE_MAX + 1, RING, DRIVER, DEVICE, "a virtqueue's size is not within its limit"},
	    {SIZE, RING + 8, DRIVER, DEVICE, "a virtqueue is not aligned"},
	    {SIZE, RING, DRIVER + 2, DEVICE, "a virtqueue is not aligned"},
	    {SIZE, RING, DRIVER, DEVICE + 1, "a virtqueue is not aligned"},
	    {SIZE, 1UL << 48, DRIVER, DEVICE, "a virtqueue lies outside of guest memory"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		vq_reset(&vq, memory);
		vq.size = cases[i].size;
		vq.desc = cases[i].desc;
		vq.driver = cases[i].driver;
		vq.device = cases[i].device;
		ck_assert_str_eq(vq_enable(&vq, PACKED), cases[i].why);
		ck_assert(!vq.ready);
	}
}
END_TEST

/* All of the ring and back to its first descriptor, whose bits are of this round. */
START_TEST(loop)
{
	for (unsigned i = 0; i < SIZE; i++)
		put(RING, i, DATA, 16, 0, AVAIL | NEXT);
	expect_broken("a chain goes on to a descriptor that is not available");
}
END_TEST

/* The wrap counter is played so that the first looks available once more. */
START_TEST(longer_than_the_ring)
{
	enable(0);
	put_one(0, 0);
	pop_one(0);
	for (unsigned i = 1; i < SIZE; i++)
		put(RING, i, DATA, 16, 0, AVAIL | NEXT);
	put(RING, 0, DATA, 16, 0, USED | NEXT);
	expect_broken("more descriptors are available than the queue has");
}
END_TEST

/* Offered again before it was given back. */
START_TEST(offered_twice)
{
	for (unsigned i = 0; i < SIZE; i++)
		put_one(i, (uint16_t)i);
	for (unsigned i = 0; i < SIZE; i++)
		pop_one((uint16_t)i);
	put(RING, 0, DATA, 16, 0, USED);
	expect_broken("more descriptors are available than the queue has");
}
END_TEST

START_TEST(goes_on_to_nothing)
{
	put(RING, 0, DATA, 16, 0, AVAIL | NEXT);
	expect_broken("a chain goes on to a descriptor that is not available");
}
END_TEST

/* Both bits set look used, in the first round, and are never taken. */
START_TEST(wrap_counter_of_another_round)
{
	put(RING, 0, DATA, 16, 0, AVAIL | USED);
	ck_assert_int_eq(vq_pop(&vq, &chain), 0);
	put(RING, 0, DATA, 16, 0, USED);
	ck_assert_int_eq(vq_pop(&vq, &chain), 0);
}
END_TEST

START_TEST(bad_buffers)
{
	put(RING, 0, DATA, 0, 0, AVAIL);
	expect_broken("a descriptor has no length");
	enable(0);
	put(RING, 0, UINT64_MAX - 14, 16, 0, AVAIL);
	expect_broken("a descriptor wraps around the address space");
	enable(0);
	put(RING, 0, DATA, 16, 0, AVAIL | NEXT | WRITE);
	put(RING, 1, DATA, 16, 0, AVAIL);
	expect_broken("a readable descriptor follows a writable one");
}
END_TEST

START_TEST(bad_tables)
{
	static const uint32_t lengths[] = {0, 8, 17, 16 * (VQ_CHAIN_MAX + 1), UINT32_MAX};

	for (unsigned i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		enable(INDIRECT);
		put(RING, 0, INDIR, lengths[i], 0, AVAIL | TABLE);
		expect_broken("an indirect table has a wrong length");
	}
	enable(INDIRECT);
	put(RING, 0, INDIR, 32, 0, AVAIL | TABLE | NEXT);
	expect_broken("an indirect descriptor has a next one");
	enable(INDIRECT);
	put(RING, 0, 1UL << 40, 32, 0, AVAIL | TABLE);
	expect_broken("a virtqueue lies outside of guest memory");
	enable(0);
	put(RING, 0, INDIR, 32, 0, AVAIL | TABLE);
	expect_broken("an indirect descriptor was not negotiated");
}
END_TEST

START_TEST(chain_too_long)
{
	put(RING, 0, DATA, 16, 0, AVAIL | NEXT);
	put(RING, 1, INDIR, VQ_CHAIN_MAX * 16, 0, AVAIL | TABLE);
	for (unsigned i = 0; i < VQ_CHAIN_MAX; i++)
		put(INDIR, i, DATA, 16, 0, 0);
	expect_broken("a descriptor chain is too long");
}
END_TEST

START_TEST(rings_outside_of_memory)
{
	memory->hole = (struct fake_range){RING, RING + 16};
	expect_broken("a virtqueue lies outside of guest memory");
	memory->hole = (struct fake_range){0, 0};
	enable(EVENT_IDX);
	memory->hole = (struct fake_range){DEVICE, DEVICE + 4};
	ck_assert_int_eq(vq_arm(&vq), -EPROTO);
	memory->hole = (struct fake_range){0, 0};
	enable(EVENT_IDX);
	memory->hole = (struct fake_range){DRIVER, DRIVER + 4};
	ck_assert_int_eq(vq_signal_wanted(&vq), -EPROTO);
	memory->hole = (struct fake_range){0, 0};
	enable(0);
	put_one(0, 0);
	pop_one(0);
	memory->read_only = (struct fake_range){RING, RING + 16};
	ck_assert_int_eq(vq_push(&vq, &chain, 0), -EPROTO);
}
END_TEST

/* --- what a sound one may do --------------------------------------------------------- */

/* The id is that of the last descriptor; in a table only WRITE means anything. */
START_TEST(chains)
{
	put(RING, 0, DATA, 16, 111, AVAIL | NEXT);
	put(RING, 1, DATA + 64, 32, 7, AVAIL | WRITE);
	put(RING, 2, INDIR, 32, 9, AVAIL | TABLE | WRITE);
	put(INDIR, 0, DATA, 5, 0, NEXT | TABLE);
	put(INDIR, 1, DATA + 5, 6, 0, WRITE | AVAIL | USED);
	pop_one(7);
	ck_assert_uint_eq(chain.nr, 2);
	ck_assert_uint_eq(chain.readable, 16);
	ck_assert_uint_eq(chain.writable, 32);
	pop_one(9);
	ck_assert_uint_eq(chain.nr, 2);
	ck_assert_uint_eq(chain.readable, 5);
	ck_assert_uint_eq(chain.writable, 6);
	ck_assert_int_eq(vq_pop(&vq, &chain), 0);
}
END_TEST

/* A chain of two takes two slots of the used side, too. */
START_TEST(used_descriptors)
{
	struct vring_packed_desc desc;

	put(RING, 0, DATA, 16, 0, AVAIL | NEXT);
	put(RING, 1, DATA + 64, 32, 3, AVAIL | WRITE);
	put_one(2, 4);
	pop_one(3);
	ck_assert_int_eq(vq_push(&vq, &chain, 20), 0);
	desc = get(0);
	ck_assert_uint_eq(desc.id, 3);
	ck_assert_uint_eq(desc.len, 20);
	ck_assert_uint_eq(desc.flags, AVAIL | USED | WRITE);
	ck_assert_uint_eq(get(1).flags, AVAIL | WRITE);
	pop_one(4);
	ck_assert_int_eq(vq_push(&vq, &chain, 0), 0);
	ck_assert_uint_eq(get(2).flags, AVAIL | USED);
}
END_TEST

/* A chain goes round the end of the ring; after it the counters are flipped. */
START_TEST(across_the_end)
{
	for (unsigned i = 0; i < SIZE - 1; i++) {
		put_one(i, (uint16_t)i);
		pop_one((uint16_t)i);
		ck_assert_int_eq(vq_push(&vq, &chain, 0), 0);
	}
	put(RING, SIZE - 1, DATA, 16, 0, AVAIL | NEXT);
	put(RING, 0, DATA, 16, 0, USED | NEXT);
	put(RING, 1, DATA, 16, 50, USED | WRITE);
	pop_one(50);
	ck_assert_uint_eq(chain.nr, 3);
	ck_assert_int_eq(vq_push(&vq, &chain, 16), 0);
	ck_assert_uint_eq(get(SIZE - 1).flags, AVAIL | USED | WRITE);
	put(RING, 2, DATA, 16, 51, USED);
	pop_one(51);
	ck_assert_int_eq(vq_push(&vq, &chain, 0), 0);
	ck_assert_uint_eq(get(2).flags, 0);
}
END_TEST

START_TEST(notifications)
{
	ck_assert_int_eq(vq_suppress(&vq), 0);
	expect_event(0, VRING_PACKED_EVENT_FLAG_DISABLE);
	ck_assert_int_eq(vq_arm(&vq), 0);
	expect_event(0, VRING_PACKED_EVENT_FLAG_ENABLE);
	put_one(0, 0);
	ck_assert_int_eq(vq_arm(&vq), 1);

	enable(EVENT_IDX);
	ck_assert_int_eq(vq_arm(&vq), 0);
	expect_event(0x8000, VRING_PACKED_EVENT_FLAG_DESC);
	for (unsigned i = 0; i < SIZE; i++)
		put_one(i, 0);
	for (unsigned i = 0; i < SIZE; i++)
		pop_one(0);
	ck_assert_int_eq(vq_arm(&vq), 0);
	expect_event(0, VRING_PACKED_EVENT_FLAG_DESC);
}
END_TEST

/* Serve one buffer at @slot of a round and say whether the driver wants to hear. */
static int serve(unsigned slot, bool wrap)
{
	put(RING, slot, DATA, 64, 0, (uint16_t)(WRITE | (wrap ? AVAIL : USED)));
	pop_one(0);
	ck_assert_int_eq(vq_push(&vq, &chain, 1), 0);
	return vq_signal_wanted(&vq);
}

START_TEST(interrupts)
{
	ck_assert_int_eq(serve(0, true), 1);
	set_event(DRIVER, 0, VRING_PACKED_EVENT_FLAG_DISABLE);
	ck_assert_int_eq(serve(1, true), 0);
	/* Reserved, and never negotiated: neither asks for silence. */
	set_event(DRIVER, 5, 3);
	ck_assert_int_eq(serve(2, true), 1);
	set_event(DRIVER, 5, VRING_PACKED_EVENT_FLAG_DESC);
	ck_assert_int_eq(serve(3, true), 1);

	enable(EVENT_IDX);
	set_event(DRIVER, 0x8002, VRING_PACKED_EVENT_FLAG_DESC);
	for (unsigned slot = 0; slot < SIZE; slot++)
		ck_assert_int_eq(serve(slot, true), slot == 2);
	/* Slot 1 of the round that begins now, asked for one round ahead. */
	set_event(DRIVER, 0x0001, VRING_PACKED_EVENT_FLAG_DESC);
	for (unsigned slot = 0; slot < SIZE; slot++)
		ck_assert_int_eq(serve(slot, false), slot == 1);
	/* An offset that no slot has. */
	set_event(DRIVER, 0xffff, VRING_PACKED_EVENT_FLAG_DESC);
	for (unsigned slot = 0; slot < SIZE; slot++)
		ck_assert_int_eq(serve(slot, true), 0);
}
END_TEST

Suite *packed_suite(void)
{
	Suite *suite = suite_create("packed");
	TCase *tc = tcase_create("packed");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, set_up_wrong);
	tcase_add_test(tc, loop);
	tcase_add_test(tc, longer_than_the_ring);
	tcase_add_test(tc, offered_twice);
	tcase_add_test(tc, goes_on_to_nothing);
	tcase_add_test(tc, wrap_counter_of_another_round);
	tcase_add_test(tc, bad_buffers);
	tcase_add_test(tc, bad_tables);
	tcase_add_test(tc, chain_too_long);
	tcase_add_test(tc, rings_outside_of_memory);
	tcase_add_test(tc, chains);
	tcase_add_test(tc, used_descriptors);
	tcase_add_test(tc, across_the_end);
	tcase_add_test(tc, notifications);
	tcase_add_test(tc, interrupts);
	suite_add_tcase(suite, tc);
	return suite;
}
