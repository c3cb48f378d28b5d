/* Signals: sent, blocked, ignored, and what becomes of them on the way to user mode. */
#include "guest/include/signal.h"
#include "guest/include/errno.h"
#include "guest/include/itimer.h"
#include "guest/include/page.h"
#include "guest/include/posix_timer.h"
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

	sigpending_forget(&p->pending, set);
	list_for_each(t, &p->threads, in_process) sigpending_forget(&t->signals.pending, set);
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

/* What one more of a real-time signal is kept in; the first needs none. */
static struct sigqueued *spare_for(const struct siginfo *info)
{
	return info->signo >= SIGRTMIN ? kmalloc(sizeof(struct sigqueued)) : NULL;
}

/* signals_lock held. It is pending now; @blocked: by whom it is meant for. */
static s64 queue(const struct process *p, struct sigpending *to, const struct siginfo *info,
		 bool blocked, struct sigqueued **spare)
{
	if (!blocked && ignores(p, info->signo))
		return 0;
	return sigpending_add(to, info, p->rlimits[RLIMIT_SIGPENDING].cur, spare);
}

static bool blocks(const struct task *t, u64 bit)
{
	return READ_ONCE(t->signals.blocked) & bit;
}

/* A thread that takes it, the first if it does; NULL: all block it. signals_lock held. */
static struct task *taker(const struct process *p, u64 bit)
{
	struct task *t;

	list_for_each(t, &p->threads, in_process)
	{
		if (!blocks(t, bit) || t->signals.waited & bit)
			return t;
	}
	return NULL;
}

/*
 * signals_lock held, so the taker is still there: it hears of it, unless all are to end by it. Who
 * waits for it takes one; the next one is another's, unless this one waits again.
 */
static bool wake_or_end(const struct process *p, struct task *taker, int sig)
{
	u64 bit = signal_bit(sig);
	bool end = taker && !blocks(taker, bit) && ends(p, sig) && !ignores(p, sig);

	if (taker && !end) {
		if (taker->signals.waited & bit)
			taker->signals.waited = 0;
		task_wake(taker);
	}
	return end;
}

/* What goes on behind it. */
static void after_sending(struct process *p, int sig, bool end)
{
	signalfd_notify();
	if (sig == SIGCONT || sig == SIGKILL)
		go_on(p);
	if (end)
		process_end(p, sig);
}

s64 signal_send(struct process *p, const struct siginfo *info)
{
	struct sigqueued *spare = spare_for(info);
	u64 irq = spin_lock_irqsave(&signals_lock), bit = signal_bit(info->signo);
	struct task *t = taker(p, bit);
	bool end = false;
	s64 err;

	cancel_opposite(p, info->signo);
	err = queue(p, &p->pending, info, !t || blocks(t, bit), &spare);
	if (!err)
		end = wake_or_end(p, t, info->signo);
	spin_unlock_irqrestore(&signals_lock, irq);
	kfree(spare);
	after_sending(p, info->signo, end);
	return err;
}

s64 signal_send_thread(struct task *t, const struct siginfo *info)
{
	struct sigqueued *spare = spare_for(info);
	u64 irq = spin_lock_irqsave(&signals_lock), bit = signal_bit(info->signo);
	bool blocked = blocks(t, bit), end = false;
	s64 err;

	cancel_opposite(t->process, info->signo);
	err = queue(t->process, &t->signals.pending, info, blocked, &spare);
	if (!err)
		end = wake_or_end(t->process, blocked && !(t->signals.waited & bit) ? NULL : t,
				  info->signo);
	spin_unlock_irqrestore(&signals_lock, irq);
	kfree(spare);
	after_sending(t->process, info->signo, end);
	return err;
}

/* NULL: it has ended. signals_lock held. */
static struct task *thread_of(const struct process *p, int tid)
{
	struct task *t;

	list_for_each(t, &p->threads, in_process)
	{
		if (t->pid == tid)
			return t;
	}
	return NULL;
}

bool signal_send_lasting(struct process *p, int tid, struct sigqueued *q)
{
	int sig = q->info.signo;
	u64 irq = spin_lock_irqsave(&signals_lock), bit = signal_bit(sig);
	struct task *t = tid ? thread_of(p, tid) : taker(p, bit);
	bool lost = t ? !blocks(t, bit) && ignores(p, sig) : tid, end = false;

	if (!lost && !q->from) {
		sigpending_add_lasting(tid ? &t->signals.pending : &p->pending, q);
		if (t && blocks(t, bit) && !(t->signals.waited & bit))
			t = NULL;
		end = wake_or_end(p, t, sig);
	}
	spin_unlock_irqrestore(&signals_lock, irq);
	if (!lost)
		after_sending(p, sig, end);
	return !lost;
}

void signal_withdraw(struct sigqueued *q)
{
	u64 irq = spin_lock_irqsave(&signals_lock);

	sigpending_withdraw(q);
	spin_unlock_irqrestore(&signals_lock, irq);
}

bool signal_reserve(const struct process *p)
{
	u64 irq = spin_lock_irqsave(&signals_lock);
	bool room = sigpending_reserve(p->rlimits[RLIMIT_SIGPENDING].cur);

	spin_unlock_irqrestore(&signals_lock, irq);
	return room;
}

void signal_unreserve(void)
{
	u64 irq = spin_lock_irqsave(&signals_lock);

	sigpending_unreserve();
	spin_unlock_irqrestore(&signals_lock, irq);
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

	(void)signal_send_thread(current, &info);
}

void signal_force(int sig, int code, u64 addr)
{
	struct siginfo info = {.signo = sig, .code = code, .addr = addr};
	struct signals *s = &current->signals;
	struct sigaction *a = &current->process->action[sig - 1];
	u64 irq = spin_lock_irqsave(&signals_lock);

	if (s->blocked & signal_bit(sig) || a->handler == SIG_IGN) {
		s->blocked &= ~signal_bit(sig);
		a->handler = SIG_DFL;
	}
	if (sig == SIGBUS && code == BUS_MCEERR_AR)
		info.memory.lsb = PAGE_SHIFT;
	sigpending_force(&s->pending, &info);
	spin_unlock_irqrestore(&signals_lock, irq);
}

u64 signals_pending(void)
{
	return READ_ONCE(current->signals.pending.set) | READ_ONCE(current->process->pending.set);
}

u64 signals_waiting(void)
{
	return signals_pending() & current->signals.blocked;
}

bool signal_pending(void)
{
	return signals_pending() & ~current->signals.blocked || current->dying ||
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

/* --- on the way to user mode ------------------------------------------------------------------ */

/* signals_lock held. */
static int take(u64 set, struct siginfo *info)
{
	struct sigpending *own = &current->signals.pending;
	int sig = sigpending_take(own, set & FAULTS, info);

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

void signal_ignored_now(struct process *p, int sig)
{
	u64 irq = spin_lock_irqsave(&signals_lock);

	if (ignores(p, sig))
		forget(p, signal_bit(sig));
	spin_unlock_irqrestore(&signals_lock, irq);
}

void signals_end(struct sigpending *p)
{
	u64 irq = spin_lock_irqsave(&signals_lock);

	sigpending_forget(p, ~0UL);
	spin_unlock_irqrestore(&signals_lock, irq);
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
