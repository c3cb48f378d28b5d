/*
 * The memory of a snapshot: writing it, and areas whose pages come from it.
 * Part of the room's public header (ept.h); docs/snapshot-memory.md has the whole.
 */
#ifndef FOAL_EPT_SNAPSHOT_H
#define FOAL_EPT_SNAPSHOT_H

#include "ept/ept.h"

/* --- writing ---------------------------------------------------------------------- */

struct ept_snapshot_options {
	int memory_fd, index_fd; /* empty regular files, open for writing */
	uint8_t id[16];		 /* of this snapshot: random */
	int zstd_level;		 /* 0: not compressed, and so it can be mapped */
	/*
	 * Only what differs from these, newest first: a parent and what it needs. 0: all.
	 * Found by the checksums: nothing is tracked while the guest runs. Any snapshot
	 * of the same areas of the same files can be it, opened by its index alone, too.
	 */
	struct ept_snapshot *const *layers;
	size_t count;
};

/* What the manifest says of it. */
struct ept_snapshot_info {
	uint64_t memory_bytes; /* size of the memory file; most of it may be holes */
	uint64_t stored_bytes; /* written to it */
	uint64_t index_bytes;
	uint64_t extents, pages, zero_pages;
};

/*
 * Write what of @space differs from where it came from, make it durable. In a child
 * of a fork, after ept_space_fork_frozen(), with no other thread. The files are
 * named by the caller when all is well. On an error one line in @why: -ENOSPC, -EIO (also of
 * memory that was taken away meanwhile, as ept_space_bus_error() noted), ...
 */
int ept_snapshot_write(struct ept_space *space, const struct ept_snapshot_options *options,
		       struct ept_snapshot_info *out, char *why, size_t size);

struct ept_snapshot;

/*
 * Write what @count @layers, newest first, are together: a snapshot that stands alone and says the
 * same of every page as the newest. It may have the same id. Of @options: the files, id
 * and zstd_level. Every byte is checked before: -EBADMSG; -EINVAL: no chain; errors as above.
 */
int ept_snapshot_merge(struct ept_snapshot *const *layers, size_t count,
		       const struct ept_snapshot_options *options, struct ept_snapshot_info *out,
		       char *why, size_t size);

/* --- reading ---------------------------------------------------------------------------- */

/*
 * Open a snapshot's memory: check all of the index, nothing yet of the memory, but that it is
 * long enough. @memory_fd is dup'ed, @name (for messages) is copied. Hostile
 * files are -EINVAL and one line in @why. @memory_fd -1: of this snapshot nothing is ever read, it
 * is only for struct ept_snapshot_options.
 */
int ept_snapshot_open(int memory_fd, int index_fd, const char *name, struct ept_snapshot **out,
		      char *why, size_t size);
void ept_snapshot_close(struct ept_snapshot *snapshot); /* NULL is allowed */

/*
 * Read and check every extent, and that what lies between them is zero where the file is an
 * area as it is: one of a snapshot that stands alone and is not compressed, and no file's.
 * 0, or -EBADMSG, -EIO and one line in @why.
 */
int ept_snapshot_verify(const struct ept_snapshot *snapshot, char *why, size_t size);

/* The snapshot's identity, and its parent's: all 0 if it stands alone. */
void ept_snapshot_ids(const struct ept_snapshot *snapshot, uint8_t id[16], uint8_t parent[16]);

/*
 * An object for the area at @gpa of @size bytes. @layers: newest first, each the parent of
 * the one before, @count of them; they must live as long as the object. @origin: the file
 * that the area was of, or NULL: what is in no layer is zero. An extent is checked
 * when its first page is asked for, before any of it is the guest's.
 * For areas of the handler engine, whatever the space's (not EPT_ENGINE_KERNEL: -EINVAL
 * of ept_area_add). -EINVAL (no such area in the newest, a wrong chain), -ENOMEM.
 */
