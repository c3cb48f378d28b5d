/*
 * What a block device stores its sectors in: a backend (a file, or a server
 * behind the companion), read and written as its mode allows (enum disk_mode).
 *
 *   read-only      the backend
 *   copy-on-write  the backend, under an overlay in memory: a sparse memfd whose
 *                  4 KiB blocks count once their bit is set
 *   shared         the backend
 *
 * A file is never mapped: one that shrinks gives short reads, not SIGBUS.
 * Calls are for one thread at a time, disk_file_read() for any. Offsets and
 * lengths are bytes, multiples of DISK_SECTOR, inside the disk. 0 or -errno.
 */
#ifndef FOAL_DEVICES_DISK_H
#define FOAL_DEVICES_DISK_H

#include <stdatomic.h>
#include <sys/uio.h>

#include "devices/devices.h"

#define DISK_SECTOR 512
#define DISK_BLOCK  4096

struct disk;

/* As virtio_blk_create(); -EBADF if @fd is not open for what @mode needs. */
int disk_open(int fd, enum disk_mode mode, struct disk **out);
/* The same on @backend, which is the disk's from then on; -EINVAL for its size. */
int disk_open_on(struct disk_backend *backend, enum disk_mode mode, struct disk **out);
void disk_close(struct disk *disk);

/* Requests that wait for a server give up with -ECANCELED while *@cancel is set. */
void disk_cancel_on(struct disk *disk, const atomic_bool *cancel);

uint64_t disk_size(const struct disk *disk);
enum disk_mode disk_mode(const struct disk *disk);

/*
 * Move @len bytes between the disk at @offset and @iov, which holds as many
 * and is used up. -EIO where the file ends early.
 */
int disk_read(struct disk *disk, uint64_t offset, struct iovec *iov, size_t nr, uint64_t len);
int disk_write(struct disk *disk, uint64_t offset, struct iovec *iov, size_t nr, uint64_t len);

/*
 * All that was written before is durable, as far as the mode lets it be. Once
 * this has failed it fails for good.
 */
int disk_flush(struct disk *disk);

/* The range's contents are no longer needed, and are undefined after. */
int disk_discard(struct disk *disk, uint64_t offset, uint64_t len);
/* The range reads as zeroes; @unmap: storage may be given back. */
int disk_write_zeroes(struct disk *disk, uint64_t offset, uint64_t len, bool unmap);

/*
 * Of a copy-on-write disk (others: nothing happens): what was written so far is a layer from
 * now on, which is not written again. -ENOMEM; -EMLINK: DISK_LAYERS_MAX such are there, and
 * nothing has changed.
 */
int disk_freeze(struct disk *disk);
/* Freeze it, to have it back as it is now: what was written since is dropped. The same errors. */
int disk_mark(struct disk *disk);
void disk_go_back(struct disk *disk);
/*
 * The same for a reader that ends, such as a child that writes a snapshot: before, it calls
 * disk_fold(); if that was 0, disk_folded() is called when it is gone, by any thread, not beside
 * disk_freeze*(). Then layers that were frozen so are one.
 */
int disk_freeze_passing(struct disk *disk);
int disk_fold(const struct disk *disk);
void disk_folded(struct disk *disk);
/*
 * All frozen layers, as one, to the empty file @fd: disk_layer.h. Of @count parents, newest first,
 * whose descriptors are taken, only what differs from them, also where only they have something:
 * -ESTALE, if that is a disk's whose companion serves one process. In whatever thread or process,
 * while the disk is written, but not beside disk_freeze*().
 */
int disk_save_layers(const struct disk *disk, int fd, const int *parents, unsigned count);
/*
 * Lay what was saved under a copy-on-write disk that was not written yet (else -EBUSY); several
 * times: each on top of the one before.
 */
int disk_load_layer(struct disk *disk, int fd);

/* What is frozen leaves the disk; one that was not written yet takes it. */
struct disk_layer *disk_give_layers(struct disk *disk);
void disk_take_layers(struct disk *disk, struct disk_layer *layers);

/* The backend, for another VM: virtio_blk_share(). */
int disk_share(struct disk *disk, int socket);

/* Bytes of the backend ever read, each counted once, in units of DISK_BLOCK. */
uint64_t disk_file_read(const struct disk *disk);

#endif
