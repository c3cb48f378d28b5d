/*
 * A snapshot's directory (docs/formats.md): manifest.json, and the parts that it names with
 * their sizes and checksums. The manifest is written last, so a directory that has one is whole.
 * All of it is hostile. Private to vmm/.
 */
#ifndef FOAL_VMM_SNAPSHOT_DIR_H
#define FOAL_VMM_SNAPSHOT_DIR_H

#include <jansson.h>
#include <sys/stat.h>

#include "vmm/options.h"
#include "vmm/snapshot.h"

#define SNAPSHOT_MANIFEST    "manifest.json"
#define SNAPSHOT_WORKING_SET "working-set"

/* Names of parts, in the order of struct snapshot_files; NULL behind the last of @layers' ones. */
const char *snapshot_part(unsigned i, unsigned layers);

struct ept_snapshot;

struct snapshot_dir {
	const char *path; /* as it was given */
	int fd;
	json_t *manifest;
	struct ept_snapshot *memory;
	uint8_t *state;
	size_t state_len;
	int layers[MAX_FILES]; /* of each disk, -1: it has none */
	/* What it is the difference to, and so on; NULL: it stands alone. Owned, with its path. */
	struct snapshot_dir *below;
	unsigned depth; /* of this one below the first */
};

/* Nothing is open: snapshot_dir_close() may be called. */
void snapshot_dir_init(struct snapshot_dir *dir);

/*
 * Open @path and check its manifest. Then its machine is to be taken (manifest_take()), and the
 * parts opened, whose state, index and layers' heads are checked as a whole; memory and layers are
 * when they are read. With it come those below. FOAL_EXIT_SNAPSHOT. snapshot_dir_close() in any
 * case.
 */
int snapshot_dir_open(struct snapshot_dir *dir, const char *path, struct foal_error *err);
int snapshot_dir_parts(struct snapshot_dir *dir, const struct run_options *opt,
		       struct foal_error *err);
/* Read and check all that the parts hold; but memory, if that is to be done elsewhere. */
int snapshot_dir_verify(struct snapshot_dir *dir, bool but_memory, struct foal_error *err);
/* What is checked of a part that is opened; -1 and an error, or its descriptor. */
int snapshot_dir_part(const struct snapshot_dir *dir, unsigned i, unsigned layers,
		      struct foal_error *err);
/* It cannot be used: @part of it is @what. Returns @error. */
int snapshot_dir_refuse(const struct snapshot_dir *dir, const char *part, int error,
			const char *what, struct foal_error *err);
void snapshot_dir_close(struct snapshot_dir *dir);
/* Is @st of a file in it, or in one below? */
bool snapshot_dir_holds(const struct snapshot_dir *dir, const struct stat *st);

/* The manifest's object @key; NULL: none. */
const json_t *snapshot_dir_get(const struct snapshot_dir *dir, const char *key);

/*
 * Write and sync the manifest of the parts in the directory @fd: @machine and @files as the VM
 * said, @written as its child did: "id", "memory", and "parent" of a difference. 0 or a negative
 * errno.
 */
int snapshot_dir_write(int fd, const json_t *machine, const json_t *files, const json_t *written,
		       unsigned layers);

/* --- snapshot_chain.c: differences to differences ------------------------------------------- */

/* All of the above but verify: @path's manifest, its machine into @opt, its parts. */
int snapshot_open(struct snapshot_dir *dir, const char *path, struct run_options *opt,
		  struct foal_error *err);
/* Open what @dir, whose parts are open, is the difference to. Of @opt's machine, too. */
int snapshot_dir_open_below(struct snapshot_dir *dir, const struct run_options *opt,
			    struct foal_error *err);
/* The memory of @dir and all below, newest first, to @out; how many. */
unsigned snapshot_dir_memory(const struct snapshot_dir *dir,
			     struct ept_snapshot *out[SNAPSHOT_CHAIN_MAX]);
/* Is the directory at @path @dir or one below it? */
bool snapshot_dir_in_chain(const struct snapshot_dir *dir, const char *path);
/* Are @machine and @files those of @dir? Whatever its networks and its vsock are. */
bool snapshot_dir_same_machine(const struct snapshot_dir *dir, const json_t *machine,
			       const json_t *files);
/* What the manifest of a difference to @dir, which is to be at @to, says of it; NULL: no UTF-8. */
json_t *snapshot_dir_as_parent(const struct snapshot_dir *dir, const char *to);

#endif
