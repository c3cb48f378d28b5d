/*
 * virtio-console (virtio 1.2, 5.3) with its one plain port: what the guest
 * writes goes to a descriptor, what is typed waits in a backlog for the guest's
 * buffers. Writing never blocks: a stop would have to wait for whoever reads.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/state.h"
#include "devices/virtio.h"

#define RECEIVE	 0
#define TRANSMIT 1

#define BACKLOG	 4096
#define PIECE	 4096

struct virtio_console {
	struct virtio_device vdev;
	int out_fd; /* borrowed; negative: output is dropped */
	size_t piece;

	/* Typed, not yet taken by the guest; under vdev.lock. */
	uint8_t backlog[BACKLOG];
	size_t count;

	/* The worker's own. */
	struct vq_chain out; /* on its way, if writing; @written bytes of it are out */
	bool writing;
	uint64_t written;
	uint64_t skip; /* of the next chain, that is out already: loaded */
};

static struct virtio_console *console_of(struct virtio_device *vdev)
{
	return device_of(vdev, struct virtio_console, vdev);
}

/* --- to the guest ---------------------------------------------------------------------- */

size_t virtio_console_input(struct device *dev, const void *data, size_t len)
{
	struct virtio_console *con = console_of(virtio_of(dev));
	size_t taken;

	pthread_mutex_lock(&con->vdev.lock);
	taken = len < BACKLOG - con->count ? len : BACKLOG - con->count;
	memcpy(con->backlog + con->count, data, taken);
	con->count += taken;
	pthread_mutex_unlock(&con->vdev.lock);
	if (taken)
		virtio_kick(&con->vdev);
	return taken;
}

static bool typed(struct virtio_console *con)
{
	bool any;

	pthread_mutex_lock(&con->vdev.lock);
	any = con->count > 0;
	pthread_mutex_unlock(&con->vdev.lock);
	return any;
}

/* Move what was typed into @to, @max bytes at most. */
static size_t untype(struct virtio_console *con, uint8_t *to, size_t max)
{
	size_t len;

	pthread_mutex_lock(&con->vdev.lock);
	len = con->count < max ? con->count : max;
	memcpy(to, con->backlog, len);
	con->count -= len;
	memmove(con->backlog, con->backlog + len, con->count);
	pthread_mutex_unlock(&con->vdev.lock);
	return len;
}

/* 1: a buffer was filled; 0: nothing to do at present. */
static int receive(struct virtio_console *con, struct virtqueue *vq)
{
	struct vq_chain *chain = &con->vdev.chain;
	uint8_t bytes[PIECE];
	struct vq_cursor to;
	size_t len;
	int rc;

	if (!typed(con))
		return 0;
	rc = vq_pop(vq, chain);
	if (rc == 0)
		return vq_arm(vq);
	if (rc < 0)
		return rc;
	to = vq_writable(chain);
	if (chain->writable == 0)
		return vq_break(vq, "a console's receive buffer has no room");
	len = untype(con, bytes, chain->writable < PIECE ? chain->writable : PIECE);
	rc = vq_copy_in(vq, &to, bytes, len);
	if (rc)
		return rc == -ESHUTDOWN
			   ? rc
			   : vq_break(vq, "a console's receive buffer cannot be written");
	rc = vq_push(vq, chain, (uint32_t)len);
	return rc ? rc : 1;
}

/* --- from the guest -------------------------------------------------------------------- */

/* As much of @bytes as goes without waiting: bytes taken, or -EAGAIN. */
static ssize_t put_out(const struct virtio_console *con, const uint8_t *bytes, size_t len)
{
	struct pollfd pfd = {.fd = con->out_fd, .events = POLLOUT};
	ssize_t n;

	if (con->out_fd < 0)
		return (ssize_t)len;
	if (poll(&pfd, 1, 0) != 1)
		return -EAGAIN;
	n = write(con->out_fd, bytes, len < con->piece ? len : con->piece);
	if (n >= 0)
		return n;
	/* Gone for good (EPIPE, EIO, ...): the guest goes on without. */
	return errno == EAGAIN || errno == EINTR ? -EAGAIN : (ssize_t)len;
}

static ssize_t put(const struct virtio_console *con, const uint8_t *bytes, size_t len)
{
	const struct device_host *host = con->vdev.dev.host;
	ssize_t n = put_out(con, bytes, len);

	if (n > 0 && host->console)
		host->console(host->ctx, bytes, (size_t)n);
	return n;
}

