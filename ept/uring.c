#include "ept/uring.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

struct ept_uring {
	struct io_uring ring;
};

/* Reads alone; no registering, and what an entry's flags may say is IOSQE_ASYNC. */
static int restrict_ring(struct io_uring *ring)
{
	struct io_uring_restriction only[] = {
	    {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READ},
	    {.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_ASYNC},
	};
	int err = io_uring_register_restrictions(ring, only, sizeof(only) / sizeof(*only));

	return err ? err : io_uring_enable_rings(ring);
}

int ept_uring_open(unsigned depth, struct ept_uring **out)
{
	struct ept_uring *ring = calloc(1, sizeof(*ring));
	int err;

	if (!ring)
		return -ENOMEM;
	err = io_uring_queue_init(depth, &ring->ring, IORING_SETUP_R_DISABLED);
	if (!err) {
		err = restrict_ring(&ring->ring);
		if (err)
			io_uring_queue_exit(&ring->ring);
	}
	if (err) {
		free(ring);
		return err;
	}
	*out = ring;
	return 0;
}

int ept_uring_probe(void)
{
	struct ept_uring *ring;
	int err = ept_uring_open(1, &ring);

	if (!err)
		ept_uring_close(ring);
	return err;
}

void ept_uring_close(struct ept_uring *ring)
{
	if (!ring)
		return;
	io_uring_queue_exit(&ring->ring);
	free(ring);
}

int ept_uring_fd(const struct ept_uring *ring)
{
	return ring->ring.ring_fd;
}

/* The ring is as deep as its user lets reads be under way, so an entry is free. */
void ept_uring_read(struct ept_uring *ring, int fd, void *buf, unsigned len, uint64_t offset,
		    bool punt, void *tag)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->ring);

	io_uring_prep_read(sqe, fd, buf, len, offset);
	io_uring_sqe_set_data(sqe, tag);
	if (punt)
		io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
}

bool ept_uring_submit(struct ept_uring *ring)
{
	while (io_uring_sq_ready(&ring->ring)) {
		int n = io_uring_submit(&ring->ring);

		if (n < 0 && n != -EINTR)
			return false;
	}
	return true;
}

bool ept_uring_done(struct ept_uring *ring, void **tag, int *result)
{
	struct io_uring_cqe *cqe;

	if (io_uring_peek_cqe(&ring->ring, &cqe))
		return false;
	*tag = io_uring_cqe_get_data(cqe);
	*result = cqe->res;
	io_uring_cqe_seen(&ring->ring, cqe);
	return true;
}
