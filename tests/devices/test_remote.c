/* Disks behind a companion, sound or hostile. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/devices/remote_rig.h"
#include "tests/devices/rig.h"

START_TEST(moves_data)
{
	ck_assert_int_eq(remote_open(true), 0);
	ck_assert(atomic_load(&remote.writable_asked));
	ck_assert_uint_eq(remote.backend->size, REMOTE_SIZE);
	/* More than the window holds, and not in its units. */
	ck_assert_int_eq(remote_read(512, (2 << 20) + 1024), 0);
	remote_expect(512, (2 << 20) + 1024);
	ck_assert_uint_eq(atomic_load(&remote.requests), 3);
	memset(remote_buffer, 0x77, sizeof(remote_buffer));
	ck_assert_int_eq(remote_write(4096, (1 << 20) + 512), 0);
	ck_assert_uint_eq(remote_byte(4095), 7);
	remote_expect(4096, (1 << 20) + 512);
	ck_assert_uint_eq(remote_byte(4096 + (1 << 20) + 512), 9);
	ck_assert_int_eq(remote.backend->ops->zero(remote.backend, 0, 4096, true), 0);
	ck_assert_uint_eq(remote_byte(0) | remote_byte(4095), 0);
	ck_assert_int_eq(remote.backend->ops->discard(remote.backend, 8192, 512), 0);
	ck_assert_uint_eq(remote_byte(8192), 0xdd);
	ck_assert_int_eq(remote.backend->ops->flush(remote.backend), 0);
	ck_assert_uint_eq(atomic_load(&remote.flushes), 1);
}
END_TEST

/* An error of one request is that request's alone. */
START_TEST(errors_are_passed_on)
{
	ck_assert_int_eq(remote_open(true), 0);
	atomic_store(&remote.twist, SAY_ENOSPC);
	ck_assert_int_eq(remote_write(0, 1024), -ENOSPC);
	/* They have a meaning of their own on this side. */
	atomic_store(&remote.twist, SAY_CANCELED);
	ck_assert_int_eq(remote_write(0, 1024), -EIO);
	atomic_store(&remote.twist, SAY_ESHUTDOWN);
	ck_assert_int_eq(remote_write(0, 1024), -EIO);
	ck_assert_int_eq(remote_read(0, 512), 0);
}
END_TEST

/* One that cannot be understood is not asked again. */
START_TEST(hostile_answers)
{
	static const enum twist twists[] = {WRONG_TAG,	WRONG_MAGIC,	POSITIVE_ERROR,
					    HUGE_ERROR, HALF_AN_ANSWER, LEAVE};

	ck_assert_int_eq(remote_open(true), 0);
	atomic_store(&remote.twist, (int)twists[_i]);
	ck_assert_int_eq(remote_read(0, 512), -EIO);
	ck_assert_int_eq(remote_read(0, 512), -EIO);
	ck_assert_int_eq(remote.backend->ops->flush(remote.backend), -EIO);
	ck_assert_uint_eq(atomic_load(&remote.requests), 1);
}
END_TEST

static void *cancel_soon(void *arg)
{
	(void)arg;
	while (!atomic_load(&remote.held))
		usleep(1000);
	atomic_store(&remote.cancel, true);
	return NULL;
}

static void ask_and_cancel(bool flush)
{
	pthread_t thread;

	atomic_store(&remote.twist, HOLD);
	atomic_store(&remote.release, false);
	ck_assert_int_eq(pthread_create(&thread, NULL, cancel_soon, NULL), 0);
	ck_assert_int_eq(flush ? remote.backend->ops->flush(remote.backend) : remote_read(0, 512),
			 -ECANCELED);
	pthread_join(thread, NULL);
	/* Still held: the next waits, and is cancelled as well. */
	ck_assert_int_eq(remote_read(0, 512), -ECANCELED);
	atomic_store(&remote.cancel, false);
	atomic_store(&remote.release, true);
}

/* The window is the companion's until the late answer has come. */
START_TEST(cancelled)
{
	ck_assert_int_eq(remote_open(true), 0);
	remote.backend->cancel = &remote.cancel;
	ask_and_cancel(false);
	memset(remote_buffer, 0x55, 1024);
	ck_assert_int_eq(remote_write(0, 1024), 0);
	remote_expect(0, 1024);
	ck_assert_int_eq(remote_read(1024, 512), 0);
	ck_assert_uint_eq(remote_buffer[0], 2);
}
END_TEST

/* A flush that failed when nobody listened any more. */
START_TEST(late_failed_flush)
{
	ck_assert_int_eq(remote_open(true), 0);
	remote.backend->cancel = &remote.cancel;
	ask_and_cancel(true);
	ck_assert_int_eq(remote_read(0, 512), -EIO);
	ck_assert_int_eq(remote.backend->ops->flush(remote.backend), -EIO);
}
END_TEST

/* --- hello ------------------------------------------------------------------------------- */

