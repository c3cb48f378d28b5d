/*
 * The system calls that a run makes, and which kind of thread makes them: the
 * source of the seccomp filters (make_filters.c compiles them when foal is
 * built) and of the table in docs/sandbox.md.
 */
#ifndef FOAL_VMM_FILTERS_RULES_H
#define FOAL_VMM_FILTERS_RULES_H

#include <seccomp.h>
#include <stddef.h>

#include "vmm/thread_kinds.h"

struct rule {
	unsigned kinds;	  /* bit 1 << THREAD_x: that kind may */
	int number;	  /* of the system call */
	const char *call; /* its name */
	const char *only; /* the arguments that are let through; NULL: any */
	unsigned nr_args;
	struct scmp_arg_cmp args[2]; /* the same for libseccomp; all must hold */
	int answer;		     /* errno that it gets instead; 0: it is let through */
};

extern const struct rule rules[];
extern const size_t nr_rules;

#endif
