/*
 * `foal bench snapshots`: what restores, clones, forks and resets cost, each beside what
 * anyone would do instead, in turns in one run. docs/bench.md. Private to vmm/bench_snap*.c.
 *
 * A case measures a pair of values; a row is a case and a bar for it.
 */
#ifndef FOAL_VMM_BENCH_SNAPSHOTS_H
#define FOAL_VMM_BENCH_SNAPSHOTS_H

#include "vmm/bench.h"
#include "vmm/bench_guest/job.h"

/* The bench under way. All that it writes lies in @dir, which is removed at its end. */
struct snap_bench {
	const struct bench_options *opt;
	char dir[3000];
	char why[480]; /* what is being measured cannot be */
	struct bench_warm warm;
	int memory, index, set; /* of the touched snapshot; -1: not made yet */
};

/* One measurement of a case: plain 0 where there is no other side. */
struct snap_pair {
	double ours, plain;
	double cpu, cpu_plain;	  /* ms of CPU time of the process; 0: not looked at */
	uint64_t faults, brought; /* of our side: as its counters say */
};

enum snap_touch_flags {
	SNAP_SET = 1,	 /* with a recorded working set */
	SNAP_COLD = 2,	 /* no file is in the page cache */
	SNAP_HUGE = 4,	 /* --huge always */
	SNAP_RECORD = 8, /* write the working set; no pair */
	SNAP_PLAIN = 16, /* the other side */
	SNAP_ALL = 32,	 /* --prefetch all */
	SNAP_AGAIN = 64, /* a fork of a fork */
	SNAP_FORK = 128, /* bench-touch: fork() of a VM */
};

struct snap_case {
	/* 0, or -1 with bench->why; NULL: this build cannot do it yet. */
	int (*measure)(struct snap_bench *bench, const struct snap_case *c, unsigned round,
		       struct snap_pair *out);
	const char *missing; /* then: what is */
	unsigned mib, flags; /* its own parameters */
	unsigned pages;
	unsigned times, shared; /* samples a round; or rounds that share one */
};

/* bench_snap_vm.c: whole VMs, as a user starts them. */
int snap_restore(struct snap_bench *bench, const struct snap_case *c, unsigned round,
		 struct snap_pair *out);
int snap_pause(struct snap_bench *bench, const struct snap_case *c, unsigned round,
	       struct snap_pair *out);

int snap_reset(struct snap_bench *bench, const struct snap_case *c, unsigned round,
	       struct snap_pair *out);
int snap_fork(struct snap_bench *bench, const struct snap_case *c, unsigned round,
	      struct snap_pair *out);

/* Milliseconds of a fork() of a process with a VM of @c's memory, in 4 KiB pages. */
int snap_bare_fork(struct snap_bench *bench, const struct snap_case *c, double *ms);

/* bench_snap_touch.c: memory alone, touched by the bench's guest. */
int snap_touch(struct snap_bench *bench, const struct snap_case *c, unsigned round,
	       struct snap_pair *out);
/* Its sample's own process: foal bench-touch. */
int command_bench_touch(int argc, char **argv, uint64_t main_ns);

/* Say why it cannot be measured: -1. */
int snap_cannot(struct snap_bench *bench, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
