/* The transport: registers, negotiation, the status machine, interrupts. */
#include <dirent.h>
#include <linux/virtio_ids.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
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

static uint64_t offered(void)
{
	uint64_t features;

	rig_set(&rig, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	features = (uint64_t)rig_get(&rig, VIRTIO_MMIO_DEVICE_FEATURES) << 32;
	rig_set(&rig, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	return features | rig_get(&rig, VIRTIO_MMIO_DEVICE_FEATURES);
}

START_TEST(identity)
{
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_VERSION), 2);
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_BLOCK);
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_QUEUE_NUM_MAX), 256);
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_STATUS), 0);
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_SHM_LEN_LOW), UINT32_MAX);
	ck_assert_uint_eq(offered() & (VERSION_1 | INDIRECT | EVENT_IDX),
			  VERSION_1 | INDIRECT | EVENT_IDX);
	rig_set(&rig, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_DEVICE_FEATURES), 0);
	/* Queues that are not there. */
	rig_set(&rig, VIRTIO_MMIO_QUEUE_SEL, 1);
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
	rig_set(&rig, VIRTIO_MMIO_QUEUE_SEL, UINT32_MAX);
	rig_set(&rig, VIRTIO_MMIO_QUEUE_NUM, 8);
	rig_set(&rig, VIRTIO_MMIO_QUEUE_READY, 1);
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_QUEUE_READY), 0);
	rig_set(&rig, VIRTIO_MMIO_QUEUE_NOTIFY, UINT32_MAX);
}
END_TEST

START_TEST(register_widths)
{
	uint64_t wide = 0;
	uint16_t half = 1;

	ck_assert(bus_read(rig.bus, RIG_BASE, &half, 2));
	ck_assert_uint_eq(half, 0);
	ck_assert(bus_read(rig.bus, RIG_BASE, &wide, 8));
	ck_assert_uint_eq(wide, 0);
	ck_assert(bus_read(rig.bus, RIG_BASE + 2, &wide, 4));
	ck_assert_uint_eq(wide, 0);
	wide = 1;
	ck_assert(bus_write(rig.bus, RIG_BASE + VIRTIO_MMIO_STATUS, &wide, 8));
	ck_assert(bus_write(rig.bus, RIG_BASE + VIRTIO_MMIO_STATUS, &wide, 1));
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_STATUS), 0);
}
END_TEST

START_TEST(config_space)
{
	uint64_t value = 0;
	uint8_t byte;

	ck_assert(bus_read(rig.bus, RIG_BASE + VIRTIO_MMIO_CONFIG, &value, 8));
	ck_assert_uint_eq(value, (1 << 20) / 512);
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_CONFIG), (1 << 20) / 512);
	ck_assert(bus_read(rig.bus, RIG_BASE + VIRTIO_MMIO_CONFIG + 1, &byte, 1));
	ck_assert_uint_eq(byte, 8);
	/* Across the end and past it: zeroes. Writes do nothing. */
	ck_assert(bus_read(rig.bus, RIG_BASE + FOAL_VIRTIO_MMIO_SIZE - 8, &value, 8));
	ck_assert_uint_eq(value, 0);
	ck_assert(bus_write(rig.bus, RIG_BASE + VIRTIO_MMIO_CONFIG, &value, 8));
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_CONFIG), (1 << 20) / 512);
}
END_TEST

