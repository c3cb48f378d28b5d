/*
 * What the state machine and the worker offer to a type, seen from a type of
 * the test's own: queue service, descriptors to wait for, configuration.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/virtio.h"
#include "tests/devices/rig.h"

/* Each chain on queue 0 takes a count from @source; as a receive queue takes packets. */
static struct probe {
	struct virtio_device vdev;
	int source;
	const char *refuse; /* what activate() returns */
	atomic_uint rounds, activations, resets;
	atomic_bool starved; /* data, and no buffer for it */
} probe;

static struct rig rig;
static int doorbell_fd;
static uint64_t doorbell_addr;
static atomic_uint threads;
static char thread_kind[16];

static int probe_queue(struct virtio_device *vdev, unsigned index)
{
	struct virtqueue *vq = &vdev->queues[index];
	uint32_t value;
	eventfd_t count;
	int rc = 0;

	atomic_fetch_add(&probe.rounds, 1);
	while (rc == 0 && eventfd_read(probe.source, &count) == 0) {
		struct vq_cursor to;

		rc = vq_pop(vq, &vdev->chain);
		atomic_store(&probe.starved, rc == 0);
		if (rc <= 0)
			return rc ? rc : vq_arm(vq);
		to = vq_writable(&vdev->chain);
		value = (uint32_t)count;
		rc = vq_copy_in(vq, &to, &value, sizeof(value));
		if (rc == 0)
			rc = vq_push(vq, &vdev->chain, sizeof(value));
		if (rc == 0)
			rc = virtio_signal_used(vdev, vq);
	}
	return rc;
}

static unsigned probe_poll(struct virtio_device *vdev, struct pollfd *fds)
{
	(void)vdev;
	if (atomic_load(&probe.starved))
		return 0;
	fds[0] = (struct pollfd){.fd = probe.source, .events = POLLIN};
	return 1;
}

static const char *probe_activate(struct virtio_device *vdev)
{
	(void)vdev;
	atomic_fetch_add(&probe.activations, 1);
	return probe.refuse;
}

static void probe_reset(struct virtio_device *vdev)
{
	(void)vdev;
	atomic_fetch_add(&probe.resets, 1);
	atomic_store(&probe.starved, false);
}

static void probe_config_write(struct virtio_device *vdev, unsigned offset, unsigned len,
			       uint64_t value)
{
	memcpy(vdev->config + offset, &value, len);
}

static const struct virtio_type probe_type = {
    .id = 63,
    .label = "probe",
    .nr_queues = 1,
    .serve_queue = probe_queue,
    .poll = probe_poll,
    .activate = probe_activate,
    .reset = probe_reset,
    .config_write = probe_config_write,
};

static void probe_destroy(struct device *dev)
{
	virtio_fini(virtio_of(dev));
}

static const struct device_ops probe_ops = {
    .kind = "probe",
    VIRTIO_DEVICE_OPS,
    .destroy = probe_destroy,
};

static int host_doorbell(void *ctx, uint64_t addr, int fd, bool on)
{
	(void)ctx;
	ck_assert(on);
	doorbell_addr = addr;
	doorbell_fd = fd;
	return 0;
}

static void host_thread_begins(void *ctx, const char *kind)
{
	(void)ctx;
	snprintf(thread_kind, sizeof(thread_kind), "%s", kind);
	atomic_fetch_add(&threads, 1);
}

static void set_up(void)
{
	static const uint8_t config[6] = {1, 2, 3, 4, 5, 6};

	memset(&probe, 0, sizeof(probe));
	probe.source = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	atomic_store(&threads, 0);
	rig_init(&rig);
	rig.host.doorbell = host_doorbell;
	rig.host.thread_begins = host_thread_begins;
	ck_assert_int_eq(virtio_init(&probe.vdev, &probe_ops, &rig.host, &probe_type, RIG_PIN, 0,
				     config, sizeof(config)),
			 0);
	rig_attach(&rig, &probe.vdev.dev);
}

static void tear_down(void)
{
	rig_fini(&rig);
	close(probe.source);
}

static bool wait_for(atomic_uint *what, unsigned value)
{
	for (unsigned i = 0; i < 600000 && atomic_load(what) < value; i++)
		usleep(100);
	return atomic_load(what) == value;
}

static void offer_word(uint16_t head)
{
	rig_desc(&rig, head, RIG_DATA + 4UL * head, 4, VRING_DESC_F_WRITE, 0);
	rig_offer(&rig, head);
}

START_TEST(thread_is_there_from_the_start)
{
	ck_assert(wait_for(&threads, 1));
	ck_assert_str_eq(thread_kind, "probe");
	rig_start(&rig, VERSION_1, 8);
	rig_set(&rig, VIRTIO_MMIO_STATUS, 0);
	rig_start(&rig, VERSION_1, 8);
	bus_stop(rig.bus);
	ck_assert_uint_eq(atomic_load(&threads), 1);
}
END_TEST

START_TEST(doorbell_reaches_the_worker)
{
	struct vring_used_elem elem;

	ck_assert_uint_eq(doorbell_addr, RIG_BASE + VIRTIO_MMIO_QUEUE_NOTIFY);
	rig_start(&rig, VERSION_1, 8);
	ck_assert(wait_for(&probe.rounds, 1));
	offer_word(3);
	ck_assert_int_eq(eventfd_write(probe.source, 1), 0);
	/* As KVM does it, in place of the register. */
	ck_assert_int_eq(eventfd_write(doorbell_fd, 1), 0);
	ck_assert(rig_wait_used(&rig, &elem));
	ck_assert_uint_eq(elem.id, 3);
}
END_TEST

