/*
 * foal-nbd: the companion that serves one disk of a VM from an NBD server. A
 * program of its own, because libnbd brings shared libraries that foal, which
 * has to start in no time, does without.
 *
 *   foal-nbd uri URI       a server that runs already
 *   foal-nbd unix PATH     the same, by its socket
 *   foal-nbd qcow2 FILE    qemu-nbd, started here for this file alone
 *
 * Descriptor 3 is the socket to foal (devices/nbd/protocol.h). It ends when
 * foal closes that, when foal dies, or when the server no longer answers.
 *
 * A third argument, of one that another has started, says which file that one opened: a copy of a
 * VM must not go on with another.
 */
#include <errno.h>
#include <fcntl.h>
#include <libnbd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/fd_passing.h"
#include "devices/nbd/protocol.h"

#define FOAL_FD 3

struct companion {
	struct nbd_handle *nbd;
	uint8_t *window;
	uint64_t size;
	bool writable;
	bool can_flush, can_trim, can_zero;
	const char *fault; /* it was opened, but cannot be served */
};

/* Which file it is, and that nobody has touched it: stat(2)'s, as text. */
#define STAMP_SIZE 128

static char stamp[STAMP_SIZE]; /* of the image; empty: nobody can tell */

/* What the alarm says, made before: a handler must not format. */
static char gave_up[NBD_TEXT_BYTES];

static void give_up(int signal_nr)
{
	(void)signal_nr;
	if (write(STDERR_FILENO, gave_up, strlen(gave_up)) < 0)
		_exit(2);
	_exit(1);
}

/*
 * All of a record, or false: foal closed the socket, or sent a part and stopped. *@fd came with it,
 * -1: none.
 */
static bool receive(void *record, size_t len, int *fd)
{
	if (fd_recv(FOAL_FD, record, len, MSG_WAITALL, fd) == (ssize_t)len)
		return true;
	if (*fd >= 0)
		close(*fd);
	return false;
}

static bool answer(const void *record, size_t len)
{
	return send(FOAL_FD, record, len, MSG_NOSIGNAL) == (ssize_t)len;
}

/* --- another for the same disk ----------------------------------------------------------- */

static const char *own_argv[5];

static bool talk_to(int fd)
{
	return dup2(fd, STDOUT_FILENO) == STDOUT_FILENO && dup2(fd, STDERR_FILENO) == STDERR_FILENO;
}

/*
 * This program once more, for another VM, whose log it is told. That it cannot be is seen by
 * whoever has the other end of @fd.
 */
static void become_another(int fd)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (dup2(fd, FOAL_FD) != FOAL_FD || null < 0 || !talk_to(null))
		_exit(1);
	/* The window, the server's socket, what libnbd has open. */
	syscall(SYS_close_range, FOAL_FD + 1, ~0U, 4 /* CLOSE_RANGE_CLOEXEC */);
	execv("/proc/self/exe", (char *const *)own_argv);
	_exit(1);
}

/* Nobody's child, since it may outlive this one. @fd is closed. */
static void start_another(int fd)
{
	pid_t pid = fork();

	if (pid == 0) {
		if (fork() == 0)
			become_another(fd);
		_exit(0);
	}
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	close(fd);
}

/* --- starting -------------------------------------------------------------------------- */

