/*
 * Locks for short sections. A lock that an interrupt handler takes is always taken with
 * spin_lock_irqsave. Whoever comes first has it, not who waits longest: a queue would stand still
 * whenever the host runs another thread in the place of the one whose turn it is.
 */
#ifndef GUEST_SPINLOCK_H
#define GUEST_SPINLOCK_H

#include "guest/include/types.h"

#define RFLAGS_IF 0x200UL

struct spinlock {
	u32 locked;
};

/* Writes before come before reads behind, as other CPUs see them. */
static inline void smp_mb(void)
{
	__asm__ volatile("lock; addl $0, -4(%%rsp)" ::: "memory", "cc");
}

static inline u64 local_irq_save(void)
{
	u64 flags;

	__asm__ volatile("pushfq; popq %0; cli" : "=r"(flags)::"memory");
	return flags;
}

static inline void local_irq_restore(u64 flags)
{
	if (flags & RFLAGS_IF)
		__asm__ volatile("sti" ::: "memory");
}

static inline void local_irq_enable(void)
{
	__asm__ volatile("sti" ::: "memory");
}

static inline void local_irq_disable(void)
{
	__asm__ volatile("cli" ::: "memory");
}

/* Until it looks free. */
void spin_wait(const struct spinlock *l);

static inline void spin_lock(struct spinlock *l)
{
	while (unlikely(__atomic_exchange_n(&l->locked, 1, __ATOMIC_ACQUIRE)))
		spin_wait(l);
}

static inline void spin_unlock(struct spinlock *l)
{
	__atomic_store_n(&l->locked, 0, __ATOMIC_RELEASE);
}

/* Returns what spin_unlock_irqrestore wants back. */
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
