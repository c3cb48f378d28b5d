/*
 * Writing a snapshot of a running VM (docs/snapshot.md): the VM stands still while its state
 * is taken and its process forked; a child, which nobody changes, writes what was. The
 * VM opens nothing: whoever asks brings the files. Private to vmm/.
 */
#ifndef FOAL_VMM_SNAPSHOT_H
#define FOAL_VMM_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "ept/ept.h"
#include "vmm/error.h"
#include "vmm/frozen.h"
#include "vmm/options.h"

struct vm;

/* A snapshot that is the difference to one that ...: so many in all. */
#define SNAPSHOT_CHAIN_MAX  64
/* The quickest: the host keeps two copies of what the guest writes while it is compressed. */
#define SNAPSHOT_ZSTD_LEVEL 1

/* What is asked of the child that writes it. */
struct snapshot_how {
	int zstd_level; /* 0: not compressed */
	/* Only what differs: so many messages bring a parent's files, newest first. */
	unsigned parents;
	bool pagemap; /* it says its pid, and waits for a message with its page map */
};

/* Empty regular files, open for writing. */
struct snapshot_files {
	int channel; /* SOCK_SEQPACKET: where the child says what came of it */
	struct snapshot_how how;
	int memory, index, state;
	int layers[MAX_FILES]; /* one a copy-on-write disk, in order; the rest -1 */
};

/*
 * The message that brings them has these in this order, then the layers. That of a parent has
 * its memory.index, and its layers.
 */
#define SNAPSHOT_FIXED_FILES  3
#define SNAPSHOT_FILES_MAX    (SNAPSHOT_FIXED_FILES + MAX_FILES)
/* Bytes of a message. */
#define SNAPSHOT_MESSAGE      1024

/* Status of a child that has folded the layers of disks (devices/disk.h); any other: it has not. */
#define SNAPSHOT_CHILD_FOLDED 7

/* Why @opt's machine cannot be in @what (a snapshot, a reset point): -EOPNOTSUPP, or 0. */
int snapshot_possible(const struct run_options *opt, const char *what, struct foal_error *err);

/* How many layers of disks it has. */
unsigned snapshot_layers(const struct run_options *opt);

/*
 * Pause @vm, take its state, fork the child that writes it to @files, resume. One at a
 * time: -EBUSY while @job has a child. @files stay the caller's. FOAL_EXIT_CONTROL.
 */
int snapshot_begin(struct vm *vm, struct frozen_child *job, const struct snapshot_files *files,
		   struct frozen_pause *out, struct foal_error *err);

/* Has the child ended? What it held is given back then. True: there is none (any more). */
bool snapshot_reap(struct vm *vm, struct frozen_child *job);

/* snapshot_child.c: write all, say so, end. In the child. */
_Noreturn void snapshot_child(struct vm *vm, const struct snapshot_files *files,
			      const uint8_t *state, size_t len);

#endif