int ept_object_snapshot(struct ept_snapshot *const *layers, size_t count, gpa_t gpa, uint64_t size,
			struct ept_object *origin, struct ept_object **out);

/*
 * Before ept_space_start(): let every area of @space have its pages from @layers, as
 * above, each area's own file being its origin. Areas that are never in a snapshot (read-only
 * files) stay as they are. @space has to have the areas that the newest layer has, no
 * more and no less: else -EINVAL and one line in @why; or -ENOMEM. After an error
 * @space can only be destroyed.
 */
int ept_space_restore(struct ept_space *space, struct ept_snapshot *const *layers, size_t count,
		      char *why, size_t size);

/* --- the working set ---------------------------------------------------------------------- */

struct ept_working_set;

/*
 * Record what is asked for: each fault of an area of layers then brings one page, which
 * makes this restore slower than others. Before ept_space_start(): else -EINVAL.
 */
int ept_space_record(struct ept_space *space);

/*
 * Write what was asked for so far to the empty file @fd, with its bytes as the snapshot has
 * them: the number of pages (0: nothing, and no file), or -ENOMEM, the files' errors. For the
 * snapshot of @id. Not made durable: it is never needed.
 */
ssize_t ept_working_set_save(const struct ept_space *space, const uint8_t id[16], int fd);

/* Open one: -EINVAL: damaged, or not of @id, and then of no use. @fd is dup'ed. */
int ept_working_set_open(int fd, const uint8_t id[16], struct ept_working_set **out);
void ept_working_set_close(struct ept_working_set *set); /* NULL is allowed */

/*
 * Bring it in before it is asked for, from the space's start on, by a thread of its own (kind
 * "prefetch"). Before ept_space_start(), once; @set lives as long as the space. -ENOMEM, -EINVAL.
 */
int ept_space_prefetch(struct ept_space *space, const struct ept_working_set *set);
/*
 * Instead: all that the layers hold, checked. Not with a memory limit. -EINVAL. The space fails
 * as if the guest had asked, if something of it cannot be read or is not what was written.
 */
int ept_space_prefetch_all(struct ept_space *space);
/*
 * Of one that neither prefetches nor records: who asks for a page of the layers waits for its
 * extent alone, as with a working set; the rest of its window comes by threads "prefetch". (Without
 * this it comes behind the fault, by the thread that resolved it.) Before ept_space_start().
 * -EINVAL.
 */
int ept_space_prefetch_rest(struct ept_space *space);

/* What of the above a space was told; a fork is none that was restored. */
enum ept_prefetch_how {
	EPT_PREFETCH_NONE, /* its memory is not of layers */
	EPT_PREFETCH_OFF,
	EPT_PREFETCH_SET,
	EPT_PREFETCH_ALL,
	EPT_PREFETCH_RECORD,
};

enum ept_prefetch_how ept_space_prefetch_how(const struct ept_space *space);
/*
 * Of a started space, by one thread: wait until its prefetch has ended. 0, or why something
 * could not be brought in; ept_space_failure() has the words, unless pages are poisoned.
 * -ETIMEDOUT: it got no further for @seconds (0: for ever), and its threads may not end, either.
 */
int ept_space_prefetch_wait(struct ept_space *space, unsigned seconds);
void ept_prefetch_cancel(struct ept_space *space);

/*
 * From the @*at-th page of the working set on (0 at first): the next run of pages that were brought
 * in, neighbours in the guest and in the set, 2 MiB at most. They may be taken away again at any
 * time, which does no harm. False: there is none, of what was begun with. Of a started space, from
 * any thread.
 */
bool ept_prefetch_there(const struct ept_space *space, uint64_t *at, gpa_t *gpa, uint64_t *bytes);

struct ept_prefetch_stats {
	uint64_t wanted, brought; /* pages; the rest was there already, or could not be read */
	uint64_t windows, behind; /* whose rest came behind the fault; pages of these */
	bool done;
};

void ept_prefetch_stats(const struct ept_space *space, struct ept_prefetch_stats *out);

#endif
