/*
 * Disks behind a companion: a fake one, sound or hostile, on the other end of
 * the socket; and foal-nbd itself with qemu-nbd, where both are there.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/disk.h"
#include "devices/disk_backend.h"
#include "devices/nbd/protocol.h"
#include "tests/devices/rig.h"

#define SIZE (8UL << 20)

/* What the fake companion does with a request, other than to serve it. */
enum twist {
	SERVE,
	WRONG_TAG,
	WRONG_MAGIC,
	POSITIVE_ERROR,
	HUGE_ERROR,
	SAY_CANCELED,
	SAY_ESHUTDOWN,
	SAY_ENOSPC,
	HALF_AN_ANSWER,
	LEAVE,
	HOLD, /* no answer until released */
};

static struct {
	int socket[2];
	pthread_t thread;
	struct nbd_hello hello;
	atomic_int twist;
	atomic_bool held, release;
	atomic_uint requests, flushes;
	uint8_t *bytes; /* the companion's while a request is under way */
	atomic_bool writable_asked;
	atomic_uint turns;
	uint8_t *window;
} fake;

static struct disk_backend *backend;
static char text[DISK_TEXT];
static atomic_bool cancel;

/*
 * The socket orders what the two threads do to the bytes; through a duplicate of
 * it the thread sanitizer does not see that.
 */
static void take_turn(void)
{
	atomic_fetch_add(&fake.turns, 1);
}

static void take_setup(void)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct nbd_setup setup;
	struct iovec iov = {&setup, sizeof(setup)};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	const void *data;
	int fd;

	if (recvmsg(fake.socket[1], &msg, MSG_WAITALL) != sizeof(setup))
		return;
	data = CMSG_FIRSTHDR(&msg) ? CMSG_DATA(CMSG_FIRSTHDR(&msg)) : NULL;
	if (!data)
		return;
	memcpy(&fd, data, sizeof(fd));
	atomic_store(&fake.writable_asked, setup.writable);
	/* Nobody can pull it away from under the other. */
	if (ftruncate(fd, 0) == 0 || ftruncate(fd, 2 * NBD_WINDOW_BYTES) == 0)
		abort();
	fake.window = mmap(NULL, NBD_WINDOW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
}

static int serve(const struct nbd_request *rq)
{
	atomic_fetch_add(&fake.requests, 1);
	if (rq->op == NBD_FLUSH) {
		atomic_fetch_add(&fake.flushes, 1);
		return 0;
	}
	if (rq->offset > SIZE || rq->len > SIZE - rq->offset)
		return -EINVAL;
	if (rq->op == NBD_READ)
		memcpy(fake.window, fake.bytes + rq->offset, rq->len);
	else if (rq->op == NBD_WRITE)
		memcpy(fake.bytes + rq->offset, fake.window, rq->len);
	else
		memset(fake.bytes + rq->offset, rq->op == NBD_DISCARD ? 0xdd : 0, rq->len);
	return 0;
}

static void hold(void)
{
	atomic_store(&fake.held, true);
	while (!atomic_load(&fake.release))
		usleep(1000);
	atomic_store(&fake.held, false);
	/* What a late answer's data would do to a request that did not wait. */
	memset(fake.window, 0xee, NBD_WINDOW_BYTES);
}

static void *companion(void *arg)
{
	struct nbd_request rq;
	int fd = fake.socket[1];

	(void)arg;
	take_setup();
	if (send(fd, &fake.hello, sizeof(fake.hello), MSG_NOSIGNAL) < 0)
		return NULL;
	while (recv(fd, &rq, sizeof(rq), MSG_WAITALL) == sizeof(rq)) {
		struct nbd_answer answer = {.magic = NBD_MAGIC, .tag = rq.tag};
		int twist = atomic_exchange(&fake.twist, SERVE);
		size_t len = sizeof(answer);

		take_turn();
		answer.error = serve(&rq);
		take_turn();
		answer.tag += twist == WRONG_TAG;
		answer.magic += twist == WRONG_MAGIC;
		if (twist == POSITIVE_ERROR)
			answer.error = 5;
		if (twist == HUGE_ERROR)
			answer.error = -5000;
		if (twist == SAY_CANCELED)
			answer.error = -ECANCELED;
		if (twist == SAY_ESHUTDOWN)
			answer.error = -ESHUTDOWN;
		if (twist == SAY_ENOSPC)
			answer.error = -ENOSPC;
		if (twist == HALF_AN_ANSWER)
			len = 7;
		if (twist == HOLD) {
			hold();
			answer.error = rq.op == NBD_FLUSH ? -EIO : 0;
		}
		if (twist == LEAVE || send(fd, &answer, len, MSG_NOSIGNAL) < 0 ||
		    twist == HALF_AN_ANSWER)
			break;
	}
	shutdown(fd, SHUT_RDWR);
	return NULL;
}

