/* What programs ask about the machine and its clock beside /proc. */
#include "guest/include/errno.h"
#include "guest/include/page.h"
#include "guest/include/process.h"
#include "guest/include/sched.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"
#include "guest/include/uaccess.h"

struct sysinfo {
	s64 uptime;
	u64 loads[3];
	u64 totalram, freeram, sharedram, bufferram, totalswap, freeswap;
	u16 procs, pad[3];
	u64 totalhigh, freehigh;
	u32 mem_unit, end;
};
_Static_assert(sizeof(struct sysinfo) == 112, "Linux's");

SYSCALL(sysinfo)
{
	struct sysinfo info = {
	    .uptime = (s64)(ktime_ns() / 1000000000),
	    .totalram = nr_total_pages() << PAGE_SHIFT,
	    .freeram = nr_free_pages() << PAGE_SHIFT,
	    .procs = (u16)process_count(),
	    .mem_unit = 1,
	};

	return copy_to_user(regs->rdi, &info, sizeof(info)) ? -EFAULT : 0;
}

#define CLOCKS	      12
#define CLOCK_UNKNOWN 10 /* a number that no clock has */
#define TICK_NS	      10000000UL

/* All clocks are the same one. */
SYSCALL(clock_getres)
{
	static const s64 one_ns[2] = {0, 1};
	u32 id = (u32)regs->rdi;

	if (id >= CLOCKS || id == CLOCK_UNKNOWN)
		return -EINVAL;
	return regs->rsi && copy_to_user(regs->rsi, one_ns, sizeof(one_ns)) ? -EFAULT : 0;
}

/* In ticks of 10 ms, as sysconf(_SC_CLK_TCK) says. Nobody counts who had a CPU for how long. */
SYSCALL(times)
{
	static const s64 nothing[4];

	if (regs->rdi && copy_to_user(regs->rdi, nothing, sizeof(nothing)))
		return -EFAULT;
	return (s64)(ktime_ns() / TICK_NS);
}
