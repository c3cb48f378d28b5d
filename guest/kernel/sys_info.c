/* sysinfo: what free asks beside /proc. */
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
