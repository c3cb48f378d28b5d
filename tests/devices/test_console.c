/* virtio-console: typed in, written out, and a reader of the output that is slow. */
#include <fcntl.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tests/devices/rig.h"

#define RECEIVE	 0
#define TRANSMIT 1

/* What the output takes before somebody reads. */
#define PIPE	 4096

static struct rig rig;
static int out[2];

/* What the host was told of, by the worker. */
static char followed[32768];
static size_t followed_len;

static void follow(void *ctx, const void *data, size_t len)
{
	(void)ctx;
	ck_assert_uint_le(len, sizeof(followed) - followed_len);
	memcpy(followed + followed_len, data, len);
	followed_len += len;
}

static void set_up(void)
{
	struct device *dev;

	rig_init(&rig);
	rig.host.console = follow;
	followed_len = 0;
	ck_assert_int_eq(pipe2(out, O_NONBLOCK), 0);
	ck_assert_int_eq(fcntl(out[1], F_SETPIPE_SZ, PIPE), PIPE);
	ck_assert_int_eq(virtio_console_create(&rig.host, RIG_PIN, out[1], 80, 25, &dev), 0);
	rig_attach(&rig, dev);
}

static void tear_down(void)
{
	rig_fini(&rig);
	close(out[0]);
	if (out[1] >= 0)
		close(out[1]);
}

/* Queue @index alone. */
static void start(unsigned index)
{
	ck_assert(rig_negotiate(&rig, VERSION_1));
	rig_select(&rig, index);
	rig_queue(&rig, 8);
	rig_set(&rig, VIRTIO_MMIO_STATUS, 0xf);
}

static void offer(uint64_t gpa, uint32_t len, uint16_t flags)
{
	rig_desc(&rig, 0, gpa, len, flags, 0);
	rig_offer(&rig, 0);
	rig_notify(&rig);
}

/* Read @len bytes of output, however they come. */
static void hear(char *to, size_t len)
{
	for (unsigned i = 0; i < 600000 && len > 0; i++) {
		ssize_t n = read(out[0], to, len);
		if (n > 0) {
			to += n;
			len -= (size_t)n;
		} else {
			usleep(100);
		}
	}
	ck_assert_uint_eq(len, 0);
}

START_TEST(announces_its_size)
{
	uint16_t size[2];

	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_CONSOLE);
	ck_assert(bus_read(rig.bus, RIG_BASE + VIRTIO_MMIO_CONFIG, size, 4));
	ck_assert_uint_eq(size[0], 80);
	ck_assert_uint_eq(size[1], 25);
	ck_assert(rig_negotiate(&rig, VERSION_1 | 1ULL << VIRTIO_CONSOLE_F_SIZE));
	ck_assert(!rig_negotiate(&rig, VERSION_1 | 1ULL << VIRTIO_CONSOLE_F_MULTIPORT));
}
END_TEST

START_TEST(writes)
{
	struct vring_used_elem elem;
	char text[32];

	start(TRANSMIT);
	memcpy(rig.memory->bytes + RIG_DATA, "hello, world", 12);
	offer(RIG_DATA, 12, 0);
	ck_assert(rig_wait_used(&rig, &elem));
	ck_assert_uint_eq(elem.len, 0);
	hear(text, 12);
	ck_assert_mem_eq(text, "hello, world", 12);
	ck_assert(rig_wait(&rig.level, true));
}
END_TEST

/* More than the pipe takes: the rest when it is read, and nothing twice. */
START_TEST(waits_for_its_reader)
{
	static char text[20000];
	struct vring_used_elem elem;

	start(TRANSMIT);
	for (unsigned i = 0; i < sizeof(text); i++)
		rig.memory->bytes[RIG_DATA + i] = (uint8_t)(i % 251);
	offer(RIG_DATA, sizeof(text), 0);
	ck_assert(rig_wait_bytes(out[0], FIONREAD, PIPE));
	ck_assert_uint_eq(rig_used_idx(&rig), 0);
	hear(text, sizeof(text));
	for (unsigned i = 0; i < sizeof(text); i++)
		ck_assert_uint_eq((uint8_t)text[i], i % 251);
	ck_assert(rig_wait_used(&rig, &elem));
	/* Who follows hears each byte once, too. */
	ck_assert_uint_eq(followed_len, sizeof(text));
	ck_assert_mem_eq(followed, text, sizeof(text));
}
END_TEST

