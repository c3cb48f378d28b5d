/* Timers of the time that a process runs. */
#include "guest/include/cputimer.h"
#include "guest/include/process.h"
#include "guest/include/sched.h"
#include "guest/include/task.h"

static const int signals[NR_CPUTIMERS] = {SIGVTALRM, SIGPROF};

bool cputime_counts(const struct task *t)
{
	/* The process of one that has ended may be freed. */
	return t->state != TASK_DEAD && t->process && READ_ONCE(t->process->cputimers.on);
}

/* timers_lock held. */
static void note_on(struct cputimers *c)
{
	bool on = c->timer[CPUTIMER_VIRTUAL].left || c->timer[CPUTIMER_PROF].left;

	__atomic_store_n(&c->on, on, __ATOMIC_RELAXED);
}

/* timers_lock held. What ran beyond the end is of the next period. */
static void run_down(struct process *p, enum cputimer_kind kind, u64 ran)
{
	const struct siginfo info = {.signo = signals[kind], .code = SI_KERNEL};
	u64 *left = &p->cputimers.timer[kind].left, period = p->cputimers.timer[kind].period;

	if (!*left)
		return;
	if (ran < *left) {
		*left -= ran;
		return;
	}
	*left = period ? period - (ran - *left) % period : 0;
	note_on(&p->cputimers);
	if (!p->ending)
		signal_send(p, &info);
}

void cputime_charge(bool user)
{
	struct cpu *cpu = this_cpu();
	u64 now, ran;

	if (!cputime_counts(current))
		return;
	now = ktime_ns();
	ran = now - cpu->charged;
	cpu->charged = now;
	spin_lock(&timers_lock);
	if (user)
		run_down(current->process, CPUTIMER_VIRTUAL, ran);
	run_down(current->process, CPUTIMER_PROF, ran);
	spin_unlock(&timers_lock);
}

/* What this thread ran until now is of what was before. */
static u64 count_until_now(void)
{
	u64 irq = local_irq_save();

	cputime_charge(true);
	this_cpu()->charged = ktime_ns();
	spin_lock(&timers_lock);
	return irq;
}

u64 cputimer_left(enum cputimer_kind kind, u64 *period)
{
	const struct cputimers *c = &current->process->cputimers;
	u64 irq = count_until_now(), left = c->timer[kind].left;

	*period = c->timer[kind].period;
	spin_unlock_irqrestore(&timers_lock, irq);
	return left;
}

u64 cputimer_exchange(enum cputimer_kind kind, u64 value, u64 *period)
{
	struct cputimers *c = &current->process->cputimers;
	u64 irq = count_until_now(), left = c->timer[kind].left, was = c->timer[kind].period;

	c->timer[kind].left = value;
	c->timer[kind].period = value ? *period : 0;
	note_on(c);
	spin_unlock_irqrestore(&timers_lock, irq);
	sched_look_again(current->process);
	*period = was;
	return left;
}
