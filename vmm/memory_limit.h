/* --memory-limit and --swap: what they say, the swap file, what is said during the run. */
#ifndef FOAL_VMM_MEMORY_LIMIT_H
#define FOAL_VMM_MEMORY_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "ept/ept.h"
#include "vmm/error.h"

struct run_options;

/* Of the guest's memory, where --swap does not say: its images lie in blocks that fill up holes. */
#define SWAP_DEFAULT_TIMES 4

struct memory_limit {
	uint64_t bytes; /* 0: none */
	char *swap;	/* a path, owned; NULL: no swap file */
	uint64_t swap_size;
};

int option_memory_limit(const char *name, const char *value, struct run_options *out,
			struct foal_error *err);
int option_swap(const char *name, const char *value, struct run_options *out,
		struct foal_error *err);

/* What holds between them and the rest; fills in what was not said. */
int memory_limit_check(struct run_options *opt, struct foal_error *err);

/*
 * Open the swap file: one that is made has no name, or is unlinked at once; one that is there has
 * to be empty. *@fd is the caller's to close.
 */
int swap_open(const struct memory_limit *limit, int *fd, struct foal_error *err);

/* Say once that nothing can be swapped any more. *@said is the caller's, false at first. */
void memory_limit_look(const struct ept_space *space, const char *vm_name, const char *swap,
		       bool *said);

#endif
