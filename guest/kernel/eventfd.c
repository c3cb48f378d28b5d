/*
 * eventfd: a number behind a descriptor. The kernel lock guards it: between a look at it and its
 * change nothing sleeps.
 */
#include "guest/include/errno.h"
#include "guest/include/file.h"
#include "guest/include/page.h"
#include "guest/include/sched.h"
#include "guest/include/syscall.h"
#include "guest/include/uaccess.h"

#define EFD_SEMAPHORE 1U
#define COUNT_MAX     (~0UL - 1)

struct eventfd {
	u64 count;
	bool semaphore; /* read one by one */
	struct wait_queue changed;
};

static void changed(struct eventfd *e)
{
	wake_up(&e->changed);
	poll_wake();
}

static s64 eventfd_read(struct file *f, u64 *pos, u64 buf, size_t n)
{
	struct eventfd *e = f->private;
	u64 taken;

	(void)pos;
	if (n < sizeof(taken))
		return -EINVAL;
	if (!e->count && f->flags & O_NONBLOCK)
		return -EAGAIN;
	if (wait_event_interruptible(e->changed, READ_ONCE(e->count)))
		return -ERESTARTSYS;
	taken = e->semaphore ? 1 : e->count;
	e->count -= taken;
	changed(e);
	return copy_to_user(buf, &taken, sizeof(taken)) ? -EFAULT : (s64)sizeof(taken);
}

static s64 eventfd_write(struct file *f, u64 *pos, u64 buf, size_t n)
{
	struct eventfd *e = f->private;
	u64 more;

	(void)pos;
	if (n < sizeof(more))
		return -EINVAL;
	if (copy_from_user(&more, buf, sizeof(more)))
		return -EFAULT;
	if (more > COUNT_MAX)
		return -EINVAL;
	if (more > COUNT_MAX - e->count && f->flags & O_NONBLOCK)
		return -EAGAIN;
	if (wait_event_interruptible(e->changed, more <= COUNT_MAX - READ_ONCE(e->count)))
		return -ERESTARTSYS;
	e->count += more;
	changed(e);
	return sizeof(more);
}

static u32 eventfd_poll(struct file *f)
{
	const struct eventfd *e = f->private;

	return (e->count ? POLLIN : 0) | (e->count < COUNT_MAX ? POLLOUT : 0);
}

static void eventfd_release(struct file *f)
{
	kfree(f->private);
}

static const struct file_ops eventfd_ops = {
    .read = eventfd_read, .write = eventfd_write, .poll = eventfd_poll, .release = eventfd_release};

static s64 make(u32 count, u32 flags)
{
	struct eventfd *e;

	if (flags & ~(EFD_SEMAPHORE | O_NONBLOCK | O_CLOEXEC))
		return -EINVAL;
	e = kzalloc(sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->count = count;
	e->semaphore = flags & EFD_SEMAPHORE;
	wait_queue_init(&e->changed);
	return fd_install_new(flags & ~EFD_SEMAPHORE, &eventfd_ops, e);
}

SYSCALL(eventfd)
{
	return make((u32)regs->rdi, 0);
}

SYSCALL(eventfd2)
{
	return make((u32)regs->rdi, (u32)regs->rsi);
}
