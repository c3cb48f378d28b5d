/* Interval timers: setitimer, getitimer, alarm. */
#include "guest/include/itimer.h"
#include "guest/include/errno.h"
#include "guest/include/ktimer.h"
#include "guest/include/process.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"
#include "guest/include/timespec.h"
#include "guest/include/uaccess.h"

#define NSEC_PER_USEC 1000UL
#define USEC_PER_SEC  1000000L

enum { ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF };

struct timeval {
	s64 sec, usec;
};

struct itimerval {
	struct timeval interval, value;
};

/* What has ended has no use for it. */
static void fires(struct ktimer *kt)
{
	struct process *p = container_of(kt, struct process, itimer.timer);
	const struct siginfo info = {.signo = SIGALRM, .code = SI_KERNEL};

	interval_ended(&p->itimer, kt->expires);
	if (!p->ending)
		signal_send(p, &info);
}

void itimer_init(struct process *p)
{
	ktimer_init(&p->itimer.timer, fires);
}

void itimer_end(struct process *p)
{
	u64 irq = spin_lock_irqsave(&timers_lock);

	ktimer_disarm(&p->itimer.timer);
	spin_unlock_irqrestore(&timers_lock, irq);
}

void itimer_taken(void)
{
	struct interval *it = &current->process->itimer;
	u64 irq = spin_lock_irqsave(&timers_lock);
	bool again = it->last;

	(void)interval_again(it, ktime_ns());
	spin_unlock_irqrestore(&timers_lock, irq);
	if (again)
		sched_arm_timer();
}

/* From now on value and interval, in nanoseconds; what was left before, and *interval. */
static u64 exchange(u64 value, u64 *interval)
{
	struct interval *it = &current->process->itimer;
	u64 irq = spin_lock_irqsave(&timers_lock), now = ktime_ns();
	u64 old_value = interval_left(it, now), old_interval = it->period;

	interval_set(it, value ? now + value : 0, *interval);
	spin_unlock_irqrestore(&timers_lock, irq);
	sched_arm_timer();
	*interval = old_interval;
	return old_value;
}

/* The same of any of the three. */
static u64 exchange_any(int which, u64 value, u64 *interval)
{
	if (which == ITIMER_REAL)
		return exchange(value, interval);
	return cputimer_exchange(which - ITIMER_VIRTUAL + CPUTIMER_VIRTUAL, value, interval);
}

static u64 left_of_any(int which, u64 *interval)
{
	const struct interval *it = &current->process->itimer;
	u64 irq, value;

	if (which != ITIMER_REAL)
		return cputimer_left(which - ITIMER_VIRTUAL + CPUTIMER_VIRTUAL, interval);
	irq = spin_lock_irqsave(&timers_lock);
	value = interval_left(it, ktime_ns());
	*interval = it->period;
	spin_unlock_irqrestore(&timers_lock, irq);
	return value;
}

static bool is_timer(int which)
{
	return which >= ITIMER_REAL && which <= ITIMER_PROF;
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
	u64 value, interval;

	if (!is_timer((int)regs->rdi))
		return -EINVAL;
	value = left_of_any((int)regs->rdi, &interval);
	return tell(regs->rsi, value, interval);
}

SYSCALL(setitimer)
{
	struct itimerval asked = {0};
	u64 value, interval;

	if (regs->rsi && copy_from_user(&asked, regs->rsi, sizeof(asked)))
		return -EFAULT;
	if (!is_time(asked.value) || !is_time(asked.interval) || !is_timer((int)regs->rdi))
		return -EINVAL;
	interval = to_ns(asked.interval);
	value = exchange_any((int)regs->rdi, to_ns(asked.value), &interval);
	return regs->rdx ? tell(regs->rdx, value, interval) : 0;
}

/* Whole seconds, the nearest, but not 0 while there is something left. */
SYSCALL(alarm)
{
	u64 interval = 0, value = exchange((u32)regs->rdi * NSEC_PER_SEC, &interval);
	u64 seconds = (value + NSEC_PER_SEC / 2) / NSEC_PER_SEC;

	return value && !seconds ? 1 : (s64)seconds;
}
