/* System calls on signals. */
#include "guest/include/errno.h"
#include "guest/include/signal.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"
#include "guest/include/uaccess.h"

#define SET_SIZE       8 /* of a sigset_t, as the calls are told */
#define STACK_SIZE_MIN 2048

enum { SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK };

static bool is_signal(u64 sig)
{
	return sig >= 1 && sig <= NR_SIGNALS;
}

SYSCALL(rt_sigaction)
{
	struct sigaction new, old;
	struct sigaction *a;

	if (regs->r10 != SET_SIZE || !is_signal(regs->rdi) ||
	    (regs->rsi && signal_bit((int)regs->rdi) & SIGNALS_HARD))
		return -EINVAL;
	a = &current->signals.action[regs->rdi - 1];
	old = *a;
	if (regs->rsi) {
		if (copy_from_user(&new, regs->rsi, sizeof(new)))
			return -EFAULT;
		new.mask &= ~SIGNALS_HARD;
		*a = new;
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
	u64 set = current->signals.pending & current->signals.blocked;

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

SYSCALL(rt_sigsuspend)
{
	struct signals *s = &current->signals;
	u64 set;

	if (regs->rsi != SET_SIZE)
		return -EINVAL;
	if (copy_from_user(&set, regs->rdi, sizeof(set)))
		return -EFAULT;
	s->suspended = s->blocked;
	s->suspends = true;
	s->blocked = set & ~SIGNALS_HARD;
	return wait_for_signal();
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
		else if (new.size < STACK_SIZE_MIN)
			return -ENOMEM;
		current->signals.stack = new;
	}
	return regs->rsi && copy_to_user(regs->rsi, &old, sizeof(old)) ? -EFAULT : 0;
}

/* Who kill(2) means: see task_matches(). */
SYSCALL(kill)
{
	int sig = (int)regs->rsi, pid = (int)regs->rdi, found = 0;
	struct task *t = NULL;

	if (sig < 0 || sig > NR_SIGNALS)
		return -EINVAL;
	while ((t = task_next(t))) {
		if (!task_matches(t, pid) || (pid == -1 && (t->pid == 1 || t == current)))
			continue;
		found++;
		if (sig)
			signal_send_from(t, sig, SI_USER);
	}
	return found ? 0 : -ESRCH;
}

static s64 send_to_one(u64 pid, u64 sig)
{
	struct task *t;

	if ((int)pid <= 0 || (int)sig < 0 || sig > NR_SIGNALS)
		return -EINVAL;
	t = task_find((int)pid);
	if (!t)
		return -ESRCH;
	if (sig)
		signal_send_from(t, (int)sig, SI_TKILL);
	return 0;
}

SYSCALL(tkill)
{
	return send_to_one(regs->rdi, regs->rsi);
}

SYSCALL(tgkill)
{
	if (regs->rdi != regs->rsi) /* one thread a process */
		return (int)regs->rdi <= 0 ? -EINVAL : -ESRCH;
	return send_to_one(regs->rsi, regs->rdx);
}
