/*
 * A disk behind the companion (devices/nbd/protocol.h): one request at a time,
 * its data in the window. The companion is not trusted: an answer that is not
 * the one that is due ends its service, and so does one that does not come.
 *
 * A wait may be cancelled, and the answer comes later then. Until it has, the
 * window is the companion's: the next request waits for it first.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "devices/disk.h"
#include "devices/disk_backend.h"
#include "devices/fd_passing.h"
#include "devices/nbd/protocol.h"

/* How soon a wait notices that it is cancelled. */
#define SLICE_MS 50
/* The companion gives up on its server before that, and says why. */
#define LIMIT_MS ((NBD_SERVER_SECONDS + 5) * 1000L)
/* How long one that starts others may take to make room for the next. */
#define SHARE_MS 5000

struct disk_remote {
	struct disk_backend backend;
	int socket, window;
	uint64_t tag;	  /* of the last request */
	enum nbd_op op;	  /* the same */
	bool due, failed; /* its answer has not come; none will */
};

static struct disk_remote *remote_of(struct disk_backend *backend)
{
	return (struct disk_remote *)(void *)backend;
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000L + ts.tv_nsec / 1000000;
}

/* Wait until the socket is ready for @events: 0, -ECANCELED or -ETIMEDOUT. */
static int wait_ready(struct disk_remote *remote, short events, int64_t until)
{
	const atomic_bool *cancel = remote->backend.cancel;

	for (;;) {
		struct pollfd fd = {.fd = remote->socket, .events = events};

		if (poll(&fd, 1, SLICE_MS) > 0)
			return 0;
		if (cancel && atomic_load_explicit(cancel, memory_order_relaxed))
			return -ECANCELED;
		if (now_ms() >= until)
			return -ETIMEDOUT;
	}
}

/* A whole record. -ECANCELED only before its first byte. */
static int receive(struct disk_remote *remote, void *record, size_t len)
{
	int64_t until = now_ms() + LIMIT_MS;
	size_t at = 0;

	while (at < len) {
		ssize_t n = read(remote->socket, (char *)record + at, len - at);
		int rc = 0;

		if (n == 0)
			return -EPIPE;
		if (n > 0)
			at += (size_t)n;
		else if (errno == EAGAIN)
			rc = wait_ready(remote, POLLIN, until);
		else if (errno != EINTR)
			return -errno;
		/* The rest follows at once, from whoever keeps to the protocol. */
		if (rc == -ECANCELED && at > 0)
			rc = -ETIMEDOUT;
		if (rc)
			return rc;
	}
	return 0;
}

static int fail(struct disk_remote *remote)
{
	remote->failed = true;
	return -EIO;
}

/* The answer that is due: 0 or the error it tells, or -ECANCELED: it stays due. */
static int take_answer(struct disk_remote *remote)
{
	struct nbd_answer answer;
	int rc = receive(remote, &answer, sizeof(answer));

	if (rc == -ECANCELED)
		return rc;
	if (rc || answer.magic != NBD_MAGIC || answer.tag != remote->tag || answer.error > 0 ||
	    answer.error < -4095)
		return fail(remote);
	remote->due = false;
	/* To the callers these say that the request is dropped; a server may say the second. */
	return answer.error == -ECANCELED || answer.error == -ESHUTDOWN ? -EIO : answer.error;
}

/* 0 once the window is ours. */
static int ready(struct disk_remote *remote)
{
	int rc = 0;

	if (remote->failed)
		return -EIO;
	if (remote->due)
		rc = take_answer(remote);
	/* A flush that failed unheard: no later one can make up for it. */
	if (rc && rc != -ECANCELED && remote->op == NBD_FLUSH)
		return fail(remote);
	if (remote->failed)
		return -EIO;
	return rc == -ECANCELED ? rc : 0;
}

/* A record is far smaller than a socket's buffer, and no two are under way. */
static int ask(struct disk_remote *remote, enum nbd_op op, uint64_t offset, uint64_t len)
{
	struct nbd_request rq = {
	    .magic = NBD_MAGIC, .op = op, .tag = ++remote->tag, .offset = offset, .len = len};

	if (write(remote->socket, &rq, sizeof(rq)) != sizeof(rq))
		return fail(remote);
	remote->op = op;
	remote->due = true;
	return take_answer(remote);
}

/* --- the backend's operations -------------------------------------------------------- */

static uint64_t piece(uint64_t len)
{
	return len < NBD_WINDOW_BYTES ? len : NBD_WINDOW_BYTES;
}

/*
 * Data goes through the window, filled before a write is asked for, emptied after
 * a read. It is a file here too: the host kernel copies, which only ever fails.
 */
static int move(struct disk_remote *remote, enum nbd_op op, struct iov_cursor *cursor, uint64_t len,
		uint64_t offset)
{
	while (len > 0) {
		uint64_t n = piece(len);
		int rc = ready(remote);

		if (rc == 0 && op == NBD_WRITE)
			rc = file_transfer(remote->window, TO_FILE, cursor, n, 0);
		if (rc == 0)
			rc = ask(remote, op, offset, n);
		if (rc == 0 && op == NBD_READ)
			rc = file_transfer(remote->window, FROM_FILE, cursor, n, 0);
		if (rc)
			return rc;
		offset += n;
		len -= n;
	}
	return 0;
}

static int remote_read(struct disk_backend *backend, struct iov_cursor *cursor, uint64_t len,
		       uint64_t offset)
{
	return move(remote_of(backend), NBD_READ, cursor, len, offset);
}

