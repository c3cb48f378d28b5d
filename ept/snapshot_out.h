/*
 * The two files of a snapshot's memory as they are written: areas in the order of their
 * addresses, of each its extents, then the index (snapshot_format.h). Who writes a VM's memory
 * and who merges snapshots say what the extents are.
 */
#ifndef FOAL_EPT_SNAPSHOT_OUT_H
#define FOAL_EPT_SNAPSHOT_OUT_H

#include "ept/snapshot.h"
#include "ept/snapshot_format.h"

#include <zstd.h>

struct ept_out {
	const struct ept_snapshot_options *options;
	struct ept_snapshot_info *info;
	const char *name; /* for messages; the caller's */
	struct ept_index_area *areas;
	uint64_t nr_areas;
	struct ept_index_extent *extents;
	uint64_t nr_extents, max_extents;
	uint64_t end; /* of the memory file: where packed extents go on */
	ZSTD_CCtx *zstd;
	char *packed; /* room for a compressed extent */
	size_t packed_size;
	char *why;
	size_t why_size;
};

/* For at most @areas areas; @why takes the line of any error. -ENOMEM. Then ept_out_free(). */
int ept_out_init(struct ept_out *out, const struct ept_snapshot_options *options, const char *name,
		 size_t areas, struct ept_snapshot_info *info, char *why, size_t size);
void ept_out_free(struct ept_out *out);

/* The extents that follow are of the area at @gpa; @flags: of struct ept_index_area. */
void ept_out_area(struct ept_out *out, uint64_t gpa, uint64_t size, uint32_t flags);

/*
 * @e with address, pages, bits and checksum; @bytes: EPT_EXTENT of them, which may be moved about.
 * The files' errors, -ENOMEM.
 */
int ept_out_extent(struct ept_out *out, struct ept_index_extent *e, char *bytes);

/* The index, and all of it durable. @parent: the id of the one that it is the difference to. */
int ept_out_finish(struct ept_out *out, const uint8_t parent[16]);

/* One line in @why; returns @err. */
__attribute__((format(printf, 3, 4))) int ept_out_say(const struct ept_out *out, int err,
						      const char *fmt, ...);

#endif
