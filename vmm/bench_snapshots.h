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
	pid_t keeper;
};

/* One measurement of a case: plain 0 where there is no other side. */
struct snap_pair {
	double ours, plain;
	double also, own;	       /* of ours, for rows that say so */
	double also_plain;	       /* beside also; 0: there is none */
	double charged, charged_plain; /* MiB; 0: not looked at */
	double cpu, cpu_plain;	       /* ms of CPU time of the process; 0: not looked at */
	uint64_t faults, brought;      /* of our side: as its counters say */
};

enum snap_touch_flags {
	SNAP_SET = 1,	 /* with a recorded working set */
	SNAP_COLD = 2,	 /* no file is in the page cache */
	SNAP_HUGE = 4,	 /* --huge always */
	SNAP_RECORD = 8, /* write the working set; no pair */
	SNAP_PLAIN = 16, /* the other side */
	SNAP_ALL = 32,	 /* --prefetch all; of a reset: all of the state */
	SNAP_AGAIN = 64, /* a fork of a fork */
	SNAP_POOL = 128, /* clones made ahead */
};

struct snap_case {
	/* 0, or -1 with bench->why. */
	int (*measure)(struct snap_bench *bench, const struct snap_case *c, unsigned round,
		       struct snap_pair *out);
	unsigned mib, flags; /* its own parameters */
	unsigned pages;
	unsigned times, shared; /* samples a round; or rounds that share one */
};

/*
 * bench_snap_dir.c: bench->dir. It goes with all VMs that have their names there; in whatever
 * way the bench ends. 0, or a negative errno with @err.
 */
int snap_dir_make(struct snap_bench *bench, struct foal_error *err);
void snap_dir_remove(const struct snap_bench *bench);

/* bench_snap_vm.c: whole VMs, as a user starts them. */
int snap_restore(struct snap_bench *bench, const struct snap_case *c, unsigned round,
		 struct snap_pair *out);
int snap_pause(struct snap_bench *bench, const struct snap_case *c, unsigned round,
	       struct snap_pair *out);

/* bench_snap_fork.c: forks of a VM that writes. */
int snap_fork(struct snap_bench *bench, const struct snap_case *c, unsigned round,
	      struct snap_pair *out);
/* Its plain side's own process: foal bench-fork. */
int command_bench_fork(int argc, char **argv, uint64_t main_ns);

/* bench_snap_reset.c: resets, which the guest rings for. */
int snap_reset(struct snap_bench *bench, const struct snap_case *c, unsigned round,
	       struct snap_pair *out);
/* What the guest does: writes @pages and rings @ring (FOAL_RESET_*), @resets times. */
struct bench_job snap_reset_job(unsigned pages, unsigned resets, unsigned ring);
/* The other side's own process: foal bench-reset. */
int command_bench_reset(int argc, char **argv, uint64_t main_ns);

/* bench_snap_clone.c: a template's clones. */
int snap_clone(struct snap_bench *bench, const struct snap_case *c, unsigned round,
	       struct snap_pair *out);
int snap_clone_touch(struct snap_bench *bench, const struct snap_case *c, unsigned round,
		     struct snap_pair *out);

/* bench_snap_many.c: a thousand of them. */
int snap_clones(struct snap_bench *bench, const struct snap_case *c, unsigned round,
		struct snap_pair *out);

/* bench_snap_touch.c: memory alone, touched by the bench's guest. */
int snap_touch(struct snap_bench *bench, const struct snap_case *c, unsigned round,
	       struct snap_pair *out);
/* Its sample's own process: foal bench-touch. */
int command_bench_touch(int argc, char **argv, uint64_t main_ns);

/* --- what such rows are made of (bench_snap_job.c) -------------------------------------- */

/* Where the pages lie that a guest touches: behind all that is loaded. */
#define RAM_BASE 0x10000000UL

/* A program that was started: what it says, and how to make it end. */
struct snap_job {
	pid_t pid;
	int out, in;
};

/* @stamp: the moment before exec comes first, for snap_stamp(). 0, or -1 with bench->why. */
int snap_start(struct snap_bench *bench, const char *path, char *const argv[], bool stamp,
	       struct snap_job *job);
/* The same of foal itself. */
int snap_start_self(struct snap_bench *bench, char *const argv[], bool stamp, struct snap_job *job);
int snap_stamp(struct snap_job *job, uint64_t *ns);
/* All that it says until it ends, or until it says @word (NULL: nothing does). 0 or -1. */
int snap_hear(struct snap_job *job, const char *word, char *text, size_t size);
/* Wait for its end. -1: it did not end with 0. */
int snap_finish(struct snap_job *job);
void snap_kill(struct snap_job *job);

/* A foal command, to its end; what it says is JSON. NULL with bench->why; else the caller's. */
json_t *snap_ask(struct snap_bench *bench, char *const argv[]);
/* The same, but one that failed may have done a part: what it says of that, or NULL. */
json_t *snap_ask_all(struct snap_bench *bench, char *const argv[], bool *failed);
double snap_number(const json_t *said, const char *field);

/* A VM with the bench's guest that has said "ready"; its kernel is made for its name, once. */
int snap_start_guest(struct snap_bench *bench, const char *name, const struct bench_job *job,
		     const char *memory, const char *huge, struct snap_job *vm);
void snap_stop_vm(struct snap_bench *bench, const char *name);

/*
 * Both sides of a pair, each into its part of @out; the plain one is first in odd rounds. What the
 * first cannot the second is spared.
 */
typedef int snap_side(struct snap_bench *bench, const struct snap_case *c, struct snap_pair *out);
int snap_in_turn(struct snap_bench *bench, const struct snap_case *c, unsigned round,
		 snap_side *plain, snap_side *ours, struct snap_pair *out);

/* exec to where bare_kvm could run its guest; 0 without --bare. */
int snap_bare(struct snap_bench *bench, unsigned mib, double *us);

/* --- what rows of clones are made of (bench_snap_clone.c) -------------------------------- */

/* Pages of a clone's memory that its template's guest touched: 64 MiB, below RAM_BASE. */
#define SNAP_TOUCHED_BASE 0x4000000UL
#define SNAP_TOUCHED	  16384

/*
 * NAME.template, of a VM of 256 MiB whose guest did @job; nothing else is left of it. Its process
 * is *@pid (NULL: nobody asks).
 */
int snap_template(struct snap_bench *bench, const char *name, const struct bench_job *job,
		  const char *huge, const char *pool, pid_t *pid);
void snap_end_template(struct snap_bench *bench, const char *name);
/*
 * What foal clone says of @count clones, called "cloned" (NULL: one), cloned-1, cloned-2, ...; with
 * *@failed (NULL: it says nothing then) of those that run, too. The caller's.
 */
json_t *snap_clone_of(struct snap_bench *bench, const char *name, const char *count, bool *failed);
double snap_first_run_us(const json_t *said, size_t clone);

/*
 * The bare program as @what, @how (NULL: nothing more), until it is ready; microseconds from the
 * byte that asks for it to the moment that it says, as ours counts from the request; its
 * end, which fails if @r did. 0 or -1, the last with bench->why.
 */
int snap_start_bare(struct snap_bench *bench, unsigned mib, const char *what, const char *how,
		    struct snap_job *job);
int snap_time_bare(struct snap_job *job, double *us);
int snap_end_bare(struct snap_bench *bench, struct snap_job *job, int r);

/* Say why it cannot be measured: -1. */
int snap_cannot(struct snap_bench *bench, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
