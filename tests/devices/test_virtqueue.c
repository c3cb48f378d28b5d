/* Rings: every rule that a driver can break, and what a sound one may do. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "tests/devices/rig.h"

#define NEXT  VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define TABLE VRING_DESC_F_INDIRECT
#define SIZE  8

static struct rig rig;

static void set_up(void)
{
	rig_init(&rig);
	rig_blk_new(&rig, 1 << 20, DISK_RO);
	rig_start(&rig, VERSION_1 | INDIRECT, SIZE);
}

static void tear_down(void)
{
	rig_fini(&rig);
}

/* The header of a read of sector 3. */
static void put_header(void)
{
	struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_IN, .sector = 3};

	memcpy(rig.memory->bytes + RIG_HEADER, &header, sizeof(header));
	rig.memory->bytes[RIG_STATUS] = 0xee;
}

static void table_entry(unsigned index, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	struct vring_desc desc = {.addr = addr, .len = len, .flags = flags, .next = next};

	memcpy(rig.memory->bytes + RIG_TABLE + index * sizeof(desc), &desc, sizeof(desc));
}

static void offer_and_expect_broken(uint16_t head, const char *why)
{
	rig_offer(&rig, head);
	rig_notify(&rig);
	ck_assert(rig_wait_broken(&rig));
	ck_assert_str_eq(device_broken(rig.dev), why);
	ck_assert_uint_eq(rig.memory->bytes[RIG_USED + 2], 0);
	/* A reset makes it as new. */
	rig_start(&rig, VERSION_1 | INDIRECT, SIZE);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
}

/* Chains that no driver may offer, and what is said of them. */
static const struct {
	const char *why;
	uint16_t head;
	struct vring_desc descs[2], table[2]; /* of the queue; of an indirect table */
} wrong_chains[] = {
    {"a descriptor chain loops", 0, {{RIG_HEADER, 16, NEXT, 1}, {RIG_HEADER, 16, NEXT, 0}}, {{0}}},
    {"a descriptor chain loops", 1, {[1] = {RIG_HEADER, 16, NEXT, 1}}, {{0}}},
    {"a descriptor's index lies outside of the queue", SIZE, {{0}}, {{0}}},
    {"a descriptor's index lies outside of the queue", 0, {{RIG_HEADER, 16, NEXT, 0xffff}}, {{0}}},
    {"a descriptor has no length", 0, {{RIG_HEADER, 0, 0, 0}}, {{0}}},
    {"a descriptor wraps around the address space", 0, {{UINT64_MAX - 14, 16, 0, 0}}, {{0}}},
    {"a readable descriptor follows a writable one",
     0,
     {{RIG_STATUS, 1, NEXT | WRITE, 1}, {RIG_HEADER, 16, 0, 0}},
     {{0}}},
    {"a block request lacks its header or its status byte", 0, {{RIG_HEADER, 16, 0, 0}}, {{0}}},
    {"a block request lacks its header or its status byte",
     0,
     {{RIG_HEADER, 15, NEXT, 1}, {RIG_STATUS, 1, WRITE, 0}},
     {{0}}},
    {"a block request's header lies outside of guest memory",
     0,
     {{RIG_OUTSIDE, 16, NEXT, 1}, {RIG_STATUS, 1, WRITE, 0}},
     {{0}}},
    {"a block request's status lies outside of guest memory",
     0,
     {{RIG_HEADER, 16, NEXT, 1}, {RIG_MEMORY, 1, WRITE, 0}},
     {{0}}},
    {"an indirect table holds an indirect descriptor",
     0,
     {{RIG_TABLE, 32, TABLE, 0}},
     {{RIG_HEADER, 16, NEXT, 1}, {RIG_TABLE, 32, TABLE, 0}}},
    {"an indirect descriptor has a next one", 0, {{RIG_TABLE, 32, TABLE | NEXT, 1}}, {{0}}},
    {"an indirect table loops",
     0,
     {{RIG_TABLE, 32, TABLE, 0}},
     {{RIG_HEADER, 16, NEXT, 1}, {RIG_HEADER, 16, NEXT, 0}}},
    {"an indirect table's next lies outside of it",
     0,
     {{RIG_TABLE, 32, TABLE, 0}},
     {{RIG_HEADER, 16, NEXT, 2}}},
    {"a virtqueue lies outside of guest memory", 0, {{RIG_OUTSIDE, 32, TABLE, 0}}, {{0}}},
};

