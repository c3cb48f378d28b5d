/*
 * Asynchronous reads: the one file that talks to io_uring(7), through liburing.
 * Unit tests link another file with these symbols in its place.
 *
 * One thread at a time uses a ring, and closes it with no read under way. The
 * ring can do nothing but read: what else io_uring offers is refused to it, so
 * that a thread in a sandbox gains no system call by it.
 */
#ifndef FOAL_EPT_URING_H
#define FOAL_EPT_URING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ept_uring;

/* @depth reads under way at most. -ENOSYS, -EPERM (switched off on this host), -ENOMEM, ... */
int ept_uring_open(unsigned depth, struct ept_uring **out);
/* 0, or why ept_uring_open() would fail on this host. */
int ept_uring_probe(void);
void ept_uring_close(struct ept_uring *ring);

/* poll(2)s readable when a read is done. */
int ept_uring_fd(const struct ept_uring *ring);

/*
 * Begin to read @len bytes at @offset of @fd into @buf; all three stay until it
 * is done. @punt: by a worker of the kernel's, where the calling thread would
 * have to wait (a page cache that lacks them). Begins with ept_uring_submit().
 */
void ept_uring_read(struct ept_uring *ring, int fd, void *buf, unsigned len, uint64_t offset,
		    bool punt, void *tag);
/* False: the kernel takes some of them only later; call again soon. */
bool ept_uring_submit(struct ept_uring *ring);

/* Take one read that is done: what pread would have returned, or a negative errno. */
bool ept_uring_done(struct ept_uring *ring, void **tag, int *result);

#endif
