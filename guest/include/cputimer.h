/*
 * Timers of the time that a process runs (ITIMER_VIRTUAL, ITIMER_PROF). Only while one is armed it
 * is counted: its CPUs' timers come every 10 ms, and what ran since the last time is the user's or
 * the kernel's by where the interrupt came; what a task ran before it gave its CPU up is the
 * user's.
 */
#ifndef GUEST_CPUTIMER_H
#define GUEST_CPUTIMER_H

#include "guest/include/types.h"

enum cputimer_kind { CPUTIMER_VIRTUAL, CPUTIMER_PROF, NR_CPUTIMERS };

#define CPUTIMER_TICK 10000000UL /* ns */

struct process;
struct task;

/* timers_lock; on is read without. */
struct cputimers {
	bool on; /* one is armed */
	struct {
		u64 left; /* ns; 0: not armed */
		u64 period;
	} timer[NR_CPUTIMERS];
};

/* What the current task ran since the last time is counted. No lock held, interrupts off. */
void cputime_charge(bool user);
/* Does the CPU of this task have to come by every CPUTIMER_TICK? */
bool cputime_counts(const struct task *t);

/* The current process's from now on, in nanoseconds; what it was before: returned, and *period. */
u64 cputimer_exchange(enum cputimer_kind kind, u64 value, u64 *period);
u64 cputimer_left(enum cputimer_kind kind, u64 *period);

#endif
