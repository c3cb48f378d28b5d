/* System calls on tasks, time and the machine. */
#include "guest/include/errno.h"
#include "guest/include/fs.h"
#include "guest/include/mm.h"
#include "guest/include/random.h"
#include "guest/include/string.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"
#include "guest/include/uaccess.h"

#define ARCH_SET_FS	 0x1002
#define ARCH_GET_FS	 0x1003

#define REBOOT_MAGIC1	 0xfee1deadU
#define REBOOT_POWER_OFF 0x4321fedcU
#define REBOOT_HALT	 0xcdef0123U
#define REBOOT_RESTART	 0x01234567U

#define NSEC_PER_SEC	 1000000000UL
#define SLEEP_MAX_S	 (1UL << 32)

enum { RUSAGE_CHILDREN = -1, RUSAGE_SELF = 0, RUSAGE_THREAD = 1 };

struct timespec {
	s64 sec, nsec;
};

struct rusage {
	s64 utime[2], stime[2];
	s64 maxrss, ixrss, idrss, isrss;
	s64 minflt, majflt;
	s64 nswap, inblock, oublock, msgsnd, msgrcv, nsignals, nvcsw, nivcsw;
};

SYSCALL(fork)
{
	return do_fork(regs);
}

SYSCALL(wait4)
{
	int status = 0;
	s64 pid;

	if (regs->rdx & ~(u64)(WNOHANG | WUNTRACED | WCONTINUED))
		return -EINVAL;
	pid = do_wait4((int)regs->rdi, &status, (int)regs->rdx);
	if (pid > 0 && regs->rsi && copy_to_user(regs->rsi, &status, sizeof(status)))
		return -EFAULT;
	return pid;
}

SYSCALL(exit)
{
	task_exit((int)(regs->rdi & 0xff) << 8);
}

SYSCALL(exit_group)
{
	task_exit((int)(regs->rdi & 0xff) << 8);
}

SYSCALL(getpid)
{
	(void)regs;
	return current->pid;
}

SYSCALL(gettid)
{
	(void)regs;
	return current->pid;
}

SYSCALL(getppid)
{
	(void)regs;
	return current->parent ? current->parent->pid : 0;
}

SYSCALL(set_tid_address)
{
	(void)regs;
	return current->pid;
}

/* As these calls name it: 0 is the caller. */
static struct task *task_of(int pid)
{
	return pid ? task_find(pid) : current;
}

SYSCALL(getpgid)
{
	const struct task *t = task_of((int)regs->rdi);

	return t ? t->pgid : -ESRCH;
}

SYSCALL(getpgrp)
{
	(void)regs;
	return current->pgid;
}

SYSCALL(getsid)
{
	const struct task *t = task_of((int)regs->rdi);

	return t ? t->sid : -ESRCH;
}

/* Is there such a group in the caller's session? */
static bool is_group(int pgid)
{
	for (struct task *t = task_next(NULL); t; t = task_next(t))
		if (t->pgid == pgid && t->sid == current->sid)
			return true;
	return false;
}

SYSCALL(setpgid)
{
	struct task *t = task_of((int)regs->rdi);
	int pgid = (int)regs->rsi;

	if (pgid < 0)
		return -EINVAL;
	if (!t || (t != current && t->parent != current))
		return -ESRCH;
	if (!pgid)
		pgid = t->pid;
	if (t->sid != current->sid || t->sid == t->pid || (pgid != t->pid && !is_group(pgid)))
		return -EPERM;
	t->pgid = pgid;
	return 0;
}

SYSCALL(setsid)
{
	(void)regs;
	if (is_group(current->pid))
		return -EPERM;
	current->pgid = current->sid = current->pid;
	return current->sid;
}

/* Everyone is root. */
SYSCALL(getuid)
{
	(void)regs;
	return 0;
}

SYSCALL(getgid)
{
	(void)regs;
	return 0;
}