/* Nobody reads: a reset and a stop do not wait. */
START_TEST(reset_and_stop_while_it_waits)
{
	char text[PIPE];

	start(TRANSMIT);
	offer(RIG_DATA, 20000, 0);
	ck_assert(rig_wait_bytes(out[0], FIONREAD, PIPE));
	start(TRANSMIT);
	hear(text, PIPE);
	offer(RIG_DATA, 20000, 0);
	ck_assert(rig_wait_bytes(out[0], FIONREAD, PIPE));
	bus_stop(rig.bus);
}
END_TEST

START_TEST(reader_that_is_gone)
{
	struct vring_used_elem elem;

	signal(SIGPIPE, SIG_IGN);
	close(out[0]);
	start(TRANSMIT);
	offer(RIG_DATA, 100, 0);
	ck_assert(rig_wait_used(&rig, &elem));
	ck_assert_ptr_null(device_broken(rig.dev));
	out[0] = dup(out[1]);
}
END_TEST

START_TEST(output_outside_of_memory)
{
	start(TRANSMIT);
	offer(RIG_OUTSIDE, 100, 0);
	ck_assert(rig_wait_broken(&rig));
	ck_assert_str_eq(device_broken(rig.dev), "a console's output lies outside of guest memory");
}
END_TEST

/* Held, it does not look at what comes, from whichever side. */
START_TEST(held)
{
	struct vring_used_elem elem;

	start(RECEIVE);
	ck_assert_ptr_null(bus_hold(rig.bus, UINT64_MAX / 2));
	offer(RIG_DATA, 100, VRING_DESC_F_WRITE);
	ck_assert_uint_eq(virtio_console_input(rig.dev, "abc", 3), 3);
	ck_assert(rig_wait_idle());
	ck_assert_uint_eq(rig_used_idx(&rig), 0);
	bus_release(rig.bus);
	ck_assert(rig_wait_used(&rig, &elem));
	ck_assert_uint_eq(elem.len, 3);
}
END_TEST

/* What is typed before the guest looks is kept, and so is what its buffer had no room for. */
START_TEST(typed)
{
	struct vring_used_elem elem;

	ck_assert_uint_eq(virtio_console_input(rig.dev, "abc", 3), 3);
	start(RECEIVE);
	offer(RIG_DATA, 2, VRING_DESC_F_WRITE);
	ck_assert(rig_wait_used(&rig, &elem));
	ck_assert_uint_eq(elem.len, 2);
	ck_assert_mem_eq(rig.memory->bytes + RIG_DATA, "ab", 2);
	offer(RIG_DATA, 100, VRING_DESC_F_WRITE);
	ck_assert(rig_wait_used(&rig, &elem));
	ck_assert_uint_eq(elem.len, 1);
	ck_assert_mem_eq(rig.memory->bytes + RIG_DATA, "c", 1);
	/* Now a buffer waits for the text. */
	offer(RIG_DATA, 100, VRING_DESC_F_WRITE);
	ck_assert(rig_wait_idle());
	ck_assert_uint_eq(virtio_console_input(rig.dev, "d", 1), 1);
	ck_assert(rig_wait_used(&rig, &elem));
	ck_assert_mem_eq(rig.memory->bytes + RIG_DATA, "d", 1);
}
END_TEST

START_TEST(typed_for_nobody)
{
	static char text[3000];

	ck_assert_uint_eq(virtio_console_input(rig.dev, text, sizeof(text)), 3000);
	ck_assert_uint_eq(virtio_console_input(rig.dev, text, sizeof(text)), 1096);
	ck_assert_uint_eq(virtio_console_input(rig.dev, text, sizeof(text)), 0);
}
END_TEST

START_TEST(receive_buffer_without_room)
{
	ck_assert_uint_eq(virtio_console_input(rig.dev, "abc", 3), 3);
	start(RECEIVE);
	offer(RIG_DATA, 2, 0);
	ck_assert(rig_wait_broken(&rig));
	ck_assert_str_eq(device_broken(rig.dev), "a console's receive buffer has no room");
}
END_TEST

Suite *console_suite(void)
{
	Suite *suite = suite_create("virtio-console");
	TCase *tc = tcase_create("virtio-console");

	tcase_set_timeout(tc, 20);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, announces_its_size);
	tcase_add_test(tc, writes);
	tcase_add_test(tc, waits_for_its_reader);
	tcase_add_test(tc, reset_and_stop_while_it_waits);
	tcase_add_test(tc, reader_that_is_gone);
	tcase_add_test(tc, output_outside_of_memory);
	tcase_add_test(tc, typed);
	tcase_add_test(tc, typed_for_nobody);
	tcase_add_test(tc, held);
	tcase_add_test(tc, receive_buffer_without_room);
	suite_add_tcase(suite, tc);
	return suite;
}
