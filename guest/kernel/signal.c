/* Signals: sent, blocked, ignored, and what becomes of them on the way to user mode. */
#include "guest/include/signal.h"
#include "guest/include/errno.h"
#include "guest/include/itimer.h"
#include "guest/include/page.h"
#include "guest/include/process.h"
#include "guest/include/spinlock.h"
#include "guest/include/string.h"
#include "guest/include/task.h"
#include "guest/include/trap.h"

/* What no handler says otherwise about. */
#define IGNORED \
	(signal_bit(SIGCHLD) | signal_bit(SIGCONT) | signal_bit(SIGURG) | signal_bit(SIGWINCH))
#define STOPPING \
	(signal_bit(SIGSTOP) | signal_bit(SIGTSTP) | signal_bit(SIGTTIN) | signal_bit(SIGTTOU))
/* Of the instruction that comes next: before what others sent. */
#define FAULTS \
	(signal_bit(SIGSEGV) | signal_bit(SIGBUS) | signal_bit(SIGILL) | signal_bit(SIGTRAP) | \
	 signal_bit(SIGFPE))

struct spinlock signals_lock;
static struct wait_queue continued = WAIT_QUEUE_INIT(continued);

static u64 handler_of(const struct process *p, int sig)
{
	return p->action[sig - 1].handler;
}

/* Nothing ends init that it did not ask for, but its own faults. */
static bool ignores(const struct process *p, int sig)
{
	if (handler_of(p, sig) == SIG_DFL)
		return signal_bit(sig) & IGNORED || p->pid == INIT_PID;
	return handler_of(p, sig) == SIG_IGN;
}

static bool ends(const struct process *p, int sig)
{
	return handler_of(p, sig) == SIG_DFL && !(signal_bit(sig) & (IGNORED | STOPPING));
}

static void forget(struct process *p, u64 set)
{
	struct task *t;

	p->pending.set &= ~set;
	list_for_each(t, &p->threads, in_process) t->signals.pending.set &= ~set;
}

/* What one of the two means the other one is no more. */
static void cancel_opposite(struct process *p, int sig)
{
	if (sig == SIGCONT)
		forget(p, STOPPING);
	else if (signal_bit(sig) & STOPPING)
		forget(p, signal_bit(SIGCONT));
}

static void tell_parent(struct process *p, int code, int status)
{
	struct siginfo info = {.signo = SIGCHLD, .code = code};

	if (!p->parent)
		return;
	info.from.pid = p->pid;
	info.from.status = status;
	if (code < CLD_STOPPED || !(p->parent->action[SIGCHLD - 1].flags & SA_NOCLDSTOP))
		signal_send(p->parent, &info);
	wake_up(&p->parent->child_news);
}

static void go_on(struct process *p)
{
	if (!p->stopped)
		return;
	p->stopped = 0;
	p->report = REPORT_CONTINUED;
	wake_up(&continued);
	tell_parent(p, CLD_CONTINUED, SIGCONT);
}

/* signals_lock held. It is pending now, once; @blocked: by whom it is meant for. */
static void queue(const struct process *p, struct sigpending *to, const struct siginfo *info,
		  bool blocked)
{
	u64 bit = signal_bit(info->signo);

	if (!blocked && ignores(p, info->signo))
		return;
	if (!(to->set & bit))
		to->info[info->signo - 1] = *info;
	to->set |= bit;
}

/* A thread that takes it, the first if it does; NULL: all block it. signals_lock held. */
static struct task *taker(const struct process *p, u64 bit)
{
	struct task *t;

	list_for_each(t, &p->threads, in_process)
	{
		if (!(READ_ONCE(t->signals.blocked) & bit))
			return t;
	}
	return NULL;
}

/* signals_lock held, so the taker is still there: it hears of it, unless all are to end by it. */
static bool wake_or_end(const struct process *p, struct task *taker, int sig)
{
	bool end = taker && ends(p, sig) && !ignores(p, sig);

	if (taker && !end)
		task_wake(taker);
	return end;
}

/* What goes on behind it. */
static void after_sending(struct process *p, int sig, bool end)
{
	if (sig == SIGCONT || sig == SIGKILL)
		go_on(p);
	if (end)
		process_end(p, sig);
}

