/* Snapshots of a space's memory: pages of every kind, files they are written to, VMs of those. */
#ifndef FOAL_TESTS_EPT_SNAPSHOT_RIG_H
#define FOAL_TESTS_EPT_SNAPSHOT_RIG_H

#include "ept/snapshot.h"
#include "tests/ept/util.h"

#define SNAP_PAGES   1040UL /* the last extent of the last leaf, too */
#define SNAP_SIZE    (SNAP_PAGES * PAGE)

/* The kinds of VM that a snapshot is taken of, and how it is compressed. */
#define SNAP_ORIGINS 8
extern const struct snap_origin {
	enum ept_engine engine;
	enum ept_huge huge;
	bool file; /* its pattern is below what was not written */
	int zstd;
} snap_origins[SNAP_ORIGINS];
struct vm snap_make(const struct snap_origin *o);

/* Its pages untouched, read, written with bytes that compress or not, with zeros; in turn. */
void snap_use(const struct vm *vm);
/* What snap_use() left in page @page. */
void snap_page(uint64_t page, bool file, char *to);
bool snap_all_there(const struct vm *vm, bool file);

/* What a snapshot is written to. */
struct snap_files {
	int memory, index;
	struct ept_snapshot_info info; /* of a child: not filled in */
};

#define SNAP_ID 16
extern const uint8_t snap_id[SNAP_ID]; /* of all that are not differences */

/* Of the next snapshots. */
extern struct snap_next {
	struct ept_snapshot *layers[4]; /* to which they are differences */
	size_t count;
	uint8_t id;    /* the last byte of their identity */
	int cut_short; /* a file that the writer finds cut, where it may not ask; -1: none */
} snap_next;

/*
 * Write one, by a forked child; @overwrite the memory meanwhile. The writer's error; @why
 * and the files' info are what it said.
 */
int snap_try(struct vm *vm, struct snap_files *files, int zstd, bool overwrite, char why[300]);
/* The same, which must do. */
void snap_take(struct vm *vm, struct snap_files *files, int zstd);
void snap_close(const struct snap_files *files);

void snap_flip(int fd, uint64_t bit);
uint64_t snap_size(int fd);

/* Open it, which must do. */
struct ept_snapshot *snap_open(const struct snap_files *files);
/* Its error; @why is one line. */
int snap_open_error(const struct snap_files *files, char why[300]);

/* A space of the layers @from, on @origin_fd (-1: none), to be started. */
struct vm snap_vm(const struct ept_config *config, struct ept_snapshot *const *from, size_t count,
		  int origin_fd);

struct snap_restored {
	struct vm vm;
	struct ept_snapshot *snapshot;
};

struct snap_restored snap_restore_with(const struct ept_config *config,
				       const struct snap_files *files, int origin_fd,
				       const struct ept_working_set *set);
struct snap_restored snap_restore(const struct snap_files *files, int origin_fd);
void snap_restored_destroy(struct snap_restored *r);

#endif
