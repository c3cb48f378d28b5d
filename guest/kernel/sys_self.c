/* System calls by which a program asks, or says, who it is. */
#include "guest/include/errno.h"
#include "guest/include/process.h"
#include "guest/include/string.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"
#include "guest/include/uaccess.h"

#define PR_SET_NAME 15
#define PR_GET_NAME 16

/* What does not fit is cut off. */
static s64 set_name(u64 user_name)
{
	char name[TASK_NAME_LEN] = {0};

	s64 len = strncpy_from_user(name, user_name, sizeof(name) - 1);

	if (len == -EFAULT)
		return -EFAULT;
	if (len >= 0) /* what came with it is not of it */
		memset(name + len, 0, sizeof(name) - (size_t)len);
	memcpy(current->name, name, sizeof(name));
	if (current->pid == current->process->pid)
		memcpy(current->process->name, name, sizeof(name));
	return 0;
}

SYSCALL(prctl)
{
	switch ((int)regs->rdi) {
	case PR_SET_NAME:
		return set_name(regs->rsi);
	case PR_GET_NAME:
		return copy_to_user(regs->rsi, current->name, TASK_NAME_LEN) ? -EFAULT : 0;
	default:
		return -EINVAL;
	}
}

/* Everyone is root, and in no other group. */
SYSCALL(getgroups)
{
	return (int)regs->rdi < 0 ? -EINVAL : 0;
}

/* Real, effective and saved. */
static s64 tell_ids(const struct regs *regs)
{
	static const u32 root;

	if (copy_to_user(regs->rdi, &root, sizeof(root)) ||
	    copy_to_user(regs->rsi, &root, sizeof(root)) ||
	    copy_to_user(regs->rdx, &root, sizeof(root)))
		return -EFAULT;
	return 0;
}

SYSCALL(getresuid)
{
	return tell_ids(regs);
}

SYSCALL(getresgid)
{
	return tell_ids(regs);
}

#define NO_ID	   0xffffffffU /* as it is */
#define GROUPS_MAX 65536

/* What everyone is already. */
static s64 stay(u64 id)
{
	return (u32)id == NO_ID ? -EINVAL : (u32)id ? -EPERM : 0;
}

static s64 stay_or_keep(u64 id)
{
	return (u32)id && (u32)id != NO_ID ? -EPERM : 0;
}

SYSCALL(setuid)
{
	return stay(regs->rdi);
}

SYSCALL(setgid)
{
	return stay(regs->rdi);
}

SYSCALL(setreuid)
{
	return stay_or_keep(regs->rdi) ? -EPERM : stay_or_keep(regs->rsi);
}

SYSCALL(setregid)
{
	return sys_setreuid(regs);
}

SYSCALL(setresuid)
{
	return sys_setreuid(regs) ? -EPERM : stay_or_keep(regs->rdx);
}

SYSCALL(setresgid)
{
	return sys_setresuid(regs);
}

/* What it was before, whatever is asked for. */
SYSCALL(setfsuid)
{
	(void)regs;
	return 0;
}

SYSCALL(setfsgid)
{
	(void)regs;
	return 0;
}

/* To be in none is all that can be asked for. */
SYSCALL(setgroups)
{
	u32 n = (u32)regs->rdi, id;

	if (n > GROUPS_MAX)
		return -EINVAL;
	for (u32 i = 0; i < n; i++)
		if (copy_from_user(&id, regs->rsi + i * sizeof(id), sizeof(id)))
			return -EFAULT;
	return n ? -EPERM : 0;
}

SYSCALL(getcpu)
{
	static const u32 node;
	const u32 id = this_cpu()->id;

	if (regs->rdi && copy_to_user(regs->rdi, &id, sizeof(id)))
		return -EFAULT;
	return regs->rsi && copy_to_user(regs->rsi, &node, sizeof(node)) ? -EFAULT : 0;
}