void signal_send(struct process *p, const struct siginfo *info)
{
	u64 irq = spin_lock_irqsave(&signals_lock);
	struct task *t = taker(p, signal_bit(info->signo));
	bool end;

	cancel_opposite(p, info->signo);
	queue(p, &p->pending, info, !t);
	end = wake_or_end(p, t, info->signo);
	spin_unlock_irqrestore(&signals_lock, irq);
	after_sending(p, info->signo, end);
}

void signal_send_thread(struct task *t, const struct siginfo *info)
{
	u64 irq = spin_lock_irqsave(&signals_lock);
	bool blocked = t->signals.blocked & signal_bit(info->signo), end;

	cancel_opposite(t->process, info->signo);
	queue(t->process, &t->signals.pending, info, blocked);
	end = wake_or_end(t->process, blocked ? NULL : t, info->signo);
	spin_unlock_irqrestore(&signals_lock, irq);
	after_sending(t->process, info->signo, end);
}

struct siginfo signal_from(int sig, int code)
{
	struct siginfo info = {.signo = sig, .code = code};

	info.from.pid = current->process->pid;
	return info;
}

void signal_send_self(int sig, int code)
{
	const struct siginfo info = signal_from(sig, code);

	signal_send_thread(current, &info);
}

void signal_force(int sig, int code, u64 addr)
{
	struct signals *s = &current->signals;
	struct sigaction *a = &current->process->action[sig - 1];
	u64 irq = spin_lock_irqsave(&signals_lock);

	if (s->blocked & signal_bit(sig) || a->handler == SIG_IGN) {
		s->blocked &= ~signal_bit(sig);
		a->handler = SIG_DFL;
	}
	s->pending.info[sig - 1] = (struct siginfo){.signo = sig, .code = code, .addr = addr};
	if (sig == SIGBUS && code == BUS_MCEERR_AR)
		s->pending.info[sig - 1].memory.lsb = PAGE_SHIFT;
	s->pending.set |= signal_bit(sig);
	spin_unlock_irqrestore(&signals_lock, irq);
}

static u64 all_pending(void)
{
	return READ_ONCE(current->signals.pending.set) | READ_ONCE(current->process->pending.set);
}

u64 signals_waiting(void)
{
	return all_pending() & current->signals.blocked;
}

bool signal_pending(void)
{
	return all_pending() & ~current->signals.blocked || current->dying ||
	       READ_ONCE(current->process->stopped);
}

bool signal_unhandled(int sig)
{
	return handler_of(current->process, sig) <= SIG_IGN ||
	       current->signals.blocked & signal_bit(sig);
}

void signals_fork(struct task *child, bool thread)
{
	child->signals = current->signals;
	child->signals.pending.set = 0;
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

/* --- on the way to user mode ------------------------------------------------------------------ */

/* One of @from that is in @set, no longer pending; 0: none. signals_lock held. */
static int take_from(struct sigpending *from, u64 set, struct siginfo *info)
{
	int sig;

	set &= from->set;
	if (!set)
		return 0;
	sig = __builtin_ctzl(set) + 1;
	*info = from->info[sig - 1];
	from->set &= ~signal_bit(sig);
	return sig;
}

/* The next one that is not blocked, no longer pending; 0: none. */
static int take(struct siginfo *info)
{
	struct sigpending *own = &current->signals.pending;
	u64 irq = spin_lock_irqsave(&signals_lock), open = ~current->signals.blocked;
	int sig = take_from(own, open & FAULTS, info);

	if (!sig)
		sig = take_from(own, open, info);
	if (!sig)
		sig = take_from(&current->process->pending, open, info);
	spin_unlock_irqrestore(&signals_lock, irq);
	if (sig == SIGALRM)
		itimer_taken();
	return sig;
}

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
	tell_parent(p, CLD_STOPPED, sig);
}

static void wait_while_stopped(void)
{
	const struct process *p = current->process;

	(void)wait_event_killable(continued, !READ_ONCE(p->stopped));
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
	else if (handler_of(p, sig) == SIG_DFL && signal_bit(sig) & STOPPING)
		stop(sig);
}

void signals_deliver(struct regs *regs)
{
	struct signals *s = &current->signals;
	struct siginfo info;

	while (!current->dying) {
		if (current->process->stopped)
			wait_while_stopped();
		else if (take(&info))
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
