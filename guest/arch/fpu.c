/*
 * The FPU's state. The kernel never uses it, so a CPU keeps that of the program it ran last. With
 * one CPU it is saved when another program comes; with several whenever its task leaves the CPU,
 * for it may go on elsewhere, and only loading it again is spared.
 */
#include "guest/include/cpu.h"
#include "guest/include/spinlock.h"
#include "guest/include/string.h"
#include "guest/include/task.h"

#define FPU_CONTROL 0x037f /* the state after FNINIT */
#define FPU_MXCSR   0x1f80

/* Interrupts off. The FPU holds t's state, as it is now. */
static bool fpu_has(const struct task *t)
{
	return this_cpu()->fpu_owner == t && t->fpu_cpu == this_cpu();
}

/* Interrupts off. */
static void fpu_take(struct task *t)
{
	struct task *owner = this_cpu()->fpu_owner;

	if (nr_cpus == 1 && owner && owner != t)
		fpu_save(owner->fpu);
	fpu_restore(t->fpu);
	this_cpu()->fpu_owner = t;
	t->fpu_cpu = this_cpu();
}

void fpu_switch(struct task *prev, struct task *next)
{
	if (nr_cpus > 1 && fpu_has(prev))
		fpu_save(prev->fpu);
	if (next->mm && !fpu_has(next))
		fpu_take(next);
}

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

	fpu_initial(current);
	fpu_take(current);
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

	if (fpu_has(current))
		fpu_save(current->fpu);
	local_irq_restore(irq);
}

void fpu_load(const u8 area[512])
{
	u64 irq = local_irq_save();

	memcpy(current->fpu, area, sizeof(current->fpu));
	if (fpu_has(current))
		fpu_restore(current->fpu);
	local_irq_restore(irq);
}

void fpu_forget(struct task *t)
{
	u64 irq = local_irq_save();

	if (fpu_has(t))
		this_cpu()->fpu_owner = NULL;
	t->fpu_cpu = NULL;
	local_irq_restore(irq);
}
