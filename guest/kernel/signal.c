/* Signals: sent, blocked, ignored. What becomes of them is in signal_deliver.c. */
#include "guest/include/signal.h"
#include "guest/include/errno.h"
#include "guest/include/page.h"
#include "guest/include/process.h"
#include "guest/include/spinlock.h"
#include "guest/include/task.h"
#include "guest/kernel/signal_rules.h"

struct spinlock signals_lock;
struct wait_queue signal_continued = WAIT_QUEUE_INIT(signal_continued);

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
		forget(p, SIGNALS_STOPPING);
	else if (signal_bit(sig) & SIGNALS_STOPPING)
		forget(p, signal_bit(SIGCONT));
}

void signal_tell_parent(struct process *p, int code, int status)
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
	wake_up(&signal_continued);
	signal_tell_parent(p, CLD_CONTINUED, SIGCONT);
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

void signal_ignored_now(struct process *p, int sig)
{
	u64 irq = spin_lock_irqsave(&signals_lock);

	if (handler_of(p, sig) == SIG_IGN ||
	    (handler_of(p, sig) == SIG_DFL && signal_bit(sig) & SIGNALS_IGNORED))
		forget(p, signal_bit(sig));
	spin_unlock_irqrestore(&signals_lock, irq);
}

void signals_end(struct sigpending *p)
{
	u64 irq = spin_lock_irqsave(&signals_lock);

	sigpending_forget(p, ~0UL);
	spin_unlock_irqrestore(&signals_lock, irq);
}
