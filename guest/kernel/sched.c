/*
 * The scheduler: one CPU, round robin, slices of 10 ms. The timer is armed only for what is next:
 * the first sleeper's end, or the slice's end while others wait for the CPU.
 */
#include "guest/include/sched.h"
#include "guest/include/apic.h"
#include "guest/include/mm.h"
#include "guest/include/printk.h"
#include "guest/include/string.h"
#include "guest/include/task.h"

#define SLICE_NS 10000000UL

extern u8 boot_stack[];

static struct list run_queue = {&run_queue, &run_queue};
static struct list sleepers = {&sleepers, &sleepers}; /* by wake_at */
static struct task idle_task = {.name = "idle", .state = TASK_RUNNING};

void sched_init(void)
{
	idle_task.stack = boot_stack;
	list_init(&idle_task.run);
	list_init(&idle_task.children);
	list_init(&idle_task.timer);
	this_cpu()->idle = &idle_task;
	this_cpu()->task = &idle_task;
}

/*
 * Interrupts off. A slice that has ended is not armed for again: where an interrupt costs more
 * than the way to schedule(), its timer would come before that for ever.
 */
static void arm_timer(void)
{
	bool waiting = !list_empty(&run_queue) && !this_cpu()->need_resched;
	u64 next = waiting ? this_cpu()->slice_end : ~0UL;
	u64 now;

	if (!list_empty(&sleepers))
		next = MIN(next, list_entry(sleepers.next, struct task, timer)->wake_at);
	if (next == ~0UL || (this_cpu()->armed && this_cpu()->armed <= next))
		return;
	now = ktime_ns();
	this_cpu()->armed = next;
	timer_arm(next > now ? next - now : 1);
}

/* Interrupts off. */
static void enqueue(struct task *t)
{
	list_add_tail(&t->run, &run_queue);
	if (current == this_cpu()->idle)
		this_cpu()->need_resched = true;
	else
		arm_timer();
}

void task_wake(struct task *t)
{
	u64 irq = local_irq_save();

	if (t->state == TASK_SLEEPING) {
		t->state = TASK_RUNNING;
		/* One that is still on its way to sleep just does not go. */
		if (t != current)
			enqueue(t);
	}
	local_irq_restore(irq);
}

void sched_tick(void)
{
	u64 now = ktime_ns();

	this_cpu()->armed = 0;
	while (!list_empty(&sleepers)) {
		struct task *t = list_entry(sleepers.next, struct task, timer);

		if (t->wake_at > now)
			break;
		list_del(&t->timer);
		task_wake(t);
	}
	if (!list_empty(&run_queue) && now >= this_cpu()->slice_end)
		this_cpu()->need_resched = true;
	arm_timer();
}

void sched_renew_slice(void)
{
	this_cpu()->need_resched = false;
	this_cpu()->slice_end = ktime_ns() + SLICE_NS;
	arm_timer();
}

static void switch_to(struct task *prev, struct task *next)
{
	this_cpu()->task = next;
	cpu_set_kernel_stack((u64)next->stack + TASK_STACK);
	if (next->mm) {
		mm_activate(next->mm);
		wrmsr(MSR_FS_BASE, next->fs_base);
		if (this_cpu()->fpu_owner != next) {
			if (this_cpu()->fpu_owner)
				fpu_save(this_cpu()->fpu_owner->fpu);
			fpu_restore(next->fpu);
			this_cpu()->fpu_owner = next;
		}
	}
	switch_stacks(&prev->kernel_rsp, next->kernel_rsp);
}

void schedule(void)
{
	u64 irq = local_irq_save();
	struct task *prev = current, *next = this_cpu()->idle;

	BUG_ON(this_cpu()->irq_depth);
	this_cpu()->need_resched = false;
	if (prev->state == TASK_RUNNING && prev != this_cpu()->idle)
		list_add_tail(&prev->run, &run_queue);
	if (!list_empty(&run_queue)) {
		next = list_entry(run_queue.next, struct task, run);
		list_del(&next->run);
		this_cpu()->slice_end = ktime_ns() + SLICE_NS;
		arm_timer();
	}
	if (next != prev)
		switch_to(prev, next);
	local_irq_restore(irq);
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
	u64 irq = local_irq_save();
	struct list *pos;

	current->wake_at = deadline;
	for (pos = sleepers.next; pos != &sleepers; pos = pos->next)
		if (list_entry(pos, struct task, timer)->wake_at > current->wake_at)
			break;
	list_add_tail(&current->timer, pos);
	arm_timer();
	schedule();
	list_del(&current->timer);
	local_irq_restore(irq);
}

u64 sleep_ns(u64 ns)
{
	u64 end = ktime_ns() + ns, now;

	while ((now = ktime_ns()) < end && !signal_pending()) {
		u64 irq = local_irq_save();

		if (!signal_pending()) { /* nor came one since */
			current->state = TASK_SLEEPING;
			schedule_until(end);
		}
		local_irq_restore(irq);
	}
	return now < end ? end - now : 0;
}

/* --- FPU ------------------------------------------------------------------------------------- */

#define FPU_CONTROL 0x037f /* the state after FNINIT */
#define FPU_MXCSR   0x1f80

static void fpu_initial(struct task *t)
{
	u16 control = FPU_CONTROL;
	u32 mxcsr = FPU_MXCSR;

	memset(t->fpu, 0, sizeof(t->fpu));
	memcpy(t->fpu, &control, sizeof(control));
	memcpy(t->fpu + 24, &mxcsr, sizeof(mxcsr));
}

void fpu_reset(void)
{
	u64 irq = local_irq_save();

	if (this_cpu()->fpu_owner && this_cpu()->fpu_owner != current)
		fpu_save(this_cpu()->fpu_owner->fpu);
	fpu_initial(current);
	fpu_restore(current->fpu);
	this_cpu()->fpu_owner = current;
	local_irq_restore(irq);
}

void fpu_fork(struct task *child)
{
	fpu_sync();
	memcpy(child->fpu, current->fpu, sizeof(child->fpu));
}

void fpu_sync(void)
{
	u64 irq = local_irq_save();

	if (this_cpu()->fpu_owner == current)
		fpu_save(current->fpu);
	local_irq_restore(irq);
}

void fpu_load(const u8 area[512])
{
	u64 irq = local_irq_save();

	memcpy(current->fpu, area, sizeof(current->fpu));
	if (this_cpu()->fpu_owner == current)
		fpu_restore(current->fpu);
	local_irq_restore(irq);
}

void fpu_forget(const struct task *t)
{
	if (this_cpu()->fpu_owner == t)
		this_cpu()->fpu_owner = NULL;
}
