/*
 * The scheduler: one run queue for all CPUs, round robin, slices of 10 ms. A CPU's timer is armed
 * only for what is next: the end of the first sleeper or timer, or of the slice while
 * others wait for a CPU. The queue's lock is held across the switch of stacks: who finds a task off
 * the CPU under it may run it.
 */
#include "guest/include/sched.h"
#include "guest/include/apic.h"
#include "guest/include/cputimer.h"
#include "guest/include/ktimer.h"
#include "guest/include/mm.h"
#include "guest/include/printk.h"
#include "guest/include/process.h"
#include "guest/include/smp.h"
#include "guest/include/smp_lock.h"
#include "guest/include/string.h"
#include "guest/include/task.h"

#define SLICE_NS 10000000UL

extern u8 boot_stack[];

static struct spinlock rq_lock; /* the two lists, and which task each CPU runs */
static struct list run_queue = {&run_queue, &run_queue};
static struct list sleepers = {&sleepers, &sleepers}; /* by wake_at */
static struct task idle_task = {.name = "idle", .state = TASK_RUNNING};

static void become_idle(struct task *idle)
{
	idle->on_cpu = this_cpu();
	this_cpu()->idle = idle;
	this_cpu()->task = idle;
}

void sched_init(void)
{
	idle_task.stack = boot_stack;
	list_init(&idle_task.run);
	list_init(&idle_task.timer);
	become_idle(&idle_task);
}

void sched_init_secondary(struct task *idle)
{
	become_idle(idle);
}

/*
 * rq_lock held. A slice that has ended is not armed for again: where an interrupt costs more than
 * the way to schedule(), its timer would come before that for ever.
 */
static void arm_timer(void)
{
	struct cpu *cpu = this_cpu();
	bool waiting = !list_empty(&run_queue) && !cpu->need_resched;
	u64 next = MIN(waiting ? cpu->slice_end : ~0UL, ktimers_first());
	u64 now;

	if (cputime_counts(cpu->task))
		next = MIN(next, cpu->charged + CPUTIMER_TICK);
	if (!list_empty(&sleepers))
		next = MIN(next, list_entry(sleepers.next, struct task, timer)->wake_at);
	if (next == ~0UL || (cpu->armed && cpu->armed <= next))
		return;
	now = ktime_ns();
	cpu->armed = next;
	timer_arm(next > now ? next - now : 1);
}

/* A CPU without work that nobody has called yet is called, this one first; false: there is none. */
static bool call_idle_cpu(void)
{
	struct cpu *self = this_cpu();

	if (self->task == self->idle && !self->need_resched) {
		self->need_resched = true;
		return true;
	}
	for (struct cpu *cpu = cpus; nr_cpus > 1 && cpu < cpus + nr_cpus; cpu++) {
		if (cpu == self || cpu->task != cpu->idle || cpu->need_resched)
			continue;
		cpu->need_resched = true;
		smp_send_reschedule(cpu);
		return true;
	}
	return false;
}

/* rq_lock held. */
static void enqueue(struct task *t)
{
	list_add_tail(&t->run, &run_queue);
	if (!call_idle_cpu())
		arm_timer();
}

/* rq_lock held. */
static void wake(struct task *t)
{
	enum task_state sleeping = TASK_SLEEPING;
	bool slept = __atomic_compare_exchange_n(&t->state, &sleeping, TASK_RUNNING, false,
						 __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);

	/* One that is still on its way to sleep just does not go. */
	if (slept && !t->on_cpu)
		enqueue(t);
	else if (!slept && t->on_cpu && t->on_cpu != this_cpu())
		smp_send_reschedule(t->on_cpu);
}

void task_wake(struct task *t)
{
	u64 irq = spin_lock_irqsave(&rq_lock);

	wake(t);
	spin_unlock_irqrestore(&rq_lock, irq);
}

void sched_arm_timer(void)
{
	u64 irq = spin_lock_irqsave(&rq_lock);

	arm_timer();
	spin_unlock_irqrestore(&rq_lock, irq);
}

void sched_look_again(const struct process *p)
{
	u64 irq = spin_lock_irqsave(&rq_lock);
	const struct task *t;

	arm_timer();
	list_for_each(t, &p->threads, in_process)
	{
		struct cpu *cpu = t->on_cpu;

		if (!cpu || cpu == this_cpu())
			continue;
		cpu->need_resched = true;
		smp_send_reschedule(cpu);
	}
	spin_unlock_irqrestore(&rq_lock, irq);
}

