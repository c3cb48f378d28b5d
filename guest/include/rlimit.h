/* Resource limits, as getrlimit(2) has them. Those on memory and on
 * queued signals are met; the others are kept. */
#ifndef GUEST_RLIMIT_H
#define GUEST_RLIMIT_H

#include "guest/include/types.h"

#define RLIMIT_DATA	  2
#define RLIMIT_STACK	  3
#define RLIMIT_NOFILE	  7
#define RLIMIT_MEMLOCK	  8
#define RLIMIT_AS	  9
#define RLIMIT_SIGPENDING 11
#define RLIM_NLIMITS	  16
#define RLIM_INFINITY	  (~0UL)

struct rlimit {
	u64 cur, max;
};

struct process;

/* What the first program has; a child has its parent's. */
void rlimits_init(struct process *p);
/* The current process's soft limit: bytes. */
u64 rlimit(unsigned resource);

#endif
