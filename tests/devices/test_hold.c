/* Devices brought to rest while their driver has requests under way, and let go again. */
#include <time.h>
#include <unistd.h>

#include "tests/devices/remote_rig.h"
#include "tests/devices/rig.h"

#define LONG_MS 200000 /* what is waited for comes sooner */

static struct rig rig;

static uint64_t in_ms(unsigned ms)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec + ms * 1000000ULL;
}

/* A disk whose server holds the first request. */
static void set_up(void)
{
	struct device *dev;

	remote_set_up();
	rig_init(&rig);
	ck_assert_int_eq(remote_open(true), 0);
	ck_assert_int_eq(
	    virtio_blk_create_on(&rig.host, RIG_PIN, remote.backend, "nbd:x", DISK_SHARED, &dev),
	    0);
	remote.backend = NULL;
	rig_attach(&rig, dev);
	rig_start(&rig, VERSION_1, 8);
}

static void tear_down(void)
{
	rig_fini(&rig);
	remote_tear_down();
}

static void begin_and_hold(void)
{
	atomic_store(&remote.twist, HOLD);
	atomic_store(&remote.release, false);
	rig_request_begin(&rig, VIRTIO_BLK_T_IN, 0, 512);
	ck_assert(rig_wait(&remote.held, true));
}

/* The request under way is waited for, those behind it stay where they are. */
START_TEST(under_way)
{
	begin_and_hold();
	rig_offer(&rig, 0);
	rig_offer(&rig, 0);
	rig_notify(&rig);
	ck_assert_ptr_eq(bus_hold(rig.bus, in_ms(20)), rig.dev);
	ck_assert_uint_eq(rig_used_idx(&rig), 0);
	atomic_store(&remote.release, true);
	ck_assert_ptr_null(bus_hold(rig.bus, in_ms(LONG_MS)));
	ck_assert_uint_eq(rig_used_idx(&rig), 1);
	ck_assert_int_eq(rig.memory->bytes[RIG_STATUS], VIRTIO_BLK_S_OK);
	/* What comes is not looked at, and a second hold changes nothing. */
	rig_notify(&rig);
	ck_assert_ptr_null(bus_hold(rig.bus, in_ms(LONG_MS)));
	ck_assert(rig_wait_idle());
	ck_assert_uint_eq(rig_used_idx(&rig), 1);
	bus_release(rig.bus);
	for (int i = 0; i < 3; i++) {
		struct vring_used_elem elem;
		ck_assert(rig_wait_used(&rig, &elem));
	}
	ck_assert_uint_eq(rig_used_idx(&rig), 3);
}
END_TEST

/* One that could not be held goes on as if nothing had been. */
START_TEST(given_up)
{
	struct vring_used_elem elem;

	begin_and_hold();
	ck_assert_ptr_eq(bus_hold(rig.bus, in_ms(5)), rig.dev);
	ck_assert_str_eq(device_kind(rig.dev), "virtio-blk");
	bus_release(rig.bus);
	atomic_store(&remote.release, true);
	ck_assert(rig_wait_used(&rig, &elem));
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_IN, 1, 512), VIRTIO_BLK_S_OK);
}
END_TEST

/* The run may end while they are held: there is nothing to wait for. */
START_TEST(stopped)
{
	ck_assert_ptr_null(bus_hold(rig.bus, in_ms(LONG_MS)));
	rig_request_begin(&rig, VIRTIO_BLK_T_IN, 0, 512);
	bus_stop(rig.bus);
	ck_assert_uint_eq(rig_used_idx(&rig), 0);
}
END_TEST

Suite *hold_suite(void)
{
	Suite *suite = suite_create("hold");
	TCase *tc = tcase_create("hold");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, under_way);
	tcase_add_test(tc, given_up);
	tcase_add_test(tc, stopped);
	suite_add_tcase(suite, tc);
	return suite;
}