static int open_remote(bool writable)
{
	ck_assert_int_eq(pthread_create(&fake.thread, NULL, companion, NULL), 0);
	return disk_remote_open(fake.socket[0], writable, &backend, text);
}

static void set_up(void)
{
	memset(&fake, 0, sizeof(fake));
	fake.hello = (struct nbd_hello){.magic = NBD_MAGIC, .version = NBD_VERSION, .size = SIZE};
	fake.bytes = malloc(SIZE);
	for (size_t i = 0; i < SIZE; i++)
		fake.bytes[i] = (uint8_t)(i / 512);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fake.socket), 0);
	fcntl(fake.socket[0], F_SETFL, O_NONBLOCK);
	backend = NULL;
	atomic_store(&cancel, false);
}

static void tear_down(void)
{
	atomic_store(&fake.release, true);
	disk_backend_close(backend);
	close(fake.socket[0]);
	pthread_join(fake.thread, NULL);
	close(fake.socket[1]);
	if (fake.window)
		munmap(fake.window, NBD_WINDOW_BYTES);
	free(fake.bytes);
}

/* --- requests ------------------------------------------------------------------------- */

static uint8_t buffer[3 << 20];

static int read_at(uint64_t offset, uint64_t len)
{
	struct iovec iov[2] = {{buffer, len / 2}, {buffer + len / 2, len - len / 2}};
	struct iov_cursor cursor = {iov, 2};

	return backend->ops->read(backend, &cursor, len, offset);
}

static int write_at(uint64_t offset, uint64_t len)
{
	struct iovec iov[2] = {{buffer, 512}, {buffer + 512, len - 512}};
	struct iov_cursor cursor = {iov, 2};

	return backend->ops->write(backend, &cursor, len, offset);
}

static void expect_bytes(uint64_t offset, uint64_t len)
{
	take_turn();
	ck_assert_mem_eq(fake.bytes + offset, buffer, len);
	take_turn();
}

static uint8_t byte_at(uint64_t offset)
{
	uint8_t byte;

	take_turn();
	byte = fake.bytes[offset];
	take_turn();
	return byte;
}

START_TEST(moves_data)
{
	ck_assert_int_eq(open_remote(true), 0);
	ck_assert(atomic_load(&fake.writable_asked));
	ck_assert_uint_eq(backend->size, SIZE);
	/* More than the window holds, and not in its units. */
	ck_assert_int_eq(read_at(512, (2 << 20) + 1024), 0);
	expect_bytes(512, (2 << 20) + 1024);
	ck_assert_uint_eq(atomic_load(&fake.requests), 3);
	memset(buffer, 0x77, sizeof(buffer));
	ck_assert_int_eq(write_at(4096, (1 << 20) + 512), 0);
	ck_assert_uint_eq(byte_at(4095), 7);
	expect_bytes(4096, (1 << 20) + 512);
	ck_assert_uint_eq(byte_at(4096 + (1 << 20) + 512), 9);
	ck_assert_int_eq(backend->ops->zero(backend, 0, 4096, true), 0);
	ck_assert_uint_eq(byte_at(0) | byte_at(4095), 0);
	ck_assert_int_eq(backend->ops->discard(backend, 8192, 512), 0);
	ck_assert_uint_eq(byte_at(8192), 0xdd);
	ck_assert_int_eq(backend->ops->flush(backend), 0);
	ck_assert_uint_eq(atomic_load(&fake.flushes), 1);
}
END_TEST

/* An error of one request is that request's alone. */
START_TEST(errors_are_passed_on)
{
	ck_assert_int_eq(open_remote(true), 0);
	atomic_store(&fake.twist, SAY_ENOSPC);
	ck_assert_int_eq(write_at(0, 1024), -ENOSPC);
	/* They have a meaning of their own on this side. */
	atomic_store(&fake.twist, SAY_CANCELED);
	ck_assert_int_eq(write_at(0, 1024), -EIO);
	atomic_store(&fake.twist, SAY_ESHUTDOWN);
	ck_assert_int_eq(write_at(0, 1024), -EIO);
	ck_assert_int_eq(read_at(0, 512), 0);
}
END_TEST

/* One that cannot be understood is not asked again. */
START_TEST(hostile_answers)
{
	static const enum twist twists[] = {WRONG_TAG,	WRONG_MAGIC,	POSITIVE_ERROR,
					    HUGE_ERROR, HALF_AN_ANSWER, LEAVE};

	ck_assert_int_eq(open_remote(true), 0);
	atomic_store(&fake.twist, (int)twists[_i]);
	ck_assert_int_eq(read_at(0, 512), -EIO);
	ck_assert_int_eq(read_at(0, 512), -EIO);
	ck_assert_int_eq(backend->ops->flush(backend), -EIO);
	ck_assert_uint_eq(atomic_load(&fake.requests), 1);
}
END_TEST

