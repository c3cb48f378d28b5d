/*
 * What is to happen at a time: all that the system calls on timers arm is in one list, by time, and
 * the interrupt of any CPU's timer sees to what is due. On top of it intervals: they are armed
 * again when somebody has heard of the end, so that none is too short for the program to go on.
 */
#ifndef GUEST_KTIMER_H
#define GUEST_KTIMER_H

#include "guest/include/list.h"
#include "guest/include/spinlock.h"
#include "guest/include/types.h"

struct ktimer {
	struct list armed; /* in the list of all */
	u64 expires;	   /* ktime; 0: not armed */
	/* In the interrupt, timers_lock held, no longer armed; may arm it again. */
	void (*fire)(struct ktimer *t);
};

/* Guards all timers. Before signals_lock. */
extern struct spinlock timers_lock;

void ktimer_init(struct ktimer *t, void (*fire)(struct ktimer *t));
/* timers_lock held. Who arms outside of the interrupt calls sched_arm_timer() without it. */
void ktimer_arm(struct ktimer *t, u64 expires);
void ktimer_disarm(struct ktimer *t);

/* When the first of all ends (ktime); ~0: none is armed. Any context. */
u64 ktimers_first(void);
/* Timer interrupt: sees to what is due. No lock held. */
void ktimers_expire(u64 now);

/* One that may come over and over. */
struct interval {
	struct ktimer timer;
	u64 period; /* ns; 0: once */
	u64 last;   /* when it ended, if it is to be armed again; 0: it is not */
};

/* timers_lock held, all of them. */

/* expires 0: not at all. */
void interval_set(struct interval *it, u64 expires, u64 period);
/* From its fire(): it has ended, and waits to be armed again. */
void interval_ended(struct interval *it, u64 expired);
/* Somebody heard of its end: the next one is behind @now. How many were before that, unheard of. */
u64 interval_again(struct interval *it, u64 now);
/* Nanoseconds to its end, at least one while it is armed; 0: it is not. */
u64 interval_left(const struct interval *it, u64 now);
/* The same, as if it had been armed again already. */
u64 interval_left_going_on(const struct interval *it, u64 now);

#endif