START_TEST(refused)
{
	remote.hello.error = -ECONNREFUSED;
	memset(remote.hello.text, 'x', sizeof(remote.hello.text));
	remote.hello.text[1] = '\n';
	remote.hello.text[2] = '\33';
	ck_assert_int_eq(remote_open(false), -ECONNREFUSED);
	ck_assert_uint_eq(strlen(remote.text), sizeof(remote.hello.text));
	ck_assert_mem_eq(remote.text, "x??xx", 5);
}
END_TEST

START_TEST(other_version)
{
	remote.hello.version++;
	ck_assert_int_eq(remote_open(false), -EPROTO);
	ck_assert_str_eq(remote.text, "foal-nbd is of another version than foal");
}
END_TEST

START_TEST(read_only_server)
{
	remote.hello.read_only = 1;
	ck_assert_int_eq(remote_open(true), -EROFS);
	ck_assert_str_eq(remote.text, "its server allows only reading; use mode=ro or mode=cow");
}
END_TEST

START_TEST(sizes_of_no_disk)
{
	static const uint64_t sizes[] = {0, 511, 513, UINT64_MAX, 1UL << 63};
	struct disk *disk;

	remote.hello.size = sizes[_i];
	ck_assert_int_eq(remote_open(false), 0);
	ck_assert_int_eq(disk_open_on(remote.backend, DISK_COW, &disk), -EINVAL);
}
END_TEST

/* --- through a device ------------------------------------------------------------------------ */

START_TEST(not_writable)
{
	struct rig rig;
	struct device *dev;

	ck_assert_int_eq(remote_open(false), 0);
	rig_init(&rig);
	ck_assert_int_eq(
	    virtio_blk_create_on(&rig.host, RIG_PIN, remote.backend, "x", DISK_SHARED, &dev),
	    -EROFS);
	remote.backend = NULL;
	rig_fini(&rig);
}
END_TEST

/* The overlay takes what is written; the server is only read. */
START_TEST(through_a_device)
{
	struct rig rig;
	struct device *dev;

	ck_assert_int_eq(remote_open(false), 0);
	rig_init(&rig);
	ck_assert_int_eq(
	    virtio_blk_create_on(&rig.host, RIG_PIN, remote.backend, "x", DISK_COW, &dev), 0);
	remote.backend = NULL;
	rig_attach(&rig, dev);
	rig_start(&rig, VERSION_1, 8);
	memset(rig.memory->bytes + RIG_DATA, 0x99, 1024);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_OUT, 1, 1024), VIRTIO_BLK_S_OK);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_IN, 0, 4096), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(rig.memory->bytes[RIG_DATA + 511], 0);
	ck_assert_uint_eq(rig.memory->bytes[RIG_DATA + 512], 0x99);
	ck_assert_uint_eq(rig.memory->bytes[RIG_DATA + 1536], 3);
	ck_assert_uint_eq(remote_byte(512), 1);
	ck_assert_uint_eq(atomic_load(&remote.flushes), 0);
	/* A server that hangs does not hang the end of the run. */
	atomic_store(&remote.twist, HOLD);
	rig_request_begin(&rig, VIRTIO_BLK_T_IN, 100, 512);
	ck_assert(rig_wait(&remote.held, true));
	rig_fini(&rig);
	ck_assert(atomic_load(&remote.held));
}
END_TEST

static void *drain(void *socket)
{
	char bytes[4096];

	while (recv(*(const int *)socket, bytes, sizeof(bytes), 0) > 0)
		;
	return NULL;
}

/* Many are forked at once: one that is asked for more than fits is waited for. */
START_TEST(shared_with_many)
{
	int ends[2];
	pthread_t companion;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	ck_assert_int_eq(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
	while (send(ends[0], "x", 1, 0) == 1)
		;
	ck_assert_int_eq(pthread_create(&companion, NULL, drain, &ends[1]), 0);
	ck_assert_int_eq(disk_remote_share(ends[0], ends[0]), 0);
	shutdown(ends[0], SHUT_WR);
	pthread_join(companion, NULL);
	close(ends[1]);
	ck_assert_int_eq(disk_remote_share(ends[0], ends[0]), -EPIPE);
	close(ends[0]);
}
END_TEST

Suite *remote_suite(void)
{
	Suite *suite = suite_create("remote disk");
	TCase *tc = tcase_create("remote disk");

	tcase_set_timeout(tc, 30);
	tcase_add_checked_fixture(tc, remote_set_up, remote_tear_down);
	tcase_add_test(tc, moves_data);
	tcase_add_test(tc, errors_are_passed_on);
	tcase_add_loop_test(tc, hostile_answers, 0, 6);
	tcase_add_test(tc, cancelled);
	tcase_add_test(tc, late_failed_flush);
	tcase_add_test(tc, refused);
	tcase_add_test(tc, other_version);
	tcase_add_test(tc, read_only_server);
	tcase_add_loop_test(tc, sizes_of_no_disk, 0, 5);
	tcase_add_test(tc, not_writable);
	tcase_add_test(tc, through_a_device);
	tcase_add_test(tc, shared_with_many);
	suite_add_tcase(suite, tc);
	return suite;
}