START_TEST(wrong_chain)
{
	put_header();
	for (unsigned i = 0; i < 2; i++) {
		const struct vring_desc *desc = &wrong_chains[_i].descs[i];

		rig_desc(&rig, i, desc->addr, desc->len, desc->flags, desc->next);
		desc = &wrong_chains[_i].table[i];
		table_entry(i, desc->addr, desc->len, desc->flags, desc->next);
	}
	offer_and_expect_broken(wrong_chains[_i].head, wrong_chains[_i].why);
}
END_TEST

START_TEST(available_index_jumps)
{
	rig.avail_idx += SIZE;
	offer_and_expect_broken(0, "the available index jumped");
}
END_TEST

START_TEST(available_index_goes_back)
{
	rig.avail_idx = (uint16_t)-3;
	offer_and_expect_broken(0, "the available index jumped");
}
END_TEST

START_TEST(indirect_table_of_wrong_length)
{
	static const uint32_t lengths[] = {8, 17, 16 * 257, UINT32_MAX};

	for (unsigned i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		rig_start(&rig, VERSION_1 | INDIRECT, SIZE);
		rig_desc(&rig, 0, RIG_TABLE, lengths[i], TABLE, 0);
		offer_and_expect_broken(0, "an indirect table has a wrong length");
	}
}
END_TEST

/* Seven direct descriptors, then a table that fills the rest and one more. */
START_TEST(chain_too_long)
{
	for (unsigned i = 0; i < SIZE - 1; i++)
		rig_desc(&rig, i, RIG_HEADER, 16, NEXT, (uint16_t)(i + 1));
	rig_desc(&rig, SIZE - 1, RIG_DATA, 250 * 16, TABLE, 0);
	for (unsigned i = 0; i < 250; i++) {
		struct vring_desc desc = {RIG_HEADER, 16, NEXT, (uint16_t)(i + 1)};

		memcpy(rig.memory->bytes + RIG_DATA + i * sizeof(desc), &desc, sizeof(desc));
	}
	offer_and_expect_broken(0, "a descriptor chain is too long");
}
END_TEST

START_TEST(indirect_never_negotiated)
{
	rig_start(&rig, VERSION_1, SIZE);
	rig_desc(&rig, 0, RIG_TABLE, 32, TABLE, 0);
	offer_and_expect_broken(0, "an indirect descriptor was not negotiated");
}
END_TEST

START_TEST(rings_outside_of_memory)
{
	static const struct fake_range holes[] = {
	    {RIG_DESC, RIG_DESC + 16},
	    {RIG_AVAIL, RIG_AVAIL + 4},
	    {RIG_AVAIL + 4, RIG_AVAIL + 6},
	    {RIG_USED, RIG_USED + 2},
	};

	for (unsigned i = 0; i < sizeof(holes) / sizeof(*holes); i++) {
		ck_assert(rig_negotiate(&rig, VERSION_1));
		rig_queue(&rig, SIZE);
		rig_offer(&rig, 0);
		rig.memory->hole = holes[i];
		rig_set(&rig, VIRTIO_MMIO_STATUS, 0xf);
		ck_assert(rig_wait_broken(&rig));
		ck_assert_str_eq(device_broken(rig.dev),
				 "a virtqueue lies outside of guest memory");
		rig_set(&rig, VIRTIO_MMIO_STATUS, 0);
		rig.memory->hole = (struct fake_range){0, 0};
	}
}
END_TEST