/* The setup and the window that comes with it. 0 or a negative errno. */
static int take_setup(struct companion *c)
{
	struct nbd_setup setup = {0};
	struct stat st;
	int fd;

	for (;;) {
		if (!receive(&setup, sizeof(setup), &fd) || fd < 0 || setup.magic != NBD_MAGIC ||
		    setup.version != NBD_VERSION || setup.op > NBD_SETUP_LOG)
			return -EPROTO;
		if (setup.op == NBD_SETUP_WINDOW)
			break;
		if (setup.op == NBD_SETUP_SHARE)
			start_another(fd);
		else if (!talk_to(fd) || close(fd))
			return -EIO;
	}
	if (setup.window_bytes != NBD_WINDOW_BYTES || fstat(fd, &st) ||
	    st.st_size != NBD_WINDOW_BYTES)
		return -EPROTO;
	c->window = mmap(NULL, NBD_WINDOW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	c->writable = setup.writable;
	return c->window == MAP_FAILED ? -errno : 0;
}

/* By socket activation, so that nothing of it has a name that others could use. */
static int connect_qcow2(struct companion *c, const char *file)
{
	const char *argv[] = {"qemu-nbd",
			      "--format=qcow2",
			      "--cache=writeback",
			      "--discard=unmap",
			      c->writable ? "--shared=1" : "--read-only",
			      "--",
			      file,
			      NULL};

	return nbd_connect_systemd_socket_activation(c->nbd, (char **)argv);
}

static int connect_server(struct companion *c, const char *how, const char *what)
{
	if (strcmp(how, "qcow2") == 0)
		return connect_qcow2(c, what);
	if (strcmp(how, "unix") == 0)
		return nbd_connect_unix(c->nbd, what);
	return nbd_connect_uri(c->nbd, what);
}

static void look_at(const char *file, char out[STAMP_SIZE])
{
	struct stat st;

	if (stat(file, &st))
		out[0] = 0;
	else
		snprintf(out, STAMP_SIZE, "%llx:%llx:%llx:%lld.%ld:%lld.%ld",
			 (unsigned long long)st.st_dev, (unsigned long long)st.st_ino,
			 (unsigned long long)st.st_size, (long long)st.st_mtim.tv_sec,
			 st.st_mtim.tv_nsec, (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
}

/* qemu-nbd opens it by name: before and after, that has to be the file that @stamp is of. */
static int open_same(struct companion *c, const char *how, const char *what)
{
	char seen[STAMP_SIZE];
	bool same = true;

	look_at(what, seen);
	if (stamp[0])
		same = strcmp(stamp, seen) == 0;
	else
		memcpy(stamp, seen, sizeof(stamp));
	if (same && connect_server(c, how, what))
		return -1;
	look_at(what, seen);
	if (same && strcmp(stamp, seen) == 0)
		return 0;
	c->fault = "it was replaced or changed after the VM had opened it, so no copy of the VM "
		   "can have it";
	return -1;
}

static int open_disk(struct companion *c, const char *how, const char *what)
{
	bool file = strcmp(how, "qcow2") == 0 && !c->writable;
	int64_t size;

	c->nbd = nbd_create();
	if (!c->nbd || (file ? open_same(c, how, what) : connect_server(c, how, what)))
		return -1;
	size = nbd_get_size(c->nbd);
	if (size < 0)
		return -1;
	c->size = (uint64_t)size;
	if (nbd_is_read_only(c->nbd) != 0)
		c->writable = false;
	c->can_flush = nbd_can_flush(c->nbd) > 0;
	c->can_trim = nbd_can_trim(c->nbd) > 0;
	c->can_zero = nbd_can_zero(c->nbd) > 0;
	return 0;
}

/* libnbd's number and words for what went wrong last. */
static int last_error(void)
{
	int error = nbd_get_errno();

	return error > 0 ? -error : -EIO;
}

static bool say_hello(const struct companion *c, int rc)
{
	struct nbd_hello hello = {
	    .magic = NBD_MAGIC, .version = NBD_VERSION, .size = c->size, .read_only = !c->writable};

	if (rc) {
		const char *text = c->fault ? c->fault : nbd_get_error();

		hello.error = c->fault ? -ESTALE : last_error();
		snprintf(hello.text, sizeof(hello.text), "%s",
			 text ? text : strerror(-hello.error));
	}
	return answer(&hello, sizeof(hello));
}

/* --- serving ----------------------------------------------------------------------------- */

static bool request_sound(const struct companion *c, const struct nbd_request *rq)
{
	bool data = rq->op == NBD_READ || rq->op == NBD_WRITE;

	return rq->op < NBD_NR_OPS && rq->offset <= c->size && rq->len <= c->size - rq->offset &&
	       (!data || rq->len <= NBD_WINDOW_BYTES);
}

/* For servers that cannot, or whose limit is smaller than the range. */
static int write_zeroes(struct companion *c, uint64_t offset, uint64_t len)
{
	memset(c->window, 0, NBD_WINDOW_BYTES);
	while (len > 0) {
		uint64_t n = len < NBD_WINDOW_BYTES ? len : NBD_WINDOW_BYTES;

		if (nbd_pwrite(c->nbd, c->window, n, offset, 0))
			return -1;
		offset += n;
		len -= n;
	}
	return 0;
}

static int zero(struct companion *c, const struct nbd_request *rq)
{
	uint32_t flags = rq->op == NBD_ZERO ? LIBNBD_CMD_FLAG_NO_HOLE : 0;

	if (c->can_zero && nbd_zero(c->nbd, rq->len, rq->offset, flags) == 0)
		return 0;
	return write_zeroes(c, rq->offset, rq->len);
}

/* 0, or -1 with libnbd's error set. */
static int serve(struct companion *c, const struct nbd_request *rq)
{
	switch ((enum nbd_op)rq->op) {
	case NBD_READ:
		return nbd_pread(c->nbd, c->window, rq->len, rq->offset, 0);
	case NBD_WRITE:
		return nbd_pwrite(c->nbd, c->window, rq->len, rq->offset, 0);
	case NBD_FLUSH:
		return c->can_flush ? nbd_flush(c->nbd, 0) : 0;
	case NBD_DISCARD: /* promises nothing */
		if (c->can_trim)
			(void)nbd_trim(c->nbd, rq->len, rq->offset, 0);
		return 0;
	case NBD_ZERO:
	case NBD_ZERO_UNMAP:
		return zero(c, rq);
	case NBD_SHARE:
	case NBD_NR_OPS:
		break;
	}
	return -1;
}

static int serve_checked(struct companion *c, const struct nbd_request *rq)
{
	int rc = 0;

	if (!request_sound(c, rq))
		return -EINVAL;
	if (!c->writable && rq->op != NBD_READ && rq->op != NBD_FLUSH)
		return -EROFS;
	alarm(NBD_SERVER_SECONDS);
	if (rq->op == NBD_FLUSH || rq->len > 0)
		rc = serve(c, rq) ? last_error() : 0;
	alarm(0);
	return rc;
}

/* Until foal closes the socket, or either side can no longer be understood. */
static void serve_all(struct companion *c)
{
	struct nbd_request rq;
	int fd;

	while (receive(&rq, sizeof(rq), &fd) && rq.magic == NBD_MAGIC) {
		if (rq.op == NBD_SHARE && fd >= 0 && !c->writable) {
			start_another(fd);
			continue;
		}
		if (fd >= 0)
			close(fd);
		struct nbd_answer out = {
		    .magic = NBD_MAGIC, .error = serve_checked(c, &rq), .tag = rq.tag};

		/* Without its server it is of no use: foal says so once it has ended. */
		if (!answer(&out, sizeof(out)) || nbd_aio_is_dead(c->nbd) > 0)
			return;
	}
}

static bool known(const char *how)
{
	return strcmp(how, "uri") == 0 || strcmp(how, "unix") == 0 || strcmp(how, "qcow2") == 0;
}

int main(int argc, char **argv)
{
	struct companion c = {0};
	int rc;

	if ((argc != 3 && argc != 4) || !known(argv[1])) {
		fprintf(stderr, "foal-nbd: a part of foal, not to be started by hand\n");
		return 2;
	}
	for (int i = 0; i < 3; i++)
		own_argv[i] = argv[i];
	snprintf(stamp, sizeof(stamp), "%s", argc > 3 ? argv[3] : "");
	own_argv[3] = stamp;
	snprintf(gave_up, sizeof(gave_up), "foal-nbd: %.120s: no answer for %d s\n", argv[2],
		 NBD_SERVER_SECONDS);
	signal(SIGALRM, give_up);
	if (take_setup(&c))
		return 2;
	alarm(NBD_SERVER_SECONDS);
	rc = open_disk(&c, argv[1], argv[2]);
	alarm(0);
	if (say_hello(&c, rc) && rc == 0) {
		serve_all(&c);
		/* What the guest did not flush may be lost, but need not be. */
		alarm(NBD_SERVER_SECONDS);
		if (c.writable && c.can_flush)
			(void)nbd_flush(c.nbd, 0);
		(void)nbd_shutdown(c.nbd, 0);
	}
	nbd_close(c.nbd);
	return rc ? 1 : 0;
}
