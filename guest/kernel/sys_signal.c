/* System calls on signals. */
#include "guest/include/errno.h"
#include "guest/include/process.h"
#include "guest/include/signal.h"
#include "guest/include/string.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"
#include "guest/include/timespec.h"
#include "guest/include/uaccess.h"

#define INT_MIN	       (-0x7fffffff - 1)
#define SET_SIZE       8 /* of a sigset_t, as the calls are told */
#define STACK_SIZE_MIN 2048

enum { SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK };

static bool is_signal(int sig)
{
	return sig >= 1 && sig <= NR_SIGNALS;
}

SYSCALL(rt_sigaction)
{
	struct sigaction new, old, *a;
	int sig = (int)regs->rdi;

	if (regs->r10 != SET_SIZE || !is_signal(sig) ||
	    (regs->rsi && signal_bit(sig) & SIGNALS_HARD))
		return -EINVAL;
	a = &current->process->action[sig - 1];
	old = *a;
	if (regs->rsi) {
		if (copy_from_user(&new, regs->rsi, sizeof(new)))
			return -EFAULT;
		new.mask &= ~SIGNALS_HARD;
		*a = new;
		signal_ignored_now(current->process, sig);
	}
	return regs->rdx && copy_to_user(regs->rdx, &old, sizeof(old)) ? -EFAULT : 0;
}

SYSCALL(rt_sigprocmask)
{
	struct signals *s = &current->signals;
	u64 set, old = s->blocked;

	if (regs->r10 != SET_SIZE)
		return -EINVAL;
	if (regs->rsi) {
		if (copy_from_user(&set, regs->rsi, sizeof(set)))
			return -EFAULT;
		set &= ~SIGNALS_HARD;
		switch ((int)regs->rdi) {
		case SIG_BLOCK:
			s->blocked |= set;
			break;
		case SIG_UNBLOCK:
			s->blocked &= ~set;
			break;
		case SIG_SETMASK:
			s->blocked = set;
			break;
		default:
			return -EINVAL;
		}
	}
	return regs->rdx && copy_to_user(regs->rdx, &old, sizeof(old)) ? -EFAULT : 0;
}

SYSCALL(rt_sigpending)
{
	u64 set = signals_waiting();

	if (regs->rsi > SET_SIZE)
		return -EINVAL;
	return copy_to_user(regs->rdi, &set, regs->rsi) ? -EFAULT : 0;
}

static s64 wait_for_signal(void)
{
	static struct wait_queue never = WAIT_QUEUE_INIT(never);

	wait_event(never, signal_pending());
	return -ERESTARTNOHAND;
}

s64 signals_suspend(u64 user_set, u64 size)
{
	struct signals *s = &current->signals;
	u64 set;

	if (size != SET_SIZE)
		return -EINVAL;
	if (copy_from_user(&set, user_set, sizeof(set)))
		return -EFAULT;
	s->suspended = s->blocked;
	s->suspends = true;
	s->blocked = set & ~SIGNALS_HARD;
	return 0;
}

SYSCALL(rt_sigsuspend)
{
	s64 err = signals_suspend(regs->rdi, regs->rsi);

	return err ? err : wait_for_signal();
}

/* Blocked or not: one that is waited for here does nothing else. */
static int wait_for_one(u64 set, u64 deadline, struct siginfo *info)
{
	static struct wait_queue never = WAIT_QUEUE_INIT(never);
	int sig = signal_take_or_wait(set, info);

	if (!sig)
		wait_event_until(never, (sig = signal_take_or_wait(set, info)) || signal_pending(),
				 deadline);
	if (!sig)
		sig = signal_take(set, info); /* it came with the end of the wait */
	signal_wait_ends();
	return sig;
}

static s64 siginfo_to_user(u64 user, const struct siginfo *info)
{
	u8 whole[SIGINFO_USER] = {0};

	memcpy(whole, info, sizeof(*info));
	return copy_to_user(user, whole, sizeof(whole)) ? -EFAULT : 0;
}

SYSCALL(rt_sigtimedwait)
{
	u64 set, ns = 0, deadline = ~0UL, now = ktime_ns();
	struct siginfo info;
	s64 err = 0;
	int sig;

	if (regs->r10 != SET_SIZE)
		return -EINVAL;
	if (copy_from_user(&set, regs->rdi, sizeof(set)))
		return -EFAULT;
	if (regs->rdx)
		err = timespec_read(regs->rdx, &ns);
	if (err)
		return err;
	if (regs->rdx)
		deadline = now + ns;
	sig = wait_for_one(set & ~SIGNALS_HARD, deadline, &info);
	if (!sig)
		return signal_pending() ? -EINTR : -EAGAIN;
	return regs->rsi && siginfo_to_user(regs->rsi, &info) ? -EFAULT : sig;
}

