/*
 * A directory that becomes a snapshot: DIR.tmp-XXXXXX beside DIR until all is in it and on the
 * disk, then DIR, in one step. Whoever is killed leaves what DIR was. Private to vmm/.
 */
#ifndef FOAL_VMM_SNAPSHOT_OUT_H
#define FOAL_VMM_SNAPSHOT_OUT_H

#include <stdbool.h>

#include "vmm/snapshot.h"

struct snapshot_out {
	const char *to;
	char *path, *parent; /* of the directory while it is written; of what it lies in */
	int fd;		     /* of it */
	unsigned layers;
	int files[SNAPSHOT_FILES_MAX]; /* the parts, in the order of snapshot_part() */
	unsigned count;
	bool replaces;
};

/* What @to calls it, without where it lies and slashes behind; *@len bytes, perhaps none. */
const char *snapshot_out_name(const char *to, size_t *len);
/*
 * Make the directory that is to be @to, and the empty parts in it, @layers of disks among them. A
 * snapshot that is there is to be replaced, anything else is refused. FOAL_EXIT_SNAPSHOT, or
 * FOAL_EXIT_USAGE of a @to that is no name ("." and the like); then, and in any case,
 * snapshot_out_close(), which removes what has no name yet.
 */
int snapshot_out_open(struct snapshot_out *out, const char *to, unsigned layers,
		      struct foal_error *err);
/* Its manifest is written: give it its name, and remove what it replaces. */
int snapshot_out_commit(struct snapshot_out *out, struct foal_error *err);
void snapshot_out_close(struct snapshot_out *out);

/* @r was the matter; returned. */
int snapshot_out_fail(const struct snapshot_out *out, int r, struct foal_error *err);

#endif
