/* getrlimit, setrlimit, prlimit64. Everyone is root, so a hard limit can be raised, too. */
#include "guest/include/errno.h"
#include "guest/include/file.h"
#include "guest/include/rlimit.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"
#include "guest/include/uaccess.h"

#define STACK_DEFAULT	(8UL << 20)
#define MEMLOCK_DEFAULT (8UL << 20)

void rlimits_init(struct task *t)
{
	for (unsigned i = 0; i < RLIM_NLIMITS; i++)
		t->rlimits[i] = (struct rlimit){RLIM_INFINITY, RLIM_INFINITY};
	t->rlimits[RLIMIT_STACK].cur = STACK_DEFAULT;
	t->rlimits[RLIMIT_NOFILE] = (struct rlimit){FILES_MAX, FILES_MAX};
	t->rlimits[RLIMIT_MEMLOCK] = (struct rlimit){MEMLOCK_DEFAULT, MEMLOCK_DEFAULT};
}

u64 rlimit(unsigned resource)
{
	return READ_ONCE(current->rlimits[resource].cur);
}

/* user_new, user_old: where a struct rlimit is, or goes; 0: none does. */
static s64 change_limit(struct task *t, u64 resource, u64 user_new, u64 user_old)
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
	old = t->rlimits[resource];
	if (user_new)
		t->rlimits[resource] = new;
	return user_old && copy_to_user(user_old, &old, sizeof(old)) ? -EFAULT : 0;
}

SYSCALL(getrlimit)
{
	if (!regs->rsi)
		return regs->rdi < RLIM_NLIMITS ? -EFAULT : -EINVAL;
	return change_limit(current, (u32)regs->rdi, 0, regs->rsi);
}

SYSCALL(setrlimit)
{
	if (!regs->rsi)
		return -EFAULT;
	return change_limit(current, (u32)regs->rdi, regs->rsi, 0);
}

SYSCALL(prlimit64)
{
	struct task *t = (int)regs->rdi ? task_find((int)regs->rdi) : current;

	return t ? change_limit(t, (u32)regs->rsi, regs->rdx, regs->r10) : -ESRCH;
}
