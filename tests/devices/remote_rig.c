#include "tests/devices/remote_rig.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/fd_passing.h"

struct remote_rig remote;
uint8_t remote_buffer[3 << 20];

static pthread_t thread; /* the companion */
static bool running;
static uint8_t *window;
static atomic_uint turns;

/*
 * The socket orders what the two threads do to the bytes; through a duplicate of
 * it the thread sanitizer does not see that.
 */
static void take_turn(void)
{
	atomic_fetch_add(&turns, 1);
}

static void take_setup(void)
{
	struct nbd_setup setup = {0};
	int fd;

	if (fd_recv(remote.socket[1], &setup, sizeof(setup), MSG_WAITALL, &fd) != sizeof(setup) ||
	    fd < 0)
		return;
	atomic_store(&remote.writable_asked, setup.writable);
	/* Nobody can pull it away from under the other. */
	if (ftruncate(fd, 0) == 0 || ftruncate(fd, 2 * NBD_WINDOW_BYTES) == 0)
		abort();
	window = mmap(NULL, NBD_WINDOW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
}

static int serve(const struct nbd_request *rq)
{
	atomic_fetch_add(&remote.requests, 1);
	if (rq->op == NBD_FLUSH) {
		atomic_fetch_add(&remote.flushes, 1);
		return 0;
	}
	if (rq->offset > REMOTE_SIZE || rq->len > REMOTE_SIZE - rq->offset)
		return -EINVAL;
	if (rq->op == NBD_READ)
		memcpy(window, remote.bytes + rq->offset, rq->len);
	else if (rq->op == NBD_WRITE)
		memcpy(remote.bytes + rq->offset, window, rq->len);
	else
		memset(remote.bytes + rq->offset, rq->op == NBD_DISCARD ? 0xdd : 0, rq->len);
	return 0;
}

static void hold(void)
{
	atomic_store(&remote.held, true);
	while (!atomic_load(&remote.release))
		usleep(1000);
	atomic_store(&remote.held, false);
	/* What a late answer's data would do to a request that did not wait. */
	memset(window, 0xee, NBD_WINDOW_BYTES);
}

static void *companion(void *arg)
{
	struct nbd_request rq;
	int fd = remote.socket[1];

	(void)arg;
	take_setup();
	if (send(fd, &remote.hello, sizeof(remote.hello), MSG_NOSIGNAL) < 0)
		return NULL;
	while (recv(fd, &rq, sizeof(rq), MSG_WAITALL) == sizeof(rq)) {
		struct nbd_answer answer = {.magic = NBD_MAGIC, .tag = rq.tag};
		int twist = atomic_exchange(&remote.twist, SERVE);
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

int remote_open(bool writable)
{
	ck_assert_int_eq(pthread_create(&thread, NULL, companion, NULL), 0);
	running = true;
	return disk_remote_open(remote.socket[0], writable, &remote.backend, remote.text);
}

void remote_set_up(void)
{
	memset(&remote, 0, sizeof(remote));
	running = false;
	window = NULL;
	remote.hello =
	    (struct nbd_hello){.magic = NBD_MAGIC, .version = NBD_VERSION, .size = REMOTE_SIZE};
	remote.bytes = malloc(REMOTE_SIZE);
	for (size_t i = 0; i < REMOTE_SIZE; i++)
		remote.bytes[i] = (uint8_t)(i / 512);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, remote.socket), 0);
	fcntl(remote.socket[0], F_SETFL, O_NONBLOCK);
}

void remote_tear_down(void)
{
	atomic_store(&remote.release, true);
	disk_backend_close(remote.backend);
	close(remote.socket[0]);
	if (running)
		pthread_join(thread, NULL);
	close(remote.socket[1]);
	if (window)
		munmap(window, NBD_WINDOW_BYTES);
	free(remote.bytes);
}

int remote_read(uint64_t offset, uint64_t len)
{
	struct iovec iov[2] = {{remote_buffer, len / 2}, {remote_buffer + len / 2, len - len / 2}};
	struct iov_cursor cursor = {iov, 2};

	return remote.backend->ops->read(remote.backend, &cursor, len, offset);
}

int remote_write(uint64_t offset, uint64_t len)
{
	struct iovec iov[2] = {{remote_buffer, 512}, {remote_buffer + 512, len - 512}};
	struct iov_cursor cursor = {iov, 2};

	return remote.backend->ops->write(remote.backend, &cursor, len, offset);
}

void remote_expect(uint64_t offset, uint64_t len)
{
	take_turn();
	ck_assert_mem_eq(remote.bytes + offset, remote_buffer, len);
	take_turn();
}

uint8_t remote_byte(uint64_t offset)
{
	uint8_t byte;

	take_turn();
	byte = remote.bytes[offset];
	take_turn();
	return byte;
}