void sched_tick(void)
{
	u64 now = ktime_ns();

	cputime_charge(this_cpu()->irq_user);
	ktimers_expire(now);
	spin_lock(&rq_lock);
	this_cpu()->armed = 0;
	while (!list_empty(&sleepers)) {
		struct task *t = list_entry(sleepers.next, struct task, timer);

		if (t->wake_at > now)
			break;
		list_del(&t->timer);
		wake(t);
	}
	if (!list_empty(&run_queue) && now >= this_cpu()->slice_end)
		this_cpu()->need_resched = true;
	arm_timer();
	spin_unlock(&rq_lock);
}

void sched_renew_slice(void)
{
	spin_lock(&rq_lock);
	this_cpu()->need_resched = false;
	this_cpu()->slice_end = ktime_ns() + SLICE_NS;
	arm_timer();
	spin_unlock(&rq_lock);
}

/* The CPU runs another task from here on: the one before may run elsewhere, or be freed. */
static void finish_switch(void)
{
	struct task *prev = this_cpu()->switched_from;

	__atomic_store_n(&prev->on_cpu, NULL, __ATOMIC_RELEASE);
	spin_unlock(&rq_lock);
}

static void switch_to(struct task *prev, struct task *next)
{
	struct cpu *cpu = this_cpu();

	cpu->task = next;
	cpu->switched_from = prev;
	next->on_cpu = cpu;
	cpu_set_kernel_stack((u64)next->stack + TASK_STACK);
	fpu_switch(prev, next);
	if (next->mm) {
		mm_activate(next->mm);
		wrmsr(MSR_FS_BASE, next->fs_base);
	}
	if (cputime_counts(next))
		arm_timer();
	switch_stacks(&prev->kernel_rsp, next->kernel_rsp);
	finish_switch();
}

void schedule(void)
{
	struct task *prev = current, *next;
	struct cpu *cpu;
	u64 irq;

	BUG_ON(this_cpu()->irq_depth);
	irq = local_irq_save();
	cputime_charge(true);
	release_kernel_lock(prev);
	spin_lock(&rq_lock);
	cpu = this_cpu();
	next = cpu->idle;
	cpu->need_resched = false;
	if (prev->state == TASK_RUNNING && prev != next)
		list_add_tail(&prev->run, &run_queue);
	if (!list_empty(&run_queue)) {
		next = list_entry(run_queue.next, struct task, run);
		list_del(&next->run);
		cpu->charged = ktime_ns();
		cpu->slice_end = cpu->charged + SLICE_NS;
		arm_timer();
	}
	if (next != prev)
		switch_to(prev, next);
	else
		spin_unlock(&rq_lock);
	local_irq_restore(irq);
	reacquire_kernel_lock(prev);
}

/* A new task, on its own stack, with interrupts off. */
void task_main(void (*fn)(void *), void *arg)
{
	finish_switch();
	local_irq_enable();
	lock_kernel();
	fn(arg);
	unlock_kernel();
	local_irq_disable();
}

void idle_loop(void)
{
	for (;;) {
		local_irq_disable();
		if (this_cpu()->need_resched || !list_empty(&run_queue)) {
			local_irq_enable();
			schedule();
		} else {
			/* sti takes effect behind hlt: no wake-up falls in between. */
			__asm__ volatile("sti; hlt" ::: "memory");
		}
	}
}

void schedule_until(u64 deadline)
{
	u64 irq = spin_lock_irqsave(&rq_lock);
	struct list *pos;

	current->wake_at = deadline;
	for (pos = sleepers.next; pos != &sleepers; pos = pos->next)
		if (list_entry(pos, struct task, timer)->wake_at > current->wake_at)
			break;
	list_add_tail(&current->timer, pos);
	arm_timer();
	spin_unlock(&rq_lock);
	schedule();
	spin_lock(&rq_lock);
	list_del(&current->timer);
	spin_unlock_irqrestore(&rq_lock, irq);
}

u64 sleep_ns(u64 ns)
{
	u64 end = ktime_ns() + ns, now;

	while ((now = ktime_ns()) < end && !signal_pending()) {
		set_current_state(TASK_SLEEPING);
		if (!signal_pending()) /* nor came one since */
			schedule_until(end);
		set_current_state(TASK_RUNNING);
	}
	return now < end ? end - now : 0;
}
