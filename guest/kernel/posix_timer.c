/* timer_create, timer_settime and their like. */
#include "guest/include/posix_timer.h"
#include "guest/include/errno.h"
#include "guest/include/ktimer.h"
#include "guest/include/page.h"
#include "guest/include/process.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"
#include "guest/include/timespec.h"
#include "guest/include/uaccess.h"

#define SIGEV_SIGNAL	0
#define SIGEV_NONE	1
#define SIGEV_THREAD	2 /* the C library's; to the kernel a signal */
#define SIGEV_THREAD_ID 4
#define TIMER_ABSTIME	1
#define IGNORED_AGAIN	1000000UL /* ns: a signal that is ignored is sent no more often */
#define OVERRUN_MAX	0x7fffffffUL

struct posix_timer {
	struct list link; /* in the process's */
	struct process *process;
	struct interval interval;
	struct sigqueued signal;
	int notify, tid;
	int overrun; /* of the signal that was taken last */
};

struct sigevent {
	u64 value;
	s32 signo, notify, tid;
	s32 rest[11];
};

/* --- the end of one --------------------------------------------------------------------------- */

static void timer_fires(struct ktimer *kt)
{
	struct posix_timer *t = container_of(kt, struct posix_timer, interval.timer);
	struct interval *it = &t->interval;

	interval_ended(it, kt->expires);
	if (!t->process->ending && !signal_send_lasting(t->process, t->tid, &t->signal) &&
	    it->period)
		(void)interval_again(it, ktime_ns() + IGNORED_AGAIN);
}

static struct posix_timer *find(int id)
{
	struct posix_timer *t;

	list_for_each(t, &current->process->timers, link)
	{
		if (t->signal.info.timer.id == id)
			return t;
	}
	return NULL;
}

void posix_timer_taken(struct siginfo *info)
{
	struct posix_timer *t = find(info->timer.id);
	u64 irq, missed;

	if (!t)
		return;
	irq = spin_lock_irqsave(&timers_lock);
	missed = interval_again(&t->interval, ktime_ns());
	spin_unlock_irqrestore(&timers_lock, irq);
	t->overrun = (int)MIN(missed, OVERRUN_MAX);
	info->timer.overrun = t->overrun;
	sched_arm_timer();
}

/* --- made and given back ---------------------------------------------------------------------- */

static void free_timer(struct posix_timer *t)
{
	u64 irq = spin_lock_irqsave(&timers_lock);

	ktimer_disarm(&t->interval.timer);
	spin_unlock_irqrestore(&timers_lock, irq);
	signal_withdraw(&t->signal);
	signal_unreserve();
	list_del(&t->link);
	kfree(t);
}

void posix_timers_end(struct process *p)
{
	struct posix_timer *t, *next;

	list_for_each_safe(t, next, &p->timers, link) free_timer(t);
}

/* All clocks count from boot. Those of a program's time are not there. */
static s64 check_clock(u64 clock)
{
	switch ((int)clock) {
	case 0:	 /* REALTIME */
	case 1:	 /* MONOTONIC */
	case 7:	 /* BOOTTIME */
	case 11: /* TAI */
		return 0;
	case 2 ... 6:
	case 8:
	case 9:
		return -EOPNOTSUPP;
	default:
		return -EINVAL;
	}
}

static bool can_be_told(const struct sigevent *e)
{
	const struct task *t;

	switch (e->notify) {
	case SIGEV_THREAD_ID:
		t = task_find(e->tid);
		if (!t || t->process != current->process)
			return false;
		break;
	case SIGEV_SIGNAL:
	case SIGEV_THREAD:
		break;
	case SIGEV_NONE:
		return true;
	default:
		return false;
	}
	return e->signo >= 1 && e->signo <= NR_SIGNALS;
}

static struct posix_timer *make_timer(const struct sigevent *e, bool asked)
{
	struct process *p = current->process;
	struct posix_timer *t = kzalloc(sizeof(*t));
	struct siginfo *info;

