/* One snapshot's memory, opened: its index is checked and fixed. */
#ifndef FOAL_EPT_SNAPSHOT_READ_H
#define FOAL_EPT_SNAPSHOT_READ_H

#include "ept/snapshot.h"
#include "ept/snapshot_format.h"

struct ept_snapshot {
	char *name;
	int memory_fd; /* -1: only the index was opened */
	struct ept_index_header header;
	void *table;
	struct ept_index_area *areas; /* in the table, ascending */
	struct ept_index_extent *extents;
};

/* The extent that @gpa lies in, or NULL. */
const struct ept_index_extent *ept_snapshot_find(const struct ept_snapshot *s, uint64_t gpa);

/* That one, or the first behind it; NULL: none. */
const struct ept_index_extent *ept_snapshot_next(const struct ept_snapshot *s, uint64_t gpa);
/* Each is the difference to the next, the last to nothing; all are of the same areas. */
bool ept_snapshot_chain(struct ept_snapshot *const *layers, size_t count);

/*
 * Read and check it: its present pages are at their places in @to (EPT_EXTENT bytes), zeros
 * between. -EBADMSG: not what was written.
 */
int ept_snapshot_extent(const struct ept_snapshot *s, const struct ept_index_extent *e, char *to);
/* Are there no holes in the file's bytes [@from, @from + @len), so that they cost whoever made it?
 */
bool ept_file_holds(int fd, uint64_t from, uint64_t len);
/* @len bytes of the memory file at @at, whatever they are. -EIO: cut short. */
int ept_snapshot_bytes(const struct ept_snapshot *s, void *buf, size_t len, uint64_t at);

/* Why it failed, in one line. */
void ept_snapshot_say(const struct ept_snapshot *s, const struct ept_index_extent *e, int err,
		      char *why, size_t size);

#endif
