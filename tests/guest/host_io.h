/*
 * Included ahead of the guest's drivers when they are compiled for the build machine: device
 * registers are a model's, and switching interrupts off is only remembered. Takes the place of
 * guest/include/io.h and spinlock.h.
 */
#ifndef TESTS_HOST_IO_H
#define TESTS_HOST_IO_H
#define GUEST_IO_H
#define GUEST_SPINLOCK_H

#include "guest/include/types.h"
#include <stdlib.h>

u32 readl(const volatile void *addr);
void writel(u32 v, volatile void *addr);
void *ioremap(u64 phys, u64 len);

struct spinlock {
	u32 locked;
};

extern bool host_irqs_off;

static inline void smp_mb(void)
{
}

static inline u64 local_irq_save(void)
{
	u64 flags = host_irqs_off;

	host_irqs_off = true;
	return flags;
}

static inline void local_irq_restore(u64 flags)
{
	host_irqs_off = flags;
}

/* With one CPU, a lock that is taken already is one that would never be had. */
static inline void spin_lock(struct spinlock *l)
{
	if (l->locked)
		abort();
	l->locked = 1;
}

static inline void spin_unlock(struct spinlock *l)
{
	l->locked = 0;
}

static inline u64 spin_lock_irqsave(struct spinlock *l)
{
	u64 flags = local_irq_save();

	spin_lock(l);
	return flags;
}

static inline void spin_unlock_irqrestore(struct spinlock *l, u64 flags)
{
	spin_unlock(l);
	local_irq_restore(flags);
}

#endif
