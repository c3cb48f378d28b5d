/* virtio-pmem: where the area lies, and flush requests. */
#include <errno.h>
#include <linux/virtio_ids.h>
#include <string.h>

#include "tests/devices/rig.h"

static struct rig rig;
static struct ept_area area;

static void set_up(void)
{
	struct device *dev;

	rig_init(&rig);
	area = (struct ept_area){.info = {.gpa = GPA(5UL << 30), .size = 64UL << 20}};
	ck_assert_int_eq(virtio_pmem_create(&rig.host, RIG_PIN, &area, &dev), 0);
	rig_attach(&rig, dev);
	rig_start(&rig, VERSION_1, 8);
}

static void tear_down(void)
{
	rig_fini(&rig);
}

/* The answer, or -1 without one. */
static int64_t flush(uint32_t type)
{
	struct vring_used_elem elem;
	uint32_t answer = 0xee;

	memcpy(rig.memory->bytes + RIG_HEADER, &type, sizeof(type));
	memcpy(rig.memory->bytes + RIG_STATUS, &answer, sizeof(answer));
	rig_desc(&rig, 0, RIG_HEADER, 4, VRING_DESC_F_NEXT, 1);
	rig_desc(&rig, 1, RIG_STATUS, 4, VRING_DESC_F_WRITE, 0);
	rig_offer(&rig, 0);
	rig_notify(&rig);
	if (!rig_wait_used(&rig, &elem) || elem.len != 4)
		return -1;
	memcpy(&answer, rig.memory->bytes + RIG_STATUS, sizeof(answer));
	return answer;
}

START_TEST(announces_its_area)
{
	uint64_t field;

	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_PMEM);
	ck_assert(bus_read(rig.bus, RIG_BASE + VIRTIO_MMIO_CONFIG, &field, 8));
	ck_assert_uint_eq(field, 5UL << 30);
	ck_assert(bus_read(rig.bus, RIG_BASE + VIRTIO_MMIO_CONFIG + 8, &field, 8));
	ck_assert_uint_eq(field, 64UL << 20);
}
END_TEST

START_TEST(flush_syncs_the_area)
{
	ck_assert_int_eq(flush(0), 0);
	ck_assert_int_eq(flush(0), 0);
	bus_stop(rig.bus);
	ck_assert_uint_eq(area.syncs, 2);
}
END_TEST

START_TEST(failed_flush_is_told)
{
	area.sync_result = -ENOSPC;
	ck_assert_int_eq(flush(0), 1);
	bus_stop(rig.bus);
	ck_assert_uint_eq(area.syncs, 1);
}
END_TEST

START_TEST(unknown_request)
{
	ck_assert_int_eq(flush(9), 1);
	bus_stop(rig.bus);
	ck_assert_uint_eq(area.syncs, 0);
}
END_TEST

START_TEST(no_room_for_the_answer)
{
	rig_desc(&rig, 0, RIG_HEADER, 4, VRING_DESC_F_NEXT, 1);
	rig_desc(&rig, 1, RIG_STATUS, 3, VRING_DESC_F_WRITE, 0);
	rig_offer(&rig, 0);
	rig_notify(&rig);
	ck_assert(rig_wait_broken(&rig));
	bus_stop(rig.bus);
	ck_assert_uint_eq(area.syncs, 0);
}
END_TEST

Suite *pmem_suite(void)
{
	Suite *suite = suite_create("virtio-pmem");
	TCase *tc = tcase_create("virtio-pmem");

	tcase_set_timeout(tc, 20);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, announces_its_area);
	tcase_add_test(tc, flush_syncs_the_area);
	tcase_add_test(tc, failed_flush_is_told);
	tcase_add_test(tc, unknown_request);
	tcase_add_test(tc, no_room_for_the_answer);
	suite_add_tcase(suite, tc);
	return suite;
}
