/* Signals: sent, blocked, ignored, and what becomes of them on the way to user mode. */
#include "guest/include/signal.h"
#include "guest/include/errno.h"
#include "guest/include/page.h"
#include "guest/include/spinlock.h"
#include "guest/include/string.h"
#include "guest/include/task.h"
#include "guest/include/trap.h"

#define INIT_PID 1

/* What no handler says otherwise about. */
#define IGNORED \
	(signal_bit(SIGCHLD) | signal_bit(SIGCONT) | signal_bit(SIGURG) | signal_bit(SIGWINCH))
#define STOPPING \
	(signal_bit(SIGSTOP) | signal_bit(SIGTSTP) | signal_bit(SIGTTIN) | signal_bit(SIGTTOU))
/* Of the instruction that comes next: before what others sent. */
#define FAULTS \
	(signal_bit(SIGSEGV) | signal_bit(SIGBUS) | signal_bit(SIGILL) | signal_bit(SIGTRAP) | \
	 signal_bit(SIGFPE))

static struct spinlock signals_lock;
static struct wait_queue continued = WAIT_QUEUE_INIT(continued);

static bool by_default(const struct task *t, int sig)
{
	return t->signals.action[sig - 1].handler == SIG_DFL;
}

/* Nothing ends init that it did not ask for, but its own faults. */
static bool ignores(const struct task *t, int sig)
{
	if (by_default(t, sig))
		return signal_bit(sig) & IGNORED || t->pid == INIT_PID;
	return t->signals.action[sig - 1].handler == SIG_IGN;
}

static bool ends(const struct task *t, int sig)
{
	return by_default(t, sig) && !(signal_bit(sig) & (IGNORED | STOPPING));
}

/* What one of the two means the other one is no more. */
static void cancel_opposite(struct task *t, int sig)
{
	if (sig == SIGCONT)
		t->signals.pending &= ~STOPPING;
	else if (signal_bit(sig) & STOPPING)
		t->signals.pending &= ~signal_bit(SIGCONT);
}

static void tell_parent(struct task *t, int code, int status)
{
	struct siginfo info = {.signo = SIGCHLD, .code = code};

	if (!t->parent)
		return;
	info.from.pid = t->pid;
	info.from.status = status;
	if (code < CLD_STOPPED || !(t->parent->signals.action[SIGCHLD - 1].flags & SA_NOCLDSTOP))
		signal_send(t->parent, &info);
	wake_up(&t->parent->child_exit);
}

static void go_on(struct task *t)
{
	if (!t->stopped)
		return;
	t->stopped = 0;
	t->report = REPORT_CONTINUED;
	wake_up(&continued);
	tell_parent(t, CLD_CONTINUED, SIGCONT);
}

void signal_send(struct task *t, const struct siginfo *info)
{
	struct signals *s = &t->signals;
	u64 bit = signal_bit(info->signo), irq;
	bool end = false;

	if (t->state == TASK_ZOMBIE)
		return;
	irq = spin_lock_irqsave(&signals_lock);
	cancel_opposite(t, info->signo);
	if (s->blocked & bit || !ignores(t, info->signo)) {
		if (!(s->pending & bit))
			s->info[info->signo - 1] = *info;
		s->pending |= bit;
		end = ends(t, info->signo) && !(s->blocked & bit);
	}
	spin_unlock_irqrestore(&signals_lock, irq);
	if (info->signo == SIGCONT || info->signo == SIGKILL)
		go_on(t);
	if (end)
		task_end(t, info->signo);
	else
		task_wake(t);
}

void signal_send_from(struct task *t, int sig, int code)
{
	struct siginfo info = {.signo = sig, .code = code};

	info.from.pid = current->pid;
	signal_send(t, &info);
}

void signal_force(int sig, int code, u64 addr)
{
	struct signals *s = &current->signals;
	u64 irq = spin_lock_irqsave(&signals_lock);

	if (s->blocked & signal_bit(sig) || s->action[sig - 1].handler == SIG_IGN) {
		s->blocked &= ~signal_bit(sig);
		s->action[sig - 1].handler = SIG_DFL;
	}
	s->info[sig - 1] = (struct siginfo){.signo = sig, .code = code, .addr = addr};
	if (sig == SIGBUS && code == BUS_MCEERR_AR)
		s->info[sig - 1].memory.lsb = PAGE_SHIFT;
	s->pending |= signal_bit(sig);
	spin_unlock_irqrestore(&signals_lock, irq);
}

static u64 deliverable(const struct signals *s)
{
	return READ_ONCE(s->pending) & ~s->blocked;
}

bool signal_pending(void)
{
	return deliverable(&current->signals) || current->dying;
}

bool signal_unhandled(int sig)
{
	return current->signals.action[sig - 1].handler <= SIG_IGN ||
	       current->signals.blocked & signal_bit(sig);
}

void signals_fork(struct task *child)
{
	child->signals = current->signals;
	child->signals.pending = 0;
	child->signals.suspends = false;
}

void signals_exec(void)
{
	for (int i = 0; i < NR_SIGNALS; i++) {
		struct sigaction *a = &current->signals.action[i];

		*a = (struct sigaction){.handler = a->handler == SIG_IGN ? SIG_IGN : SIG_DFL};
	}
	current->signals.stack = (struct sigstack){0};
}

/* --- on the way to user mode ------------------------------------------------------------------ */

/* The next one that is not blocked, no longer pending; 0: none. */
static int take(struct siginfo *info)
{
	struct signals *s = &current->signals;
	u64 irq = spin_lock_irqsave(&signals_lock), ready = deliverable(s);
	int sig = 0;

	if (ready & FAULTS)
		ready &= FAULTS;
	if (ready) {
		sig = __builtin_ctzl(ready) + 1;
		*info = s->info[sig - 1];
		s->pending &= ~signal_bit(sig);
	}
	spin_unlock_irqrestore(&signals_lock, irq);
	return sig;
}

static void stop(int sig)
{
	current->stopped = sig;
	current->report = REPORT_STOPPED;
	tell_parent(current, CLD_STOPPED, sig);
	(void)wait_event_killable(continued, !READ_ONCE(current->stopped));
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
	struct sigaction *a = &s->action[info->signo - 1], now = *a;
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
		s->action[SIGSEGV - 1].handler = SIG_DFL;
		signal_force(SIGSEGV, SI_KERNEL, 0);
		return;
	}
	s->blocked |= now.mask | (now.flags & SA_NODEFER ? 0 : signal_bit(info->signo));
	s->blocked &= ~SIGNALS_HARD;
}

void signals_deliver(struct regs *regs)
{
	struct signals *s = &current->signals;
	struct siginfo info;

	for (int sig = take(&info); sig && !current->dying; sig = take(&info)) {
		if (s->action[sig - 1].handler > SIG_IGN)
			handle(regs, &info);
		else if (ends(current, sig))
			task_exit(sig);
		else if (by_default(current, sig) && signal_bit(sig) & STOPPING)
			stop(sig);
	}
	if (restarts(regs))
		make_again(regs);
	if (s->suspends) {
		s->blocked = s->suspended;
		s->suspends = false;
	}
}
