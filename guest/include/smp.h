/* Several CPUs: started, told to do something, stopped. Names follow Linux's. */
#ifndef GUEST_SMP_H
#define GUEST_SMP_H

#include "guest/include/cpu.h"

/*
 * Starts the CPUs that the machine names, up to maxcpus= of the command line (or NR_CPUS); nr_cpus
 * counts those that came. Once, before the first task runs.
 */
void smp_init(void);

/* The CPU looks for tasks, or whether its task still may run. Any context. */
void smp_send_reschedule(const struct cpu *cpu);

/*
 * Runs fn(arg) on the CPUs of mask (bits by their id), which has not the caller's, with interrupts
 * off; it ended everywhere on return. fn takes no lock. Not from interrupt handlers.
 */
void smp_call_function_many(u32 mask, void (*fn)(void *arg), void *arg);

/* What is waited for of this CPU is done: for loops that wait with interrupts off. */
void smp_poll(void);

/* All other CPUs stop for good, as soon as they have interrupts on. */
void smp_send_stop(void);

/* head.S: where another CPU goes on. */
void secondary_main(void);

/* All CPUs but the caller's. */
static inline u32 other_cpus(void)
{
	return ((1U << nr_cpus) - 1) & ~(1U << this_cpu()->id);
}

#endif