static void *cancel_soon(void *arg)
{
	(void)arg;
	while (!atomic_load(&fake.held))
		usleep(1000);
	atomic_store(&cancel, true);
	return NULL;
}

static void ask_and_cancel(bool flush)
{
	pthread_t thread;

	atomic_store(&fake.twist, HOLD);
	atomic_store(&fake.release, false);
	ck_assert_int_eq(pthread_create(&thread, NULL, cancel_soon, NULL), 0);
	ck_assert_int_eq(flush ? backend->ops->flush(backend) : read_at(0, 512), -ECANCELED);
	pthread_join(thread, NULL);
	/* Still held: the next waits, and is cancelled as well. */
	ck_assert_int_eq(read_at(0, 512), -ECANCELED);
	atomic_store(&cancel, false);
	atomic_store(&fake.release, true);
}

/* The window is the companion's until the late answer has come. */
START_TEST(cancelled)
{
	ck_assert_int_eq(open_remote(true), 0);
	backend->cancel = &cancel;
	ask_and_cancel(false);
	memset(buffer, 0x55, 1024);
	ck_assert_int_eq(write_at(0, 1024), 0);
	expect_bytes(0, 1024);
	ck_assert_int_eq(read_at(1024, 512), 0);
	ck_assert_uint_eq(buffer[0], 2);
}
END_TEST

/* A flush that failed when nobody listened any more. */
START_TEST(late_failed_flush)
{
	ck_assert_int_eq(open_remote(true), 0);
	backend->cancel = &cancel;
	ask_and_cancel(true);
	ck_assert_int_eq(read_at(0, 512), -EIO);
	ck_assert_int_eq(backend->ops->flush(backend), -EIO);
}
END_TEST

/* --- hello ------------------------------------------------------------------------------- */

START_TEST(refused)
{
	fake.hello.error = -ECONNREFUSED;
	memset(fake.hello.text, 'x', sizeof(fake.hello.text));
	fake.hello.text[1] = '\n';
	fake.hello.text[2] = '\33';
	ck_assert_int_eq(open_remote(false), -ECONNREFUSED);
	ck_assert_uint_eq(strlen(text), sizeof(fake.hello.text));
	ck_assert_mem_eq(text, "x??xx", 5);
}
END_TEST

START_TEST(other_version)
{
	fake.hello.version++;
	ck_assert_int_eq(open_remote(false), -EPROTO);
	ck_assert_str_eq(text, "foal-nbd is of another version than foal");
}
END_TEST

START_TEST(read_only_server)
{
	fake.hello.read_only = 1;
	ck_assert_int_eq(open_remote(true), -EROFS);
	ck_assert_str_eq(text, "its server allows only reading; use mode=ro or mode=cow");
}
END_TEST

START_TEST(sizes_of_no_disk)
{
	static const uint64_t sizes[] = {0, 511, 513, UINT64_MAX, 1UL << 63};
	struct disk *disk;

	fake.hello.size = sizes[_i];
	ck_assert_int_eq(open_remote(false), 0);
	ck_assert_int_eq(disk_open_on(backend, DISK_COW, &disk), -EINVAL);
}
END_TEST

/* --- through a device ------------------------------------------------------------------------ */

START_TEST(not_writable)
{
	struct rig rig;
	struct device *dev;

	ck_assert_int_eq(open_remote(false), 0);
	rig_init(&rig);
	ck_assert_int_eq(virtio_blk_create_on(&rig.host, RIG_PIN, backend, "x", DISK_SHARED, &dev),
			 -EROFS);
	backend = NULL;
	rig_fini(&rig);
}
END_TEST

/* The overlay takes what is written; the server is only read. */
START_TEST(through_a_device)
{
	struct rig rig;
	struct device *dev;

	ck_assert_int_eq(open_remote(false), 0);
	rig_init(&rig);
	ck_assert_int_eq(virtio_blk_create_on(&rig.host, RIG_PIN, backend, "x", DISK_COW, &dev), 0);
	backend = NULL;
	rig_attach(&rig, dev);
	rig_start(&rig, VERSION_1, 8);
	memset(rig.memory->bytes + RIG_DATA, 0x99, 1024);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_OUT, 1, 1024), VIRTIO_BLK_S_OK);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_IN, 0, 4096), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(rig.memory->bytes[RIG_DATA + 511], 0);
	ck_assert_uint_eq(rig.memory->bytes[RIG_DATA + 512], 0x99);
	ck_assert_uint_eq(rig.memory->bytes[RIG_DATA + 1536], 3);
	ck_assert_uint_eq(byte_at(512), 1);
	ck_assert_uint_eq(atomic_load(&fake.flushes), 0);
	/* A server that hangs does not hang the end of the run. */
	atomic_store(&fake.twist, HOLD);
	rig_desc(&rig, 0, RIG_HEADER, 16, VRING_DESC_F_NEXT, 1);
	rig_desc(&rig, 1, RIG_DATA, 512, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2);
	rig_desc(&rig, 2, RIG_STATUS, 1, VRING_DESC_F_WRITE, 0);
	memset(rig.memory->bytes + RIG_HEADER, 0, 16);
	rig.memory->bytes[RIG_HEADER + 8] = 100;
	rig_offer(&rig, 0);
	rig_notify(&rig);
	ck_assert(rig_wait(&fake.held, true));
	rig_fini(&rig);
	ck_assert(atomic_load(&fake.held));
}
END_TEST