static int remote_write(struct disk_backend *backend, struct iov_cursor *cursor, uint64_t len,
			uint64_t offset)
{
	return move(remote_of(backend), NBD_WRITE, cursor, len, offset);
}

static int simple(struct disk_backend *backend, enum nbd_op op, uint64_t offset, uint64_t len)
{
	struct disk_remote *remote = remote_of(backend);
	int rc = ready(remote);

	return rc ? rc : ask(remote, op, offset, len);
}

static int remote_flush(struct disk_backend *backend)
{
	return simple(backend, NBD_FLUSH, 0, 0);
}

static int remote_zero(struct disk_backend *backend, uint64_t offset, uint64_t len, bool unmap)
{
	return simple(backend, unmap ? NBD_ZERO_UNMAP : NBD_ZERO, offset, len);
}

static int remote_discard(struct disk_backend *backend, uint64_t offset, uint64_t len)
{
	return simple(backend, NBD_DISCARD, offset, len);
}

/* Nothing is under way: nobody uses the device. Who does not come is missed by the other end. */
static int remote_share(struct disk_backend *backend, int socket)
{
	struct disk_remote *remote = remote_of(backend);
	const struct nbd_request rq = {.magic = NBD_MAGIC, .op = NBD_SHARE};

	if (remote->failed || fd_send(remote->socket, &rq, sizeof(rq), 0, socket) != sizeof(rq))
		return -EPIPE;
	return 0;
}

/* A setup before that of the window. */
static int send_early(int companion, enum nbd_setup_op op, int fd)
{
	const struct nbd_setup setup = {.magic = NBD_MAGIC, .version = NBD_VERSION, .op = op};
	struct pollfd room = {.fd = companion, .events = POLLOUT};
	ssize_t n;

	do
		n = fd_send(companion, &setup, sizeof(setup), 0, fd);
	while (n < 0 && errno == EAGAIN && poll(&room, 1, SHARE_MS) == 1);
	return n == sizeof(setup) ? 0 : -EPIPE;
}

int disk_remote_share(int companion, int socket)
{
	return send_early(companion, NBD_SETUP_SHARE, socket);
}

int disk_remote_log(int companion, int fd)
{
	return send_early(companion, NBD_SETUP_LOG, fd);
}

static void remote_close(struct disk_backend *backend)
{
	struct disk_remote *remote = remote_of(backend);

	if (remote->socket >= 0)
		close(remote->socket);
	if (remote->window >= 0)
		close(remote->window);
	free(remote);
}

static const struct disk_backend_ops remote_ops = {
    .read = remote_read,
    .write = remote_write,
    .flush = remote_flush,
    .zero = remote_zero,
    .discard = remote_discard,
    .share = remote_share,
    .close = remote_close,
};

/* --- connecting --------------------------------------------------------------------------- */

static int make_window(struct disk_remote *remote)
{
	remote->window = memfd_create("foal-window", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (remote->window < 0 || ftruncate(remote->window, NBD_WINDOW_BYTES) ||
	    fcntl(remote->window, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return -errno;
	return 0;
}

static int send_setup(const struct disk_remote *remote, bool writable)
{
	struct nbd_setup setup = {.magic = NBD_MAGIC,
				  .version = NBD_VERSION,
				  .op = NBD_SETUP_WINDOW,
				  .window_bytes = NBD_WINDOW_BYTES,
				  .writable = writable};

	return fd_send(remote->socket, &setup, sizeof(setup), 0, remote->window) == sizeof(setup)
		   ? 0
		   : -EPIPE;
}

/* What a server says ends up on a terminal. */
static void take_text(char *text, const char *from)
{
	size_t i = 0;

	/* A literal ends before: */
	/* cppcheck-suppress arrayIndexOutOfBoundsCond */
	for (; i < DISK_TEXT - 1 && i < NBD_TEXT_BYTES && from[i]; i++)
		text[i] = (char)(from[i] >= ' ' && from[i] < 0x7f ? from[i] : '?');
	text[i] = '\0';
}

static int take_hello(struct disk_remote *remote, bool writable, char *text)
{
	struct nbd_hello hello;
	int rc = receive(remote, &hello, sizeof(hello));

	if (rc == -EPIPE) /* it has said why */
		take_text(text, "foal-nbd ended");
	else if (rc)
		take_text(text, "foal-nbd does not answer");
	if (rc)
		return rc;
	if (hello.magic != NBD_MAGIC || hello.version != NBD_VERSION) {
		take_text(text, "foal-nbd is of another version than foal");
		return -EPROTO;
	}
	if (hello.error) {
		take_text(text, hello.text);
		return hello.error < 0 && hello.error >= -4095 ? hello.error : -EPROTO;
	}
	if (writable && hello.read_only) {
		take_text(text, "its server allows only reading; use mode=ro or mode=cow");
		return -EROFS;
	}
	remote->backend.size = hello.size;
	return 0;
}

int disk_remote_open(int socket, bool writable, struct disk_backend **out, char *text)
{
	struct disk_remote *remote = calloc(1, sizeof(*remote));
	int rc = 0;

	text[0] = '\0';
	if (!remote)
		return -ENOMEM;
	remote->backend.ops = &remote_ops;
	remote->backend.writable = writable;
	remote->window = -1;
	remote->socket = fcntl(socket, F_DUPFD_CLOEXEC, 0);
	if (remote->socket < 0)
		rc = -errno;
	if (rc == 0)
		rc = make_window(remote);
	if (rc == 0)
		rc = send_setup(remote, writable);
	if (rc == 0)
		rc = take_hello(remote, writable, text);
	if (rc) {
		remote_close(&remote->backend);
		return rc;
	}
	*out = &remote->backend;
	return 0;
}
