/* The system call table. */
#include "guest/include/syscall.h"
#include "guest/include/errno.h"
#include "guest/include/printk.h"
#include "guest/include/task.h"
#include "guest/include/trap.h"

typedef s64 (*syscall_fn)(struct regs *regs);

static const syscall_fn table[] = {
#define X(nr, name) [nr] = sys_##name,
    SYSCALLS(X)
#undef X
};

#define NUMBERS_TOLD 512

/* Once for each number: a program asks again and again, and those it may make up have an end. */
static void tell_unknown(u64 nr)
{
	static u64 told[NUMBERS_TOLD / 64];
	u64 i = MIN(nr, NUMBERS_TOLD - 1UL), bit = 1UL << i % 64;

	if (!(__atomic_fetch_or(&told[i / 64], bit, __ATOMIC_RELAXED) & bit))
		pr_info("%s[%d]: system call %ld is not known here\n", current->name, current->pid,
			(s64)nr);
}

s64 syscall_run(struct regs *regs)
{
	u64 nr = regs->rax;

	if (nr >= ARRAY_SIZE(table) || !table[nr]) {
		tell_unknown(nr);
		return -ENOSYS;
	}
	return table[nr](regs);
}
