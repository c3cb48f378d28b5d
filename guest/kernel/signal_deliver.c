/* Signals taken, and what becomes of them on the way to user mode. */
#include "guest/include/errno.h"
#include "guest/include/itimer.h"
#include "guest/include/posix_timer.h"
#include "guest/include/process.h"
#include "guest/include/signal.h"
#include "guest/include/spinlock.h"
#include "guest/include/task.h"
#include "guest/include/trap.h"
#include "guest/kernel/signal_rules.h"

void signals_fork(struct task *child, bool thread)
{
	child->signals = current->signals;
	sigpending_init(&child->signals.pending);
	child->signals.waited = 0;
	child->signals.suspends = false;
	if (thread)
		child->signals.stack = (struct sigstack){0};
}

void signals_exec(void)
{
	for (int i = 0; i < NR_SIGNALS; i++) {
		struct sigaction *a = &current->process->action[i];

		*a = (struct sigaction){.handler = a->handler == SIG_IGN ? SIG_IGN : SIG_DFL};
	}
	current->signals.stack = (struct sigstack){0};
}

/* signals_lock held. */
static int take(u64 set, struct siginfo *info)
{
	struct sigpending *own = &current->signals.pending;
	int sig = sigpending_take(own, set & SIGNALS_OF_FAULTS, info);

	if (!sig)
		sig = sigpending_take(own, set, info);
	return sig ? sig : sigpending_take(&current->process->pending, set, info);
}

/* What goes on once it is no longer pending. */
static int taken(int sig, struct siginfo *info)
{
	if (sig && info->lasting)
		posix_timer_taken(info);
	else if (sig == SIGALRM)
		itimer_taken();
	if (sig)
		info->lasting = 0;
	return sig;
}

int signal_take(u64 set, struct siginfo *info)
{
	u64 irq = spin_lock_irqsave(&signals_lock);
	int sig = take(set, info);

	spin_unlock_irqrestore(&signals_lock, irq);
	return taken(sig, info);
}

int signal_take_or_wait(u64 set, struct siginfo *info)
{
	u64 irq = spin_lock_irqsave(&signals_lock);
	int sig = take(set, info);

	current->signals.waited = sig ? 0 : set;
	spin_unlock_irqrestore(&signals_lock, irq);
	return taken(sig, info);
}

void signal_wait_ends(void)
{
	u64 irq = spin_lock_irqsave(&signals_lock);

	current->signals.waited = 0;
	spin_unlock_irqrestore(&signals_lock, irq);
}

/* --- on the way to user mode ------------------------------------------------------------------ */

/* All of its threads come here, one after the other. */
static void stop(int sig)
{
	struct process *p = current->process;
	struct task *t;
	u64 irq = spin_lock_irqsave(&signals_lock);

	p->stopped = sig;
	p->report = REPORT_STOPPED;
	list_for_each(t, &p->threads, in_process)
	{
		if (t != current)
			task_wake(t);
	}
	spin_unlock_irqrestore(&signals_lock, irq);
	signal_tell_parent(p, CLD_STOPPED, sig);
}

static void wait_while_stopped(void)
{
	const struct process *p = current->process;

	(void)wait_event_killable(signal_continued, !READ_ONCE(p->stopped));
}

static bool restarts(const struct regs *regs)
{
	s64 result = (s64)regs->rax;

	return regs->vector == VECTOR_SYSCALL &&
	       (result == -ERESTARTSYS || result == -ERESTARTNOHAND);
}

/* The call is made again: SYSCALL is two bytes long. */
static void make_again(struct regs *regs)
{
	regs->rax = regs->error;
	regs->rip -= 2;
	regs->vector = 0;
}

static void handle(struct regs *regs, const struct siginfo *info)
{
	struct signals *s = &current->signals;
	struct sigaction *a = &current->process->action[info->signo - 1], now = *a;
	u64 blocked = s->suspends ? s->suspended : s->blocked;

	if (restarts(regs) && (s64)regs->rax == -ERESTARTSYS && now.flags & SA_RESTART)
		make_again(regs);
	else if (restarts(regs))
		regs->rax = (u64)-EINTR;
	regs->vector = 0;
	s->suspends = false;
	if (now.flags & SA_RESETHAND)
		a->handler = SIG_DFL;
	if (!signal_frame_push(regs, &now, info, blocked)) {
		current->process->action[SIGSEGV - 1].handler = SIG_DFL;
		signal_force(SIGSEGV, SI_KERNEL, 0);
		return;
	}
	s->blocked |= now.mask | (now.flags & SA_NODEFER ? 0 : signal_bit(info->signo));
	s->blocked &= ~SIGNALS_HARD;
}

/* What becomes of one that was taken. */
static void deliver(struct regs *regs, const struct siginfo *info)
{
	struct process *p = current->process;
	int sig = info->signo;

	if (handler_of(p, sig) > SIG_IGN)
		handle(regs, info);
	else if (ends(p, sig))
		process_end(p, sig);
	else if (handler_of(p, sig) == SIG_DFL && signal_bit(sig) & SIGNALS_STOPPING)
		stop(sig);
}

void signals_deliver(struct regs *regs)
{
	struct signals *s = &current->signals;
	struct siginfo info;

	while (!current->dying) {
		if (current->process->stopped)
			wait_while_stopped();
		else if (signal_take(~s->blocked, &info))
			deliver(regs, &info);
		else
			break;
	}
	if (restarts(regs))
		make_again(regs);
	if (s->suspends) {
		s->blocked = s->suspended;
		s->suspends = false;
	}
}
