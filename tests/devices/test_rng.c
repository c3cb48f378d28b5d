/* virtio-rng: what is asked for is filled, as far as it goes. */
#include <linux/virtio_ids.h>
#include <string.h>

#include "tests/devices/rig.h"

static struct rig rig;

static void set_up(void)
{
	struct device *dev;

	rig_init(&rig);
	ck_assert_int_eq(virtio_rng_create(&rig.host, RIG_PIN, &dev), 0);
	rig_attach(&rig, dev);
	rig_start(&rig, VERSION_1, 8);
}

static void tear_down(void)
{
	rig_fini(&rig);
}

/* Ask for @len bytes at RIG_DATA; how many came. */
static uint32_t ask(uint32_t len)
{
	struct vring_used_elem elem;

	rig_desc(&rig, 0, RIG_DATA, len, VRING_DESC_F_WRITE, 0);
	rig_offer(&rig, 0);
	rig_notify(&rig);
	ck_assert(rig_wait_used(&rig, &elem));
	return elem.len;
}

START_TEST(fills_with_random_bytes)
{
	static const uint8_t zero[64];
	uint8_t first[64];

	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_RNG);
	ck_assert_uint_eq(ask(64), 64);
	memcpy(first, rig.memory->bytes + RIG_DATA, 64);
	ck_assert_mem_ne(first, zero, 64);
	ck_assert_mem_eq(rig.memory->bytes + RIG_DATA + 64, zero, 64);
	ck_assert_uint_eq(ask(64), 64);
	ck_assert_mem_ne(first, rig.memory->bytes + RIG_DATA, 64);
}
END_TEST

START_TEST(gives_less_than_asked)
{
	ck_assert_uint_eq(ask(1 << 20), 256);
	ck_assert_uint_eq(ask(1), 1);
}
END_TEST

START_TEST(no_room)
{
	rig_desc(&rig, 0, RIG_DATA, 64, 0, 0);
	rig_offer(&rig, 0);
	rig_notify(&rig);
	ck_assert(rig_wait_broken(&rig));
}
END_TEST

START_TEST(buffer_outside_of_memory)
{
	rig_desc(&rig, 0, RIG_OUTSIDE, 64, VRING_DESC_F_WRITE, 0);
	rig_offer(&rig, 0);
	rig_notify(&rig);
	ck_assert(rig_wait_broken(&rig));
}
END_TEST

Suite *rng_suite(void)
{
	Suite *suite = suite_create("virtio-rng");
	TCase *tc = tcase_create("virtio-rng");

	tcase_set_timeout(tc, 20);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, fills_with_random_bytes);
	tcase_add_test(tc, gives_less_than_asked);
	tcase_add_test(tc, no_room);
	tcase_add_test(tc, buffer_outside_of_memory);
	suite_add_tcase(suite, tc);
	return suite;
}
