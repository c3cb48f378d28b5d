/*
 * Going back: guest memory as it was at a reset point, in place (docs/reset.md). Part of
 * the room's public header (ept.h).
 *
 * At the point what a page holds is kept aside if it is the space's own, and else where
 * it comes from (a file, a snapshot, nothing). Going back puts the old bytes into the
 * pages that were written since, where they lie: nothing is unmapped, protected or split,
 * so neither the host's page tables nor KVM's change. Who wrote is told by KVM's dirty log
 * (the caller asks for it) and, for the monitor's own writes and for what was given
 * back, noted here.
 *
 * All but ept_reset_free() are for a VM that stands still: vCPUs out of KVM_RUN, devices
 * drained. The space's own threads go on.
 */
#ifndef FOAL_EPT_RESET_H
#define FOAL_EPT_RESET_H

#include "ept/ept.h"

/*
 * What the guest wrote in each slot, in the order of ept_space_slots(): a bit a page,
 * bit 0 of word 0 the first, as KVM_GET_DIRTY_LOG gives it. NULL for a slot that nobody can
 * write to.
 */
typedef const uint64_t *const *ept_written;

/*
 * What memory holds now is what ept_reset_back() brings back. The first call makes a copy of
 * every page that is the space's own, which takes as much memory again (not counted by
 * a memory limit), and has @written NULL: from then on the caller logs. Later ones
 * look at what was written since the last. 0; -EOPNOTSUPP: an area writes to a file
 * (EPT_FILE_SHARED); -ENOMEM, -EIO (a page that cannot be read), -ESHUTDOWN; one line in @why.
 * After an error there is no point.
 */
int ept_reset_point(struct ept_space *space, ept_written written, char *why, size_t size);

/* The first word of @log at @from or behind it that is not 0, or @words: most are 0. */
uint64_t ept_words_next(const uint64_t *log, uint64_t from, uint64_t words);

struct ept_reset_stats {
	uint64_t pages; /* brought back, the last time */
	uint64_t read;	/* of these, first read from where they come from */
	uint64_t kept;	/* bytes kept aside */
};

/*
 * Bring back what was written since the point, or since this was last called. -EINVAL: there
 * is no point. -EIO, -ENOMEM, -ESHUTDOWN and a line in @why: *@begun says whether pages have
 * been changed; if not, memory is as it was, and what was written counts still.
 */
int ept_reset_back(struct ept_space *space, ept_written written, struct ept_reset_stats *out,
		   bool *begun, char *why, size_t size);

/* Bytes that are kept aside. */
uint64_t ept_reset_kept(const struct ept_space *space);

/* There is no point any more. NULL-safe; also of a space that has none. */
void ept_reset_free(struct ept_space *space);

#endif
