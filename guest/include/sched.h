/*
 * Waiting and waking. The CPUs run tasks in turn; a task gives its CPU up when it sleeps, and on
 * its way back to user mode once its slice is over. Kernel code is not preempted by other tasks,
 * only by interrupt handlers.
 */
#ifndef GUEST_SCHED_H
#define GUEST_SCHED_H

#include "guest/include/list.h"
#include "guest/include/spinlock.h"
#include "guest/include/types.h"

struct task;

struct wait_queue {
	struct spinlock lock;
	struct list waiters;
};

/* One sleeper, on its stack. */
struct waiter {
	struct list link;
	struct task *task;
};

#define WAIT_QUEUE_INIT(q) \
	{ \
		.waiters = { &(q).waiters, &(q).waiters } \
	}

void wait_queue_init(struct wait_queue *q);

/* Wakes every task that waits on q. Any context. */
void wake_up_waiters(struct wait_queue *q);
static inline void wake_up(struct wait_queue *q)
{
	/* What was made true, before the look at who waits; see set_current_state(). */
	smp_mb();
	if (unlikely(!list_empty(&q->waiters)))
		wake_up_waiters(q);
}

/* The three steps under wait_event; use that. */
void wait_prepare(struct wait_queue *q, struct waiter *w);
void wait_finish(struct wait_queue *q, struct waiter *w);
void schedule(void);
/* Wakes at the deadline by itself (ktime). */
void schedule_until(u64 deadline);

/*
 * Interrupts off, and on the way to user mode: the slice is over before it was used. There is
 * another, for no timer would end this one.
 */
void sched_renew_slice(void);

/*
 * Sleeps until cond, evaluated again after every wake_up(&q), holds. Who makes it true calls
 * wake_up afterwards. Once cond held it is not evaluated again, so it may take a lock. Process
 * context, no spinlock held, interrupts on.
 */
#define wait_event(q, cond) \
	do { \
		struct waiter waiter_; \
		bool held_ = (cond); \
		while (!held_) { \
			wait_prepare(&(q), &waiter_); \
			held_ = (cond); \
			if (!held_) \
				schedule(); \
			wait_finish(&(q), &waiter_); \
		} \
	} while (0)

/* The same, until the deadline at the latest (ktime); ~0: for ever. */
#define wait_event_until(q, cond, deadline) \
	do { \
		struct waiter waiter_; \
		bool held_ = (cond); \
		while (!held_ && ktime_ns() < (deadline)) { \
			wait_prepare(&(q), &waiter_); \
			held_ = (cond); \
			if (!held_) \
				schedule_until(deadline); \
			wait_finish(&(q), &waiter_); \
		} \
	} while (0)

/* The current task is to end: it waits for nothing that may never come. */
bool task_dying(void);

/* The same for what may never come to hold: -EINTR if the task is to end, else 0. */
#define wait_event_killable(q, cond) \
	({ \
		bool met_ = false; \
		wait_event(q, (met_ = (cond)) || task_dying()); \
		met_ ? 0 : -EINTR; \
	})

/* Is there a signal for the current task, or its end? */
bool signal_pending(void);

/* The same for what a signal may end, too: -ERESTARTSYS. */
#define wait_event_interruptible(q, cond) \
	({ \
		bool met_ = false; \
		wait_event(q, (met_ = (cond)) || signal_pending()); \
		met_ ? 0 : -ERESTARTSYS; \
	})

/* A lock that its holder may sleep with. Process context only; not recursive. */
struct mutex {
	struct task *owner;
	struct wait_queue wait;
};

#define MUTEX_INIT(m) \
	{ \
		.wait = WAIT_QUEUE_INIT((m).wait) \
	}

void mutex_init(struct mutex *m);
void mutex_lock(struct mutex *m);
bool mutex_trylock(struct mutex *m);
void mutex_unlock(struct mutex *m);

/* Monotonic time since boot, in nanoseconds. Any context. */
u64 ktime_ns(void);

/* The CPU's timer comes in time for what was armed. */
void sched_arm_timer(void);

/* What its threads' CPUs are to come by for has changed. */
struct process;
void sched_look_again(const struct process *p);

/* Sleeps ns nanoseconds, or until there is a signal; what was left. Process context. */
u64 sleep_ns(u64 ns);

#endif
