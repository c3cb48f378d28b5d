/*
 * Included ahead of the guest's memory management when it is compiled for the build machine: what
 * only ring 0 may do is remembered, and done nowhere.
 */
#ifndef TESTS_HOST_CPU_H
#define TESTS_HOST_CPU_H

#include "tests/guest/host_io.h"

#define invlpg	    privileged_invlpg
#define read_cr3    privileged_read_cr3
#define write_cr3   privileged_write_cr3
#define this_cpu    privileged_this_cpu
#define get_current privileged_get_current
#include "guest/include/cpu.h"
#undef invlpg
#undef read_cr3
#undef write_cr3
#undef this_cpu
#undef get_current

static inline struct cpu *this_cpu(void)
{
	return &cpus[0];
}

static inline struct task *get_current(void)
{
	return cpus[0].task;
}

extern u64 host_cr3;
extern unsigned host_flushes; /* of single pages or all */

static inline void invlpg(u64 addr)
{
	(void)addr;
	host_flushes++;
}

static inline u64 read_cr3(void)
{
	return host_cr3;
}

static inline void write_cr3(u64 v)
{
	host_cr3 = v;
	host_flushes++;
}

#endif
