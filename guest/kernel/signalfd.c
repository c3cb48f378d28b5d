/* signalfd: signals that are read. They are the reader's, whoever opened it, and should be blocked.
 */
#include "guest/include/errno.h"
#include "guest/include/file.h"
#include "guest/include/page.h"
#include "guest/include/sched.h"
#include "guest/include/signal.h"
#include "guest/include/syscall.h"
#include "guest/include/uaccess.h"

#define SET_SIZE 8

struct signalfd {
	u64 set;
};

/* As signalfd(2) has it. */
struct record {
	u32 signo;
	s32 error, code;
	u32 pid, uid;
	s32 fd;
	u32 timer, band, overrun, trap;
	s32 status, value;
	u64 pointer, utime, stime, addr;
	u16 lsb, rest[23];
};
_Static_assert(sizeof(struct record) == 128, "Linux's");

static struct wait_queue sent = WAIT_QUEUE_INIT(sent);
static u32 nr_open;

void signalfd_notify(void)
{
	if (!READ_ONCE(nr_open))
		return;
	wake_up(&sent);
	poll_wake();
}

static bool is_fault(int sig)
{
	return sig == SIGSEGV || sig == SIGBUS || sig == SIGILL || sig == SIGFPE || sig == SIGTRAP;
}

static struct record record_of(const struct siginfo *info)
{
	struct record r = {
	    .signo = (u32)info->signo,
	    .error = info->error,
	    .code = info->code,
	};

	if (info->code == SI_TIMER) {
		r.timer = (u32)info->timer.id;
		r.overrun = (u32)info->timer.overrun;
	} else if (info->code > SI_USER && is_fault(info->signo)) {
		r.addr = info->addr;
		return r;
	} else {
		r.pid = (u32)info->from.pid;
		r.uid = info->from.uid;
	}
	if (info->code > SI_USER && info->signo == SIGCHLD) {
		r.status = info->from.status;
	} else if (info->code < SI_USER && info->code != SI_TKILL) {
		r.pointer = info->timer.value;
		r.value = (s32)info->timer.value;
	}
	return r;
}

/* The first is waited for, the others are taken if they are there. */
static s64 signalfd_read(struct file *f, u64 *pos, u64 buf, size_t n)
{
	const struct signalfd *s = f->private;
	size_t done = 0;

	(void)pos;
	if (n < sizeof(struct record))
		return -EINVAL;
	for (; n - done >= sizeof(struct record); done += sizeof(struct record)) {
		struct siginfo info;
		struct record r;
		int sig = signal_take(s->set, &info);

		if (!sig && done)
			break;
		if (!sig && f->flags & O_NONBLOCK)
			return -EAGAIN;
		if (!sig && wait_event_interruptible(sent, signal_take(s->set, &info)))
			return -ERESTARTSYS;
		r = record_of(&info);
		if (copy_to_user(buf + done, &r, sizeof(r)))
			return done ? (s64)done : -EFAULT;
	}
	return (s64)done;
}

static u32 signalfd_poll(struct file *f)
{
	const struct signalfd *s = f->private;

	return signals_pending() & s->set ? POLLIN : 0;
}

static void signalfd_release(struct file *f)
{
	__atomic_sub_fetch(&nr_open, 1, __ATOMIC_RELAXED);
	kfree(f->private);
}

static const struct file_ops signalfd_ops = {
    .read = signalfd_read, .poll = signalfd_poll, .release = signalfd_release};

static s64 make(u64 set, u32 flags)
{
	struct signalfd *s = kzalloc(sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->set = set;
	__atomic_add_fetch(&nr_open, 1, __ATOMIC_SEQ_CST);
	return fd_install_new(flags, &signalfd_ops, s);
}

static s64 change(u64 fd, u64 set)
{
	struct file *f = fd_file(fd);
	s64 ret = (u32)fd;

	if (!f)
		return -EBADF;
	if (f->ops == &signalfd_ops)
		((struct signalfd *)f->private)->set = set;
	else
		ret = f->flags & O_PATH ? -EBADF : -EINVAL;
	file_put(f);
	signalfd_notify();
	return ret;
}

static s64 make_or_change(const struct regs *regs, u32 flags)
{
	u64 set;

	if (regs->rdx != SET_SIZE)
		return -EINVAL;
	if (copy_from_user(&set, regs->rsi, sizeof(set)))
		return -EFAULT;
	if (flags & ~(u32)(O_NONBLOCK | O_CLOEXEC))
		return -EINVAL;
	set &= ~SIGNALS_HARD;
	return (int)regs->rdi == -1 ? make(set, flags) : change(regs->rdi, set);
}

SYSCALL(signalfd)
{
	return make_or_change(regs, 0);
}

SYSCALL(signalfd4)
{
	return make_or_change(regs, (u32)regs->r10);
}