/* Framing is the driver's choice: header, data and status in pieces, by a table. */
START_TEST(indirect_in_odd_pieces)
{
	struct vring_used_elem elem;

	put_header();
	rig_desc(&rig, 2, RIG_TABLE, 5 * 16, TABLE, 0);
	table_entry(0, RIG_HEADER, 5, NEXT, 1);
	table_entry(1, RIG_HEADER + 5, 11, NEXT, 4);
	table_entry(2, RIG_DATA + 8192, 412, NEXT | WRITE, 3);
	table_entry(3, RIG_STATUS, 1, WRITE, 0);
	table_entry(4, RIG_DATA + 1, 100, NEXT | WRITE, 2);
	rig_offer(&rig, 2);
	rig_notify(&rig);
	ck_assert(rig_wait_used(&rig, &elem));
	ck_assert_uint_eq(elem.id, 2);
	ck_assert_uint_eq(elem.len, 513);
	ck_assert_uint_eq(rig.memory->bytes[RIG_STATUS], VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(rig.memory->bytes[RIG_DATA + 1], 3);
	ck_assert_uint_eq(rig.memory->bytes[RIG_DATA + 1 + 96], 3);
	ck_assert_uint_eq(rig.memory->bytes[RIG_DATA + 8192 + 4], 3);
	ck_assert_uint_eq(rig.memory->bytes[RIG_DATA + 8192 + 412], 0);
}
END_TEST

/* Full rings, over and over, until every 16-bit index has wrapped. */
START_TEST(index_wraps)
{
	struct vring_used_elem elem;

	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_GET_ID, 0, 20), VIRTIO_BLK_S_OK);
	for (unsigned round = 0; round < 8200; round++) {
		for (unsigned i = 0; i < SIZE; i++)
			rig_offer(&rig, 0);
		rig_notify(&rig);
		for (unsigned i = 0; i < SIZE; i++) {
			if (!rig_wait_used(&rig, &elem) || elem.len != 21)
				ck_abort_msg("round %u: not used, or not by 21 bytes", round);
		}
	}
	ck_assert_uint_eq(rig.used_idx, (uint16_t)(8200 * SIZE + 1));
	ck_assert_str_eq((char *)rig.memory->bytes + RIG_DATA, "disk.img");
}
END_TEST

static uint16_t load16(uint64_t gpa)
{
	return __atomic_load_n((uint16_t *)(void *)(rig.memory->bytes + gpa), __ATOMIC_SEQ_CST);
}

static void store16(uint64_t gpa, uint16_t value)
{
	__atomic_store_n((uint16_t *)(void *)(rig.memory->bytes + gpa), value, __ATOMIC_SEQ_CST);
}

START_TEST(no_interrupt_asked_for)
{
	store16(RIG_AVAIL, VRING_AVAIL_F_NO_INTERRUPT);
	for (unsigned i = 0; i < 10; i++)
		ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
	bus_stop(rig.bus);
	ck_assert_uint_eq(atomic_load(&rig.rises), 0);
}
END_TEST

START_TEST(event_index)
{
	rig_start(&rig, VERSION_1 | EVENT_IDX, SIZE);
	/* used_event 4: the first one always, then the fifth alone. */
	store16(RIG_AVAIL + 4 + 2 * SIZE, 4);
	for (unsigned i = 0; i < 8; i++) {
		ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
		/* avail_event says from which chain on to tell. */
		for (unsigned n = 0; n < 60000 && load16(RIG_USED + 4 + 8 * SIZE) != i + 1; n++)
			usleep(1000);
		ck_assert_uint_eq(load16(RIG_USED + 4 + 8 * SIZE), i + 1);
	}
	bus_stop(rig.bus);
	ck_assert_uint_eq(atomic_load(&rig.rises), 2);
}
END_TEST

Suite *virtqueue_suite(void)
{
	Suite *suite = suite_create("virtqueue");
	TCase *tc = tcase_create("virtqueue");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_loop_test(tc, wrong_chain, 0, sizeof(wrong_chains) / sizeof(*wrong_chains));
	tcase_add_test(tc, available_index_jumps);
	tcase_add_test(tc, available_index_goes_back);
	tcase_add_test(tc, indirect_table_of_wrong_length);
	tcase_add_test(tc, chain_too_long);
	tcase_add_test(tc, indirect_never_negotiated);
	tcase_add_test(tc, rings_outside_of_memory);
	tcase_add_test(tc, indirect_in_odd_pieces);
	tcase_add_test(tc, index_wraps);
	tcase_add_test(tc, no_interrupt_asked_for);
	tcase_add_test(tc, event_index);
	suite_add_tcase(suite, tc);
	return suite;
}
