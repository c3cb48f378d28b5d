/* Interval timers: setitimer, getitimer, alarm. */
#include "guest/include/itimer.h"
#include "guest/include/errno.h"
#include "guest/include/process.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"
#include "guest/include/timespec.h"
#include "guest/include/uaccess.h"

#define NSEC_PER_USEC 1000UL
#define USEC_PER_SEC  1000000L

#define ITIMER_REAL   0

struct timeval {
	s64 sec, usec;
};

struct itimerval {
	struct timeval interval, value;
};

static u64 first = ~0UL; /* written under process_lock */

u64 itimers_first(void)
{
	return READ_ONCE(first);
}

/* process_lock held. */
static void find_first(void)
{
	u64 next = ~0UL;

	for (struct process *p = process_next(NULL); p; p = process_next(p))
		if (p->itimer.expires)
			next = MIN(next, p->itimer.expires);
	__atomic_store_n(&first, next, __ATOMIC_RELAXED);
}

/* process_lock held. What has ended has no use for it. */
static void expire(struct process *p)
{
	const struct siginfo info = {.signo = SIGALRM, .code = SI_KERNEL};

	p->itimer.last = p->itimer.expires;
	p->itimer.expires = 0;
	if (!p->ending)
		signal_send(p, &info);
}

void itimers_expire(u64 now)
{
	u64 irq;

	if (now < itimers_first())
		return;
	irq = spin_lock_irqsave(&process_lock);
	for (struct process *p = process_next(NULL); p; p = process_next(p))
		if (p->itimer.expires && p->itimer.expires <= now)
			expire(p);
	find_first();
	spin_unlock_irqrestore(&process_lock, irq);
}

/* The CPU's timer may have to come earlier from now on. */
static void arm(struct itimer *it, u64 expires)
{
	it->expires = expires;
	find_first();
}

void itimer_taken(void)
{
	struct itimer *it = &current->process->itimer;
	u64 irq = spin_lock_irqsave(&process_lock), now = ktime_ns();
	bool again = it->interval && !it->expires && it->last;

	if (again)
		arm(it, it->last + ((now - it->last) / it->interval + 1) * it->interval);
	spin_unlock_irqrestore(&process_lock, irq);
	if (again)
		sched_arm_timer();
}

/* Nanoseconds to its end, at least one while it is armed; 0: it is not. process_lock held. */
static u64 left(const struct itimer *it)
{
	u64 now = ktime_ns();

	if (!it->expires)
		return 0;
	return it->expires > now ? it->expires - now : 1;
}

/* From now on value and interval, in nanoseconds; what was left before, and *interval. */
static u64 exchange(u64 value, u64 *interval)
{
	struct itimer *it = &current->process->itimer;
	u64 irq = spin_lock_irqsave(&process_lock);
	u64 old_value = left(it), old_interval = it->interval;

	it->interval = value ? *interval : 0;
	it->last = 0;
	arm(it, value ? ktime_ns() + value : 0);
	spin_unlock_irqrestore(&process_lock, irq);
	sched_arm_timer();
	*interval = old_interval;
	return old_value;
}

static bool is_time(struct timeval t)
{
	return t.sec >= 0 && t.usec >= 0 && t.usec < USEC_PER_SEC;
}

static u64 to_ns(struct timeval t)
{
	return MIN((u64)t.sec, SECONDS_MAX) * NSEC_PER_SEC + (u64)t.usec * NSEC_PER_USEC;
}

/* What is not over is at least a microsecond. */
static struct timeval from_ns(u64 ns)
{
	u64 us = (ns + NSEC_PER_USEC - 1) / NSEC_PER_USEC;

	return (struct timeval){(s64)(us / USEC_PER_SEC), (s64)(us % USEC_PER_SEC)};
}

static s64 tell(u64 user, u64 value, u64 interval)
{
	const struct itimerval told = {.interval = from_ns(interval), .value = from_ns(value)};

	return copy_to_user(user, &told, sizeof(told)) ? -EFAULT : 0;
}

SYSCALL(getitimer)
{
	const struct itimer *it = &current->process->itimer;
	u64 value, interval, irq;

	if ((int)regs->rdi != ITIMER_REAL)
		return -EINVAL;
	irq = spin_lock_irqsave(&process_lock);
	value = left(it);
	interval = it->interval;
	spin_unlock_irqrestore(&process_lock, irq);
	return tell(regs->rsi, value, interval);
}

SYSCALL(setitimer)
{
	struct itimerval asked = {0};
	u64 value, interval;

	if (regs->rsi && copy_from_user(&asked, regs->rsi, sizeof(asked)))
		return -EFAULT;
	if (!is_time(asked.value) || !is_time(asked.interval) || (int)regs->rdi != ITIMER_REAL)
		return -EINVAL;
	interval = to_ns(asked.interval);
	value = exchange(to_ns(asked.value), &interval);
	return regs->rdx ? tell(regs->rdx, value, interval) : 0;
}

/* Whole seconds, the nearest, but not 0 while there is something left. */
SYSCALL(alarm)
{
	u64 interval = 0, value = exchange((u32)regs->rdi * NSEC_PER_SEC, &interval);
	u64 seconds = (value + NSEC_PER_SEC / 2) / NSEC_PER_SEC;

	return value && !seconds ? 1 : (s64)seconds;
}
