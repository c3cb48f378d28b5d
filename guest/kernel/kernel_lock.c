/* The kernel lock. */
#include "guest/include/cpu.h"
#include "guest/include/smp_lock.h"
#include "guest/include/spinlock.h"

static struct spinlock kernel_flag;

void lock_kernel(void)
{
	if (nr_cpus > 1 && !current->lock_depth++)
		spin_lock(&kernel_flag);
}

void unlock_kernel(void)
{
	if (nr_cpus > 1 && !--current->lock_depth)
		spin_unlock(&kernel_flag);
}

void release_kernel_lock(const struct task *t)
{
	if (t->lock_depth)
		spin_unlock(&kernel_flag);
}

void reacquire_kernel_lock(const struct task *t)
{
	if (t->lock_depth)
		spin_lock(&kernel_flag);
}