/* Write the chain at hand. 0: all of it is out; -EAGAIN: wait for POLLOUT. */
static int write_chain(struct virtio_console *con, struct virtqueue *vq)
{
	const struct vq_chain *chain = &con->out;

	while (con->written < chain->readable && !virtio_cancelled(&con->vdev)) {
		struct vq_cursor from = vq_readable(chain);
		uint64_t left = chain->readable - con->written;
		size_t len = left < PIECE ? (size_t)left : PIECE;
		uint8_t bytes[PIECE];
		ssize_t n;
		int rc;

		vq_skip(&from, con->written);
		rc = vq_copy_out(vq, &from, bytes, len);
		if (rc)
			return rc == -ESHUTDOWN
				   ? rc
				   : vq_break(vq,
					      "a console's output lies outside of guest memory");
		n = put(con, bytes, len);
		if (n < 0)
			return (int)n;
		con->written += (uint64_t)n;
	}
	return 0;
}

/* 1: a buffer was written; 0: nothing to do at present. */
static int transmit(struct virtio_console *con, struct virtqueue *vq)
{
	int rc;

	if (!con->writing) {
		rc = vq_pop(vq, &con->out);
		if (rc < 0)
			return rc;
		if (rc == 0)
			return vq_arm(vq);
		con->writing = true;
		con->written = con->skip < con->out.readable ? con->skip : con->out.readable;
		con->skip = 0;
	}
	rc = write_chain(con, vq);
	if (rc || virtio_cancelled(&con->vdev))
		return rc == -EAGAIN ? 0 : rc;
	con->writing = false;
	rc = vq_push(vq, &con->out, 0);
	return rc ? rc : 1;
}

/* --- what the worker calls --------------------------------------------------------------- */

static int console_serve_queue(struct virtio_device *vdev, unsigned index)
{
	struct virtio_console *con = console_of(vdev);
	struct virtqueue *vq = &vdev->queues[index];
	int rc = 1;

	while (rc > 0 && !virtio_cancelled(vdev))
		rc = index == RECEIVE ? receive(con, vq) : transmit(con, vq);
	return rc < 0 ? rc : virtio_signal_used(vdev, vq);
}

static unsigned console_poll(struct virtio_device *vdev, struct pollfd *fds)
{
	struct virtio_console *con = console_of(vdev);

	fds[0] = (struct pollfd){.fd = con->out_fd, .events = POLLOUT};
	return con->writing && vdev->queues[TRANSMIT].ready;
}

static void console_reset(struct virtio_device *vdev)
{
	console_of(vdev)->writing = false;
	console_of(vdev)->skip = 0;
}

static void console_held(struct virtio_device *vdev, unsigned index, struct vq_held *held)
{
	const struct virtio_console *con = console_of(vdev);

	if (index == TRANSMIT && con->writing)
		vq_hold(held, &con->out);
}

static void console_state(struct virtio_device *vdev, struct state *s)
{
	struct virtio_console *con = console_of(vdev);
	uint64_t skip = con->writing ? con->written : con->skip;
	uint32_t typed = (uint32_t)con->count;

	state_u64(s, &skip);
	state_blob(s, con->backlog, &typed, BACKLOG, "what was typed");
	con->count = typed;
	if (s->loading)
		con->skip = skip;
}

static const struct virtio_type console_type = {
    .id = VIRTIO_ID_CONSOLE,
    .label = "console",
    .nr_queues = 2,
    .serve_queue = console_serve_queue,
    .poll = console_poll,
    .reset = console_reset,
    .held = console_held,
    .state = console_state,
};

/* --- the device ---------------------------------------------------------------------------- */

static void console_destroy(struct device *dev)
{
	virtio_fini(virtio_of(dev));
	free(console_of(virtio_of(dev)));
}

const struct device_ops virtio_console_device = {
    .kind = "virtio-console",
    VIRTIO_DEVICE_OPS,
    .destroy = console_destroy,
};

/* poll(2) promises room for a byte; more could block where the descriptor can. */
static size_t piece_of(int fd)
{
	struct stat st;

	if (fcntl(fd, F_GETFL) & O_NONBLOCK || (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)))
		return PIECE;
	return 1;
}

int virtio_console_create(const struct device_host *host, unsigned pin, int out_fd, uint16_t cols,
			  uint16_t rows, struct device **out)
{
	struct virtio_console_config config = {.cols = cols, .rows = rows};
	struct virtio_console *con = calloc(1, sizeof(*con));
	uint64_t features = cols && rows ? 1ULL << VIRTIO_CONSOLE_F_SIZE : 0;
	int rc;

	if (!con)
		return -ENOMEM;
	con->out_fd = out_fd;
	con->piece = piece_of(out_fd);
	rc = virtio_init(&con->vdev, &virtio_console_device, host, &console_type, pin, features,
			 &config, sizeof(config));
	if (rc) {
		free(con);
		return rc;
	}
	*out = &con->vdev.dev;
	return 0;
}