START_TEST(features_never_offered)
{
	uint64_t all = offered();

	ck_assert(rig_negotiate(&rig, all));
	ck_assert(!rig_negotiate(&rig, all & ~VERSION_1));
	for (unsigned bit = 0; bit < 64; bit++)
		if (!(all >> bit & 1))
			ck_assert(!rig_negotiate(&rig, all | 1ULL << bit));
	/* Without FEATURES_OK there is no DRIVER_OK and no queue. */
	rig_queue(&rig, 8);
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_QUEUE_READY), 0);
	rig_set(&rig, VIRTIO_MMIO_STATUS, 7);
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_STATUS), 3);
	/* Settled features stay so. */
	ck_assert(rig_negotiate(&rig, VERSION_1));
	rig_set(&rig, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	rig_set(&rig, VIRTIO_MMIO_DRIVER_FEATURES, UINT32_MAX);
	rig_queue(&rig, 8);
	rig_set(&rig, VIRTIO_MMIO_STATUS, 0xf);
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_STATUS), 0xf);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(queue_set_up_wrong)
{
	static const struct {
		uint32_t reg, value;
	} wrong[] = {
	    {VIRTIO_MMIO_QUEUE_NUM, 0},
	    {VIRTIO_MMIO_QUEUE_NUM, 3},
	    {VIRTIO_MMIO_QUEUE_NUM, 512},
	    {VIRTIO_MMIO_QUEUE_NUM, UINT32_MAX},
	    {VIRTIO_MMIO_QUEUE_DESC_LOW, RIG_DESC + 8},
	    {VIRTIO_MMIO_QUEUE_AVAIL_LOW, RIG_AVAIL + 1},
	    {VIRTIO_MMIO_QUEUE_USED_LOW, RIG_USED + 2},
	    {VIRTIO_MMIO_QUEUE_DESC_HIGH, UINT32_MAX},
	};

	for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		ck_assert(rig_negotiate(&rig, VERSION_1));
		ck_assert_ptr_null(device_broken(rig.dev));
		rig_queue(&rig, 8);
		rig_set(&rig, VIRTIO_MMIO_QUEUE_READY, 0);
		/* Gone with QUEUE_READY: all is set up anew. */
		rig_set(&rig, VIRTIO_MMIO_QUEUE_NUM, 8);
		rig_set(&rig, VIRTIO_MMIO_QUEUE_DESC_LOW, RIG_DESC);
		rig_set(&rig, VIRTIO_MMIO_QUEUE_AVAIL_LOW, RIG_AVAIL);
		rig_set(&rig, VIRTIO_MMIO_QUEUE_USED_LOW, RIG_USED);
		rig_set(&rig, wrong[i].reg, wrong[i].value);
		rig_set(&rig, VIRTIO_MMIO_QUEUE_READY, 1);
		ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_QUEUE_READY), 0);
		ck_assert_ptr_nonnull(device_broken(rig.dev));
		ck_assert(!atomic_load(&rig.level));
		rig_set(&rig, VIRTIO_MMIO_STATUS, 0xf);
		ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_STATUS), 0x4f);
		ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_INTERRUPT_STATUS),
				  VIRTIO_MMIO_INT_CONFIG);
		ck_assert(atomic_load(&rig.level));
	}
	rig_start(&rig, VERSION_1, 8);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(interrupt_line_follows_status)
{
	rig_start(&rig, VERSION_1, 8);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
	ck_assert(rig_wait(&rig.level, true));
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	ck_assert_uint_eq(atomic_load(&rig.rises), 1);
	/* Not acknowledged, and yet the next one reaches an edge-triggered pin. */
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 60000 && atomic_load(&rig.rises) < 2; i++)
		usleep(1000);
	ck_assert_uint_eq(atomic_load(&rig.rises), 2);
	rig_set(&rig, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
	ck_assert(atomic_load(&rig.level));
	rig_set(&rig, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
	ck_assert(!atomic_load(&rig.level));
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}
END_TEST

START_TEST(broken_until_reset)
{
	rig_start(&rig, VERSION_1, 8);
	rig_offer(&rig, 200); /* no such descriptor */
	rig_notify(&rig);
	ck_assert(rig_wait_broken(&rig));
	ck_assert_ptr_nonnull(device_broken(rig.dev));
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	ck_assert(atomic_load(&rig.level));
	/* Adding or clearing bits does not mend it. */
	rig_set(&rig, VIRTIO_MMIO_STATUS, 0xf);
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_STATUS), 0x4f);
	rig_set(&rig, VIRTIO_MMIO_STATUS, 0);
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_STATUS), 0);
	ck_assert(!atomic_load(&rig.level));
	ck_assert_ptr_null(device_broken(rig.dev));
	rig_start(&rig, VERSION_1, 8);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
}
END_TEST

/* Does the thread whose /proc status is @path block @signal? -1: its name is not @name. */
static int status_blocks(const char *path, const char *name, int signal)
{
	FILE *status = fopen(path, "re");
	char line[256], is[32] = "";
	int blocks = -1;

	while (status && fgets(line, sizeof(line), status)) {
		unsigned long mask;

		sscanf(line, "Name: %31s", is);
		if (!strncmp(is, name, strlen(name)) && sscanf(line, "SigBlk: %lx", &mask) == 1)
			blocks = (mask >> (signal - 1) & 1) != 0;
	}
	if (status)
		fclose(status);
	return blocks;
}

static int thread_blocks(const char *name, int signal)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *entry;
	char path[300];
	int blocks = -1;

	while (blocks < 0 && (entry = readdir(tasks))) {
		snprintf(path, sizeof(path), "/proc/self/task/%s/status", entry->d_name);
		blocks = status_blocks(path, name, signal);
	}
	closedir(tasks);
	return blocks;
}

/* A crash in any thread has to reach the handler that puts the terminal back. */
START_TEST(worker_takes_crash_signals_alone)
{
	rig_start(&rig, VERSION_1, 8);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
	ck_assert_int_eq(thread_blocks("foal-blk", SIGTERM), 1);
	ck_assert_int_eq(thread_blocks("foal-blk", SIGSEGV), 0);
	ck_assert_int_eq(thread_blocks("foal-blk", SIGBUS), 0);
}
END_TEST

Suite *virtio_suite(void)
{
	Suite *suite = suite_create("virtio");
	TCase *tc = tcase_create("virtio");

	tcase_set_timeout(tc, 20);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, identity);
	tcase_add_test(tc, register_widths);
	tcase_add_test(tc, config_space);
	tcase_add_test(tc, features_never_offered);
	tcase_add_test(tc, queue_set_up_wrong);
	tcase_add_test(tc, interrupt_line_follows_status);
	tcase_add_test(tc, broken_until_reset);
	tcase_add_test(tc, worker_takes_crash_signals_alone);
	suite_add_tcase(suite, tc);
	return suite;
}