	if (!t || !signal_reserve(p)) {
		kfree(t);
		return NULL;
	}
	ktimer_init(&t->interval.timer, timer_fires);
	t->process = p;
	t->notify = e->notify;
	t->tid = e->notify == SIGEV_THREAD_ID ? e->tid : 0;
	info = &t->signal.info;
	info->signo = e->signo;
	info->code = SI_TIMER;
	info->timer.id = p->next_timer++;
	info->timer.value = asked ? e->value : (u32)info->timer.id;
	list_init(&t->signal.link);
	list_add_tail(&t->link, &p->timers);
	return t;
}

SYSCALL(timer_create)
{
	struct sigevent e = {.signo = SIGALRM, .notify = SIGEV_SIGNAL};
	struct posix_timer *t;
	s64 err;

	if (regs->rsi && copy_from_user(&e, regs->rsi, sizeof(e)))
		return -EFAULT;
	err = check_clock(regs->rdi);
	if (err)
		return err;
	if (!can_be_told(&e))
		return -EINVAL;
	t = make_timer(&e, regs->rsi);
	if (!t)
		return -EAGAIN;
	if (copy_to_user(regs->rdx, &t->signal.info.timer.id, sizeof(s32))) {
		free_timer(t);
		return -EFAULT;
	}
	return 0;
}

SYSCALL(timer_delete)
{
	struct posix_timer *t = find((int)regs->rdi);

	if (!t)
		return -EINVAL;
	free_timer(t);
	return 0;
}

/* --- set and asked ---------------------------------------------------------------------------- */

/* Nobody is told of its end: it goes on without the list. */
static u64 left_of_silent(const struct interval *it, u64 now)
{
	u64 expires = it->timer.expires;

	if (!expires || (expires <= now && !it->period))
		return 0;
	if (expires <= now)
		expires += ((now - expires) / it->period + 1) * it->period;
	return expires - now;
}

/* timers_lock held. */
static u64 left(const struct posix_timer *t)
{
	const struct interval *it = &t->interval;
	u64 now = ktime_ns();

	if (t->notify == SIGEV_NONE)
		return left_of_silent(it, now);
	return interval_left_going_on(it, now);
}

static void set(struct posix_timer *t, u64 expires, u64 period)
{
	struct interval *it = &t->interval;

	interval_set(it, t->notify == SIGEV_NONE ? 0 : expires, period);
	if (t->notify == SIGEV_NONE) {
		it->timer.expires = expires;
		it->period = expires ? period : 0;
	}
	t->overrun = 0;
}

static struct itimerspec now_of(const struct posix_timer *t)
{
	return (struct itimerspec){timespec_from_ns(t->interval.period), timespec_from_ns(left(t))};
}

SYSCALL(timer_settime)
{
	struct itimerspec new, old;
	struct posix_timer *t;
	u64 irq, value;

	if (!regs->rdx)
		return -EINVAL;
	if (copy_from_user(&new, regs->rdx, sizeof(new)))
		return -EFAULT;
	t = find((int)regs->rdi);
	if (!timespec_valid(new.value) || !timespec_valid(new.interval) || !t)
		return -EINVAL;
	value = timespec_ns(new.value);
	irq = spin_lock_irqsave(&timers_lock);
	signal_withdraw(&t->signal);
	old = now_of(t);
	if (value && !(regs->rsi & TIMER_ABSTIME))
		value += ktime_ns();
	set(t, value, timespec_ns(new.interval));
	spin_unlock_irqrestore(&timers_lock, irq);
	sched_arm_timer();
	return regs->r10 && copy_to_user(regs->r10, &old, sizeof(old)) ? -EFAULT : 0;
}

SYSCALL(timer_gettime)
{
	const struct posix_timer *t = find((int)regs->rdi);
	struct itimerspec now;
	u64 irq;

	if (!t)
		return -EINVAL;
	irq = spin_lock_irqsave(&timers_lock);
	now = now_of(t);
	spin_unlock_irqrestore(&timers_lock, irq);
	return copy_to_user(regs->rsi, &now, sizeof(now)) ? -EFAULT : 0;
}

SYSCALL(timer_getoverrun)
{
	const struct posix_timer *t = find((int)regs->rdi);

	return t ? t->overrun : -EINVAL;
}