SYSCALL(geteuid)
{
	(void)regs;
	return 0;
}

SYSCALL(getegid)
{
	(void)regs;
	return 0;
}

SYSCALL(sched_yield)
{
	(void)regs;
	schedule();
	return 0;
}

SYSCALL(uname)
{
	static const char fields[6][65] = {"Linux",  "foal",  "6.1.0-foal", "tiny guest kernel",
					   "x86_64", "(none)"};

	return copy_to_user(regs->rdi, fields, sizeof(fields)) ? -EFAULT : 0;
}

SYSCALL(arch_prctl)
{
	switch (regs->rdi) {
	case ARCH_SET_FS:
		if (regs->rsi >= USER_END)
			return -EPERM;
		current->fs_base = regs->rsi;
		wrmsr(MSR_FS_BASE, regs->rsi);
		return 0;
	case ARCH_GET_FS:
		return copy_to_user(regs->rsi, &current->fs_base, sizeof(u64)) ? -EFAULT : 0;
	default:
		return -EINVAL;
	}
}

/* All clocks count from boot: there is no wall clock to ask. */
SYSCALL(clock_gettime)
{
	u64 now = ktime_ns();
	struct timespec ts = {(s64)(now / NSEC_PER_SEC), (s64)(now % NSEC_PER_SEC)};

	if (regs->rdi > 11)
		return -EINVAL;
	return copy_to_user(regs->rsi, &ts, sizeof(ts)) ? -EFAULT : 0;
}

SYSCALL(gettimeofday)
{
	u64 now = ktime_ns();
	s64 tv[2] = {(s64)(now / NSEC_PER_SEC), (s64)(now % NSEC_PER_SEC / 1000)};

	return regs->rdi && copy_to_user(regs->rdi, tv, sizeof(tv)) ? -EFAULT : 0;
}

SYSCALL(nanosleep)
{
	struct timespec ts;
	u64 left;

	if (copy_from_user(&ts, regs->rdi, sizeof(ts)))
		return -EFAULT;
	if (ts.sec < 0 || ts.nsec < 0 || ts.nsec >= (s64)NSEC_PER_SEC)
		return -EINVAL;
	left = sleep_ns(MIN((u64)ts.sec, SLEEP_MAX_S) * NSEC_PER_SEC + (u64)ts.nsec);
	if (!left)
		return 0;
	ts = (struct timespec){(s64)(left / NSEC_PER_SEC), (s64)(left % NSEC_PER_SEC)};
	if (regs->rsi && copy_to_user(regs->rsi, &ts, sizeof(ts)))
		return -EFAULT;
	return -EINTR;
}

SYSCALL(getrusage)
{
	struct rusage ru = {0};

	switch ((int)regs->rdi) {
	case RUSAGE_SELF:
	case RUSAGE_THREAD:
		ru.minflt = (s64)current->minor_faults;
		ru.majflt = (s64)current->major_faults;
		break;
	case RUSAGE_CHILDREN:
		ru.minflt = (s64)current->minor_faults_children;
		ru.majflt = (s64)current->major_faults_children;
		break;
	default:
		return -EINVAL;
	}
	return copy_to_user(regs->rsi, &ru, sizeof(ru)) ? -EFAULT : 0;
}

SYSCALL(getrandom)
{
	size_t n = MIN(regs->rsi, 256UL);

	for (size_t done = 0; done < n; done += 8) {
		u64 r = random_u64();

		if (copy_to_user(regs->rdi + done, &r, MIN(n - done, sizeof(r))))
			return -EFAULT;
	}
	return (s64)n;
}

SYSCALL(reboot)
{
	if ((u32)regs->rdi != REBOOT_MAGIC1)
		return -EINVAL;
	switch ((u32)regs->rdx) {
	case REBOOT_POWER_OFF:
	case REBOOT_HALT:
	case REBOOT_RESTART:
		tasks_end_run(0);
		return 0;
	default:
		return -EINVAL;
	}
}