SYSCALL(pause)
{
	(void)regs;
	return wait_for_signal();
}

SYSCALL(rt_sigreturn)
{
	return signal_frame_pop(regs);
}

/* What changes nothing is not refused, be it as small as none at all. */
static bool same_stack(const struct sigstack *asked)
{
	const struct sigstack *now = &current->signals.stack;

	return asked->sp == now->sp && asked->size == now->size && asked->flags == now->flags;
}

SYSCALL(sigaltstack)
{
	struct sigstack new, old = signal_stack_now(regs->rsp);

	if (regs->rdi) {
		if (copy_from_user(&new, regs->rdi, sizeof(new)))
			return -EFAULT;
		if (old.flags == SS_ONSTACK)
			return -EPERM;
		if (new.flags & ~(SS_ONSTACK | SS_DISABLE))
			return -EINVAL;
		if (new.flags & SS_DISABLE)
			new = (struct sigstack){0};
		else if (new.size < STACK_SIZE_MIN && !same_stack(&new))
			return -ENOMEM;
		current->signals.stack = new;
	}
	return regs->rsi && copy_to_user(regs->rsi, &old, sizeof(old)) ? -EFAULT : 0;
}

/* Who kill(2) means: see process_matches(). */
SYSCALL(kill)
{
	int sig = (int)regs->rsi, pid = (int)regs->rdi, found = 0;
	const struct siginfo info = signal_from(sig, SI_USER);
	struct process *p = NULL;

	if (pid == INT_MIN)
		return -ESRCH;
	while ((p = process_next(p))) {
		if (!process_matches(p, pid) ||
		    (pid == -1 && (p->pid == INIT_PID || p == current->process)))
			continue;
		found++;
		if (sig < 0 || sig > NR_SIGNALS)
			return -EINVAL;
		if (sig)
			signal_send(p, &info);
	}
	return found ? 0 : -ESRCH;
}

/* pid 0: whatever process has that thread. */
static s64 send_to_thread(int pid, int tid, const struct siginfo *info)
{
	struct task *t = task_find(tid);

	if (!t || (pid && t->process->pid != pid))
		return -ESRCH;
	if (info->signo < 0 || info->signo > NR_SIGNALS)
		return -EINVAL;
	return info->signo ? signal_send_thread(t, info) : 0;
}

SYSCALL(tkill)
{
	const struct siginfo info = signal_from((int)regs->rsi, SI_TKILL);
	int tid = (int)regs->rdi;

	return tid <= 0 ? -EINVAL : send_to_thread(0, tid, &info);
}

SYSCALL(tgkill)
{
	const struct siginfo info = signal_from((int)regs->rdx, SI_TKILL);
	int pid = (int)regs->rdi, tid = (int)regs->rsi;

	return pid <= 0 || tid <= 0 ? -EINVAL : send_to_thread(pid, tid, &info);
}

/* What the caller says of it; to others it cannot say that the kernel, or kill(2), sent it. */
static s64 siginfo_from_user(struct siginfo *info, int sig, u64 user, int to)
{
	u8 whole[SIGINFO_USER];

	if (copy_from_user(whole, user, sizeof(whole)))
		return -EFAULT;
	memcpy(info, whole, sizeof(*info));
	info->signo = sig;
	info->lasting = 0;
	return (info->code >= 0 || info->code == SI_TKILL) && to != current->pid ? -EPERM : 0;
}

SYSCALL(rt_sigqueueinfo)
{
	int pid = (int)regs->rdi, sig = (int)regs->rsi;
	struct siginfo info;
	s64 err = siginfo_from_user(&info, sig, regs->rdx, pid);
	struct process *p;

	if (err)
		return err;
	p = process_find(pid);
	if (!p)
		return -ESRCH;
	if (sig < 0 || sig > NR_SIGNALS)
		return -EINVAL;
	return sig ? signal_send(p, &info) : 0;
}

SYSCALL(rt_tgsigqueueinfo)
{
	int pid = (int)regs->rdi, tid = (int)regs->rsi;
	struct siginfo info;
	s64 err = siginfo_from_user(&info, (int)regs->rdx, regs->r10, tid);

	if (err == -EFAULT)
		return err;
	if (pid <= 0 || tid <= 0)
		return -EINVAL;
	return err ? err : send_to_thread(pid, tid, &info);
}