START_TEST(data_wakes_the_worker)
{
	struct vring_used_elem elem;

	rig_start(&rig, VERSION_1, 8);
	ck_assert(wait_for(&probe.rounds, 1));
	offer_word(0);
	ck_assert_int_eq(eventfd_write(probe.source, 7), 0);
	ck_assert(rig_wait_used(&rig, &elem));
	ck_assert_uint_eq(rig.memory->bytes[RIG_DATA], 7);
	ck_assert(rig_wait(&rig.level, true));
}
END_TEST

/* Data that no buffer waits for is no reason to spin. */
START_TEST(starved_queue_sleeps)
{
	unsigned rounds;

	rig_start(&rig, VERSION_1, 8);
	ck_assert(wait_for(&probe.rounds, 1));
	ck_assert_int_eq(eventfd_write(probe.source, 1), 0);
	ck_assert(rig_wait(&probe.starved, true));
	ck_assert_int_eq(eventfd_write(probe.source, 1), 0);
	rounds = atomic_load(&probe.rounds);
	ck_assert(rig_wait_idle());
	ck_assert_uint_eq(atomic_load(&probe.rounds), rounds);
}
END_TEST

/* Before DRIVER_OK and after a reset no data is looked at. */
START_TEST(data_waits_for_the_driver)
{
	struct vring_used_elem elem;

	ck_assert_int_eq(eventfd_write(probe.source, 1), 0);
	rig_start(&rig, VERSION_1, 8);
	ck_assert(wait_for(&probe.rounds, 1));
	ck_assert_uint_eq(atomic_load(&probe.resets), 1);
	rig_set(&rig, VIRTIO_MMIO_STATUS, 0);
	ck_assert_uint_eq(atomic_load(&probe.resets), 2);
	ck_assert_int_eq(eventfd_write(probe.source, 5), 0);
	ck_assert(rig_wait_idle());
	ck_assert_uint_eq(atomic_load(&probe.rounds), 1);
	ck_assert(rig_negotiate(&rig, VERSION_1));
	rig_queue(&rig, 8);
	offer_word(1);
	rig_set(&rig, VIRTIO_MMIO_STATUS, 0xf);
	ck_assert(rig_wait_used(&rig, &elem));
	ck_assert_uint_eq(rig.memory->bytes[RIG_DATA + 4], 5);
	ck_assert_uint_eq(atomic_load(&probe.activations), 2);
}
END_TEST

START_TEST(refused_activation_breaks_the_device)
{
	probe.refuse = "it may not";
	rig_start(&rig, VERSION_1, 8);
	ck_assert_str_eq(device_broken(rig.dev), "it may not");
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_STATUS), 0x4f);
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	rig_notify(&rig);
	ck_assert(rig_wait_idle());
	ck_assert_uint_eq(atomic_load(&probe.rounds), 0);
	probe.refuse = NULL;
	rig_start(&rig, VERSION_1, 8);
	ck_assert(wait_for(&probe.rounds, 1));
}
END_TEST

START_TEST(configuration_is_written_inside_alone)
{
	uint64_t value = 0x1122334455667788;
	uint16_t half = 0xaabb;

	ck_assert(bus_write(rig.bus, RIG_BASE + VIRTIO_MMIO_CONFIG, &value, 8));
	ck_assert(bus_write(rig.bus, RIG_BASE + VIRTIO_MMIO_CONFIG + 5, &half, 2));
	ck_assert(bus_write(rig.bus, RIG_BASE + VIRTIO_MMIO_CONFIG + 6, &half, 1));
	ck_assert(bus_read(rig.bus, RIG_BASE + VIRTIO_MMIO_CONFIG, &value, 8));
	ck_assert_uint_eq(value, 0x060504030201);
	ck_assert(bus_write(rig.bus, RIG_BASE + VIRTIO_MMIO_CONFIG + 4, &half, 2));
	ck_assert(bus_read(rig.bus, RIG_BASE + VIRTIO_MMIO_CONFIG, &value, 8));
	ck_assert_uint_eq(value, 0xaabb04030201);
}
END_TEST

START_TEST(changed_configuration_is_told)
{
	uint32_t generation = rig_get(&rig, VIRTIO_MMIO_CONFIG_GENERATION);

	/* Nobody to tell yet. */
	pthread_mutex_lock(&probe.vdev.lock);
	virtio_config_changed(&probe.vdev);
	pthread_mutex_unlock(&probe.vdev.lock);
	ck_assert(!atomic_load(&rig.level));
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_CONFIG_GENERATION), generation + 1);
	rig_start(&rig, VERSION_1, 8);
	pthread_mutex_lock(&probe.vdev.lock);
	virtio_config_changed(&probe.vdev);
	pthread_mutex_unlock(&probe.vdev.lock);
	ck_assert(atomic_load(&rig.level));
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_CONFIG_GENERATION), generation + 2);
}
END_TEST

Suite *virtio_type_suite(void)
{
	Suite *suite = suite_create("virtio-type");
	TCase *tc = tcase_create("virtio-type");

	tcase_set_timeout(tc, 20);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, thread_is_there_from_the_start);
	tcase_add_test(tc, doorbell_reaches_the_worker);
	tcase_add_test(tc, data_wakes_the_worker);
	tcase_add_test(tc, starved_queue_sleeps);
	tcase_add_test(tc, data_waits_for_the_driver);
	tcase_add_test(tc, refused_activation_breaks_the_device);
	tcase_add_test(tc, configuration_is_written_inside_alone);
	tcase_add_test(tc, changed_configuration_is_told);
	suite_add_tcase(suite, tc);
	return suite;
}
