/*
 * The kernel lock. Who had it last lets those that wait have it first: a CPU that comes back for it
 * at once has its word in its cache, and where the CPUs are another's threads the one that waits
 * could look at it only when it was taken, for minutes.
 */
#include "guest/include/cpu.h"
#include "guest/include/sched.h"
#include "guest/include/smp.h"
#include "guest/include/smp_lock.h"
#include "guest/include/spinlock.h"

/* Then it is taken all the same: the host may be running another thread than the one that waits. */
#define GIVE_WAY_NS 200000UL

static struct spinlock kernel_flag;
static u32 waiting;		   /* CPUs; atomic */
static const struct cpu *had_last; /* written by who has it */

static void give_way(void)
{
	const struct cpu *self = this_cpu();
	u64 end;

	if (READ_ONCE(had_last) != self || !READ_ONCE(waiting))
		return;
	end = ktime_ns() + GIVE_WAY_NS;
	while (READ_ONCE(had_last) == self && READ_ONCE(waiting) && ktime_ns() < end) {
		__builtin_ia32_pause();
		smp_poll();
	}
}

static void take(void)
{
	give_way();
	if (__atomic_exchange_n(&kernel_flag.locked, 1, __ATOMIC_ACQUIRE)) {
		__atomic_add_fetch(&waiting, 1, __ATOMIC_RELAXED);
		spin_lock(&kernel_flag);
		__atomic_sub_fetch(&waiting, 1, __ATOMIC_RELAXED);
	}
	WRITE_ONCE(had_last, this_cpu());
}

void lock_kernel(void)
{
	if (nr_cpus > 1 && !current->lock_depth++)
		take();
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
		take();
}
