/* The system call table. */
#include "guest/include/syscall.h"
#include "guest/include/errno.h"
#include "guest/include/trap.h"

typedef s64 (*syscall_fn)(struct regs *regs);

static const syscall_fn table[] = {
#define X(nr, name) [nr] = sys_##name,
    SYSCALLS(X)
#undef X
};

s64 syscall_run(struct regs *regs)
{
	u64 nr = regs->rax;

	if (nr >= ARRAY_SIZE(table) || !table[nr])
		return -ENOSYS;
	return table[nr](regs);
}
