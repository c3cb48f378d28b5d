/*
 * What a guest wrote to a copy-on-write disk, as a layer that is never written again: a
 * frozen overlay of this run (a memfd and a bit a block), or a layer file of a
 * snapshot (docs/formats.md), each block of which is checked when it is read. Layers
 * lie over each other, the newest on top; below the lowest is the disk's backend.
 *
 * A layer that is made stays as it is: any thread, no lock. Private to devices/ but for
 * the functions of struct device in devices.h.
 */
#ifndef FOAL_DEVICES_DISK_LAYER_H
#define FOAL_DEVICES_DISK_LAYER_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/file_io.h"

struct disk_backend;
struct disk_layer;

/*
 * Make of overlay and map, which are the layer's from then on, one on top of @below (its own
 * from then on, too). NULL: out of memory, nothing was taken.
 */
struct disk_layer *disk_layer_freeze(int overlay, uint64_t *map, struct disk_layer *below);

/* How many. */
unsigned disk_layer_count(const struct disk_layer *top);

/* Is it one that was opened? */
bool disk_layer_is_file(const struct disk_layer *layer);

/*
 * Open the layer file @fd, which is dup'ed, of a disk of @size bytes, on top of @below, which is
 * its own from then on, unless it fails. -EINVAL: it is none, of another disk or of another
 * version; -EBADMSG: damaged; -ENOMEM, -EMFILE, -EIO.
 */
int disk_layer_open(int fd, uint64_t size, struct disk_layer *below, struct disk_layer **out);
/* The same of all of @fds, newest first, which are taken, also on error; NULL of none. */
int disk_layer_open_all(const int *fds, unsigned count, uint64_t size, struct disk_layer **out);

/*
 * All of @top and below, or NULL, as a layer file to the empty file @fd; without the blocks that
 * read the same in the layer files @below (NULL: none), under which it is laid then, and with those
 * that only @below has, as @backend has them (NULL: there is no @below). 0 or a negative errno;
 * -ESTALE: such a one is there, and @backend is nobody else's to read.
 */
int disk_layer_save(const struct disk_layer *top, const struct disk_layer *below,
		    struct disk_backend *backend, uint64_t size, int fd);

/* That of @top and below which has @block, or NULL. */
const struct disk_layer *disk_layer_find(const struct disk_layer *top, uint64_t block);

/*
 * Read @len bytes at @offset of the disk, all of whose blocks @layer has. -EBADMSG: the
 * file's checksum is wrong.
 */
int disk_layer_read(const struct disk_layer *layer, struct iov_cursor *cursor, uint64_t len,
		    uint64_t offset);

/* @top and what is below, down to @end, which stays. */
void disk_layer_free_above(struct disk_layer *top, const struct disk_layer *end);

/* @top and all below. NULL is allowed. */
void disk_layer_free(struct disk_layer *top);

/* --- disk_layer_fold.c: the disk's own thread, but for disk_layer_fold() ------------------- */

/* @top, an overlay that was just frozen, is for a reader that ends. */
void disk_layer_pass(struct disk_layer *top);
/* @top and all below is somebody else's, too, from now on. */
void disk_layer_keep(struct disk_layer *top);
/* The lowest that @top can be folded into, with what lies between; NULL: none. */
struct disk_layer *disk_layer_base(struct disk_layer *top);
/* In the reader: copy. 0 or a negative errno: nothing has changed. */
int disk_layer_fold(const struct disk_layer *top, const struct disk_layer *base, uint64_t size);
/*
 * It has ended, and copied all: what is left of @top and below. @top itself, if somebody else got
 * it meanwhile.
 */
struct disk_layer *disk_layer_folded(struct disk_layer *top, struct disk_layer *base,
				     uint64_t size);

#endif
