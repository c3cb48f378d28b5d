/* timerfd: a timer whose ends are read. */
#include "guest/include/errno.h"
#include "guest/include/file.h"
#include "guest/include/ktimer.h"
#include "guest/include/page.h"
#include "guest/include/sched.h"
#include "guest/include/syscall.h"
#include "guest/include/timespec.h"
#include "guest/include/uaccess.h"

#define TFD_TIMER_ABSTIME	1U
#define TFD_TIMER_CANCEL_ON_SET 2U /* nobody sets a clock here */

struct timerfd {
	struct interval interval;
	u64 ticks; /* ends that nobody has read, but those since the timer waits to go on */
	struct wait_queue ended;
};

static void fires(struct ktimer *kt)
{
	struct timerfd *t = container_of(kt, struct timerfd, interval.timer);

	interval_ended(&t->interval, kt->expires);
	t->ticks++;
	wake_up(&t->ended);
	poll_wake();
}

/* From now on there are none. */
static u64 take_ticks(struct timerfd *t)
{
	u64 irq = spin_lock_irqsave(&timers_lock), ticks = t->ticks;

	if (ticks)
		ticks += interval_again(&t->interval, ktime_ns());
	t->ticks = 0;
	spin_unlock_irqrestore(&timers_lock, irq);
	sched_arm_timer();
	return ticks;
}

static s64 timerfd_read(struct file *f, u64 *pos, u64 buf, size_t n)
{
	struct timerfd *t = f->private;
	u64 ticks;

	(void)pos;
	if (n < sizeof(ticks))
		return -EINVAL;
	if (!READ_ONCE(t->ticks) && f->flags & O_NONBLOCK)
		return -EAGAIN;
	if (wait_event_interruptible(t->ended, READ_ONCE(t->ticks)))
		return -ERESTARTSYS;
	ticks = take_ticks(t);
	return copy_to_user(buf, &ticks, sizeof(ticks)) ? -EFAULT : (s64)sizeof(ticks);
}

static u32 timerfd_poll(struct file *f)
{
	const struct timerfd *t = f->private;

	return READ_ONCE(t->ticks) ? POLLIN : 0;
}

static void timerfd_release(struct file *f)
{
	struct timerfd *t = f->private;
	u64 irq = spin_lock_irqsave(&timers_lock);

	ktimer_disarm(&t->interval.timer);
	spin_unlock_irqrestore(&timers_lock, irq);
	kfree(t);
}

static const struct file_ops timerfd_ops = {
    .read = timerfd_read, .poll = timerfd_poll, .release = timerfd_release};

/* The clocks that count from boot, as all do; those that wake the machine are not there. */
SYSCALL(timerfd_create)
{
	u32 clock = (u32)regs->rdi, flags = (u32)regs->rsi;
	struct timerfd *t;

	if (flags & ~(u32)(O_NONBLOCK | O_CLOEXEC) || (clock != 0 && clock != 1 && clock != 7))
		return -EINVAL;
	t = kzalloc(sizeof(*t));
	if (!t)
		return -ENOMEM;
	ktimer_init(&t->interval.timer, fires);
	wait_queue_init(&t->ended);
	return fd_install_new(flags, &timerfd_ops, t);
}

/* --- set and asked ---------------------------------------------------------------------------- */

static s64 timerfd_file(u64 fd, struct file **f)
{
	s64 err = -EINVAL;

	*f = fd_file(fd);
	if (!*f)
		return -EBADF;
	if ((*f)->ops == &timerfd_ops)
		return 0;
	if ((*f)->flags & O_PATH)
		err = -EBADF;
	file_put(*f);
	return err;
}

/* timers_lock held. */
static struct itimerspec now_of(const struct timerfd *t)
{
	return (struct itimerspec){
	    timespec_from_ns(t->interval.period),
	    timespec_from_ns(interval_left_going_on(&t->interval, ktime_ns()))};
}

/* What was before is returned. */
static struct itimerspec set(struct timerfd *t, const struct itimerspec *new, bool absolute)
{
	u64 value = timespec_ns(new->value), irq = spin_lock_irqsave(&timers_lock);
	const struct itimerspec old = now_of(t);

	if (value && !absolute)
		value += ktime_ns();
	interval_set(&t->interval, value, timespec_ns(new->interval));
	t->interval.period = timespec_ns(new->interval); /* kept while it is not armed */
	t->ticks = 0;
	spin_unlock_irqrestore(&timers_lock, irq);
	sched_arm_timer();
	return old;
}

SYSCALL(timerfd_settime)
{
	struct itimerspec new, old;
	u32 flags = (u32)regs->rsi;
	struct file *f;
	s64 err;

	if (copy_from_user(&new, regs->rdx, sizeof(new)))
		return -EFAULT;
	if (flags & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) || !timespec_valid(new.value) ||
	    !timespec_valid(new.interval))
		return -EINVAL;
	err = timerfd_file(regs->rdi, &f);
	if (err)
		return err;
	old = set(f->private, &new, flags & TFD_TIMER_ABSTIME);
	file_put(f);
	return regs->r10 && copy_to_user(regs->r10, &old, sizeof(old)) ? -EFAULT : 0;
}

SYSCALL(timerfd_gettime)
{
	struct itimerspec now;
	struct file *f;
	s64 err = timerfd_file(regs->rdi, &f);
	u64 irq;

	if (err)
		return err;
	irq = spin_lock_irqsave(&timers_lock);
	now = now_of(f->private);
	spin_unlock_irqrestore(&timers_lock, irq);
	file_put(f);
	return copy_to_user(regs->rsi, &now, sizeof(now)) ? -EFAULT : 0;
}
