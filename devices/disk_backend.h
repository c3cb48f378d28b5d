/*
 * Where the sectors of a disk lie for good: a file of this host (disk_file.c), or
 * a server reached through a companion (disk_remote.c). Private to devices/;
 * what a mode makes of it is disk.c's.
 *
 * One thread at a time. Ranges are multiples of DISK_SECTOR inside the disk.
 * 0 or a negative errno; -ECANCELED where virtio_cancelled() would say so.
 */
#ifndef FOAL_DEVICES_DISK_BACKEND_H
#define FOAL_DEVICES_DISK_BACKEND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/file_io.h"

struct disk_backend;

struct disk_backend_ops {
	/* Move @len bytes between @cursor and the disk. -EIO where it ends early. */
	int (*read)(struct disk_backend *backend, struct iov_cursor *cursor, uint64_t len,
		    uint64_t offset);
	bool copies_read; /* a child of this process may, too, at any time */
	int (*write)(struct disk_backend *backend, struct iov_cursor *cursor, uint64_t len,
		     uint64_t offset);
	/* What was written is durable. */
	int (*flush)(struct disk_backend *backend);
	/* The range reads as zeroes; @unmap: its storage may go. */
	int (*zero)(struct disk_backend *backend, uint64_t offset, uint64_t len, bool unmap);
	/* The range is no longer needed: no error if nothing comes of it. */
	int (*discard)(struct disk_backend *backend, uint64_t offset, uint64_t len);
	/* Optional: have it served to who has the other end of @socket, too (disk_remote_open()).
	 */
	int (*share)(struct disk_backend *backend, int socket);
	void (*close)(struct disk_backend *backend);
};

struct disk_backend {
	const struct disk_backend_ops *ops;
	uint64_t size; /* bytes */
	bool writable;
	const atomic_bool *cancel; /* set: give up what waits; NULL: never */
};

/* A dup of @fd; @writable: it must be open for that. Errors as disk_open(). */
int disk_file_open(int fd, bool writable, struct disk_backend **out);

#endif