/* --- the real companion ------------------------------------------------------------------------
 */

/* It is built beside the directory that this program is in. */
static bool find_companion(char *path, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", path, size - sizeof("/foal-nbd"));
	char *slash;

	path[n > 0 ? n : 0] = '\0';
	for (unsigned i = 0; i < 2; i++) {
		slash = strrchr(path, '/');
		if (!slash)
			return false;
		*slash = '\0';
	}
	memcpy(slash, "/foal-nbd", sizeof("/foal-nbd"));
	return access(path, X_OK) == 0;
}

static pid_t start(const char *companion, const char *how, const char *what)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	if (dup2(fake.socket[1], 3) < 0)
		_exit(2);
	execl(companion, companion, how, what, NULL);
	_exit(2);
}

static int shell(const char *command)
{
	int status = system(command); /* NOLINT(cert-env33-c): of this file alone */

	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void set_up_real(void)
{
	set_up();
	/* For the fixture's end. */
	ck_assert_int_eq(pthread_create(&fake.thread, NULL, cancel_soon, NULL), 0);
	atomic_store(&fake.held, true);
}

START_TEST(qcow2)
{
	char dir[] = "/tmp/foal-nbd-XXXXXX", command[256], image[64], companion[256];
	int status;
	pid_t pid;

	if (!find_companion(companion, sizeof(companion)) ||
	    shell("command -v qemu-nbd qemu-img >/dev/null")) {
		fprintf(stderr, "skipped: no foal-nbd or no qemu-utils here\n");
		return;
	}
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(image, sizeof(image), "%s/disk.qcow2", dir);
	snprintf(command, sizeof(command), "qemu-img create -q -f qcow2 %s 8M", image);
	ck_assert_int_eq(shell(command), 0);
	pid = start(companion, "qcow2", image);
	ck_assert_int_eq(disk_remote_open(fake.socket[0], true, &backend, text), 0);
	ck_assert_uint_eq(backend->size, SIZE);
	ck_assert_int_eq(read_at(0, 1 << 20), 0);
	ck_assert_uint_eq(buffer[0], 0);
	memset(buffer, 0x42, 1 << 20);
	ck_assert_int_eq(write_at(1 << 20, 1 << 20), 0);
	ck_assert_int_eq(backend->ops->zero(backend, 1 << 20, 64 << 10, false), 0);
	ck_assert_int_eq(backend->ops->discard(backend, 3 << 19, 64 << 10), 0);
	ck_assert_int_eq(backend->ops->flush(backend), 0);
	ck_assert_int_eq(read_at((1 << 20) + (64 << 10), 512), 0);
	ck_assert_uint_eq(buffer[0], 0x42);
	ck_assert_int_eq(read_at(1 << 20, 512), 0);
	ck_assert_uint_eq(buffer[0], 0);
	disk_backend_close(backend);
	backend = NULL;
	close(fake.socket[0]);
	close(fake.socket[1]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	snprintf(command, sizeof(command),
		 "qemu-img check -q %s && qemu-img convert -O raw %s %s/raw && "
		 "test $(tr -d '\\0' <%s/raw | wc -c) = %d && rm -r %s",
		 image, image, dir, dir, (1 << 20) - (128 << 10), dir);
	ck_assert_int_eq(shell(command), 0);
}
END_TEST

Suite *remote_suite(void)
{
	Suite *suite = suite_create("remote disk");
	TCase *tc = tcase_create("remote disk");
	TCase *real = tcase_create("foal-nbd");

	tcase_set_timeout(tc, 30);
	tcase_add_checked_fixture(tc, set_up, tear_down);
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
	suite_add_tcase(suite, tc);
	tcase_set_timeout(real, 60);
	tcase_add_checked_fixture(real, set_up_real, tear_down);
	tcase_add_test(real, qcow2);
	suite_add_tcase(suite, real);
	return suite;
}
