/* Resets and the end of the run while a request is being served. */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>

#include "tests/devices/rig.h"

static struct rig rig;

static void set_up(void)
{
	rig_init(&rig);
	rig_blk_new(&rig, 1 << 20, DISK_COW);
}

static void tear_down(void)
{
	rig_fini(&rig);
}

static sem_t arrived, go;

static void hold_data(struct ept_space *space, gpa_t gpa, uint64_t len)
{
	(void)space, (void)len;
	if (gpa.v != RIG_DATA)
		return;
	sem_post(&arrived);
	sem_wait(&go);
}

static atomic_bool reset_done;

static void *resetter(void *arg)
{
	(void)arg;
	rig_set(&rig, VIRTIO_MMIO_STATUS, 0);
	atomic_store(&reset_done, true);
	return NULL;
}

static void begin_held_request(void)
{
	sem_init(&arrived, 0, 0);
	sem_init(&go, 0, 0);
	rig.memory->on_map = hold_data;
	rig_start(&rig, VERSION_1, 8);
	rig_request_begin(&rig, VIRTIO_BLK_T_IN, 0, 4096);
	sem_wait(&arrived);
}

/* Until a reset waits for the worker: then neither a queue that there is nor one that there is not
   can be selected any more. */
static void wait_for_standstill(void)
{
	for (int i = 0; i < 60000; i++) {
		rig_set(&rig, VIRTIO_MMIO_QUEUE_SEL, 77);
		if (rig_get(&rig, VIRTIO_MMIO_QUEUE_NUM_MAX) != 0)
			return;
		rig_set(&rig, VIRTIO_MMIO_QUEUE_SEL, 0);
		if (rig_get(&rig, VIRTIO_MMIO_QUEUE_NUM_MAX) == 0)
			return;
		usleep(1000);
	}
	ck_abort_msg("the reset did not begin");
}

START_TEST(reset_in_mid_request_drains)
{
	pthread_t thread;

	atomic_store(&reset_done, false);
	begin_held_request();
	ck_assert_int_eq(pthread_create(&thread, NULL, resetter, NULL), 0);
	wait_for_standstill();
	/* The reset waits; other vCPUs read the old state and change nothing. */
	ck_assert(!atomic_load(&reset_done));
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_STATUS), 0xf);
	rig_set(&rig, VIRTIO_MMIO_QUEUE_SEL, 77);
	sem_post(&go);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_STATUS), 0);
	/* Dropped: no status, nothing used, no interrupt. */
	ck_assert_uint_eq(rig.memory->bytes[RIG_STATUS], 0xee);
	ck_assert_uint_eq(rig.memory->bytes[RIG_USED + 2], 0);
	ck_assert(!atomic_load(&rig.level));
	rig.memory->on_map = NULL;
	rig_start(&rig, VERSION_1, 8);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(queue_not_ready_in_mid_request)
{
	begin_held_request();
	sem_post(&go);
	rig_set(&rig, VIRTIO_MMIO_QUEUE_READY, 0);
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_QUEUE_READY), 0);
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_STATUS), 0xf);
	/* Not again without a reset. */
	rig_queue(&rig, 8);
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_QUEUE_READY), 0);
	rig_notify(&rig);
}
END_TEST

static void *stopper(void *arg)
{
	(void)arg;
	bus_stop(rig.bus);
	return NULL;
}

START_TEST(stop_in_mid_request)
{
	pthread_t thread, reset_thread;

	begin_held_request();
	ck_assert_int_eq(pthread_create(&reset_thread, NULL, resetter, NULL), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, stopper, NULL), 0);
	/* A vCPU that waits for its reset does not wait for the request. */
	ck_assert_int_eq(pthread_join(reset_thread, NULL), 0);
	sem_post(&go);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_uint_eq(rig.memory->bytes[RIG_USED + 2], 0);
	/* Nothing starts after. */
	rig.memory->on_map = NULL;
	rig_set(&rig, VIRTIO_MMIO_STATUS, 0);
	rig_start(&rig, VERSION_1, 8);
	rig_notify(&rig);
	bus_stop(rig.bus);
}
END_TEST

START_TEST(memory_going_away)
{
	ck_assert(rig_negotiate(&rig, VERSION_1));
	rig_queue(&rig, 8);
	rig_offer(&rig, 0);
	rig.memory->failing = (struct fake_range){0, RIG_MEMORY};
	rig.memory->failing_with = -ESHUTDOWN;
	rig_set(&rig, VIRTIO_MMIO_STATUS, 0xf);
	ck_assert(rig_wait_idle());
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_STATUS), 0xf);
	ck_assert_ptr_null(device_broken(rig.dev));
}
END_TEST

Suite *virtio_reset_suite(void)
{
	Suite *suite = suite_create("virtio reset");
	TCase *tc = tcase_create("virtio reset");

	tcase_set_timeout(tc, 20);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, reset_in_mid_request_drains);
	tcase_add_test(tc, queue_not_ready_in_mid_request);
	tcase_add_test(tc, stop_in_mid_request);
	tcase_add_test(tc, memory_going_away);
	suite_add_tcase(suite, tc);
	return suite;
}
