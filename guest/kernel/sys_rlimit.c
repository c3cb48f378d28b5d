/* getrlimit, setrlimit, prlimit64. Everyone is root, so a hard limit can be raised, too. */
#include "guest/include/errno.h"
#include "guest/include/file.h"
#include "guest/include/page.h"
#include "guest/include/process.h"
#include "guest/include/rlimit.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"
#include "guest/include/uaccess.h"

#define STACK_DEFAULT	 (8UL << 20)
#define SIGPENDING_SHIFT 4 /* one for each 64 KiB of memory */
#define SIGPENDING_MIN	 64UL
#define MEMLOCK_DEFAULT	 (8UL << 20)

void rlimits_init(struct process *p)
{
	const u64 sigpending = MAX(nr_total_pages() >> SIGPENDING_SHIFT, SIGPENDING_MIN);

	for (unsigned i = 0; i < RLIM_NLIMITS; i++)
		p->rlimits[i] = (struct rlimit){RLIM_INFINITY, RLIM_INFINITY};
	p->rlimits[RLIMIT_STACK].cur = STACK_DEFAULT;
	p->rlimits[RLIMIT_NOFILE] = (struct rlimit){FILES_MAX, FILES_MAX};
	p->rlimits[RLIMIT_SIGPENDING] = (struct rlimit){sigpending, sigpending};
	p->rlimits[RLIMIT_MEMLOCK] = (struct rlimit){MEMLOCK_DEFAULT, MEMLOCK_DEFAULT};
}

u64 rlimit(unsigned resource)
{
	return READ_ONCE(current->process->rlimits[resource].cur);
}

/* user_new, user_old: where a struct rlimit is, or goes; 0: none does. */
static s64 change_limit(struct process *p, u64 resource, u64 user_new, u64 user_old)
{
	struct rlimit new, old;

	if (resource >= RLIM_NLIMITS)
		return -EINVAL;
	if (user_new && copy_from_user(&new, user_new, sizeof(new)))
		return -EFAULT;
	if (user_new && new.cur > new.max)
		return -EINVAL;
	if (user_new && resource == RLIMIT_NOFILE && new.max > FILES_MAX)
		return -EPERM;
	old = p->rlimits[resource];
	if (user_new)
		p->rlimits[resource] = new;
	return user_old && copy_to_user(user_old, &old, sizeof(old)) ? -EFAULT : 0;
}

SYSCALL(getrlimit)
{
	if (!regs->rsi)
		return regs->rdi < RLIM_NLIMITS ? -EFAULT : -EINVAL;
	return change_limit(current->process, (u32)regs->rdi, 0, regs->rsi);
}

SYSCALL(setrlimit)
{
	if (!regs->rsi)
		return -EFAULT;
	return change_limit(current->process, (u32)regs->rdi, regs->rsi, 0);
}

SYSCALL(prlimit64)
{
	int pid = (int)regs->rdi;
	struct process *p = pid ? process_find(pid) : current->process;

	return p ? change_limit(p, (u32)regs->rsi, regs->rdx, regs->r10) : -ESRCH;
}
