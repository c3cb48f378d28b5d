/*
 * Moving bytes between a file and iovecs, all of them or an error.
 */
#ifndef FOAL_DEVICES_FILE_IO_H
#define FOAL_DEVICES_FILE_IO_H

#include <stdint.h>
#include <sys/uio.h>

/* Iovecs that are used up from the front; at most IOV_MAX of them. */
struct iov_cursor {
	struct iovec *iov;
	size_t nr;
};

enum direction { FROM_FILE, TO_FILE };

/*
 * Move @len bytes between @fd at @offset and the front of @cursor, which holds
 * at least as many. -EIO if the file ends early; -EINVAL if the iovecs do.
 */
int file_transfer(int fd, enum direction dir, struct iov_cursor *cursor, uint64_t len,
		  uint64_t offset);

/* Copy @len bytes into the front of @cursor, which holds at least as many. */
void iov_put(struct iov_cursor *cursor, const void *data, uint64_t len);

#endif
