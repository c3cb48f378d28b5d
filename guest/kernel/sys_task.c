/* System calls on tasks, time and the machine. */
#include "guest/include/errno.h"
#include "guest/include/file.h"
#include "guest/include/fs.h"
#include "guest/include/mm.h"
#include "guest/include/process.h"
#include "guest/include/random.h"
#include "guest/include/string.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"
#include "guest/include/timespec.h"
#include "guest/include/uaccess.h"

#define ARCH_SET_FS	 0x1002
#define ARCH_GET_FS	 0x1003

#define REBOOT_MAGIC1	 0xfee1deadU
#define REBOOT_POWER_OFF 0x4321fedcU
#define REBOOT_HALT	 0xcdef0123U
#define REBOOT_RESTART	 0x01234567U

#define CLOCKS		 12
#define TIMER_ABSTIME	 1

#define INT_MIN		 (-0x7fffffff - 1)
#define GRND_KNOWN	 7U
#define RANDOM_WHOLE	 256 /* bytes that a signal does not make fewer */

enum { RUSAGE_CHILDREN = -1, RUSAGE_SELF = 0, RUSAGE_THREAD = 1 };

struct rusage {
	s64 utime[2], stime[2];
	s64 maxrss, ixrss, idrss, isrss;
	s64 minflt, majflt;
	s64 nswap, inblock, oublock, msgsnd, msgrcv, nsignals, nvcsw, nivcsw;
};

SYSCALL(fork)
{
	return do_fork(regs, &(struct fork_request){0});
}

SYSCALL(vfork)
{
	return do_fork(regs, &(struct fork_request){.flags = CLONE_VM | CLONE_VFORK});
}

/* A thread has all of these in common with its process; what is no thread, none but memory. */
#define CLONE_OF_THREADS (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD)

/* What can be made: a thread, a copy, or a child that has its parent's memory for a while. */
static bool can_be_made(u64 flags)
{
	const u64 any = CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID |
			CLONE_CHILD_SETTID | CLONE_SYSVSEM | CLONE_DETACHED;
	const u64 signal = flags & 0xff, what = flags & ~any & ~0xffUL;

	if (signal && signal != SIGCHLD)
		return false;
	return what == CLONE_OF_THREADS || what == 0 || what == (CLONE_VM | CLONE_VFORK);
}

SYSCALL(clone)
{
	const struct fork_request how = {
	    .flags = (u32)regs->rdi,
	    .stack = regs->rsi,
	    .parent_tid = regs->rdx,
	    .child_tid = regs->r10,
	    .tls = regs->r8,
	};

	if (!can_be_made(regs->rdi))
		return -EINVAL;
	if (how.flags & CLONE_SETTLS && how.tls >= USER_END)
		return -EPERM;
	return do_fork(regs, &how);
}

#define WAIT_FOR_ALL 0xe0000000UL /* __WALL and its like: whatever its end sends */

SYSCALL(wait4)
{
	struct fault_sums usage = {0};
	struct rusage ru = {0};
	int status = 0;
	s64 pid;

	if (regs->rdx & ~(u64)(WNOHANG | WUNTRACED | WCONTINUED) & ~WAIT_FOR_ALL & 0xffffffffUL)
		return -EINVAL;
	if ((int)regs->rdi == INT_MIN)
		return -ESRCH;
	pid = do_wait4((int)regs->rdi, &status, (int)(regs->rdx & ~WAIT_FOR_ALL), &usage);
	ru.minflt = (s64)usage.minor;
	ru.majflt = (s64)usage.major;
	if (pid > 0 && regs->rsi && copy_to_user(regs->rsi, &status, sizeof(status)))
		return -EFAULT;
	if (pid > 0 && regs->r10 && copy_to_user(regs->r10, &ru, sizeof(ru)))
		return -EFAULT;
	return pid;
}

SYSCALL(exit)
{
	task_exit((int)(regs->rdi & 0xff) << 8);
}

SYSCALL(exit_group)
{
	process_exit((int)(regs->rdi & 0xff) << 8);
}

SYSCALL(getpid)
{
	(void)regs;
	return current->process->pid;
}

SYSCALL(gettid)
{
	(void)regs;
	return current->pid;
}

SYSCALL(getppid)
{
	(void)regs;
	return current->process->parent ? current->process->parent->pid : 0;
}

SYSCALL(set_tid_address)
{
	current->clear_tid = regs->rdi;
	return current->pid;
}

/* As these calls name it: 0 is the caller. */
static struct process *process_of(int pid)
{
	return pid ? process_find(pid) : current->process;
}

SYSCALL(getpgid)
{
	const struct process *p = process_of((int)regs->rdi);

	return p ? p->pgid : -ESRCH;
}

SYSCALL(getpgrp)
{
	(void)regs;
	return current->process->pgid;
}

SYSCALL(getsid)
{
	const struct process *p = process_of((int)regs->rdi);

	return p ? p->sid : -ESRCH;
}

SYSCALL(setpgid)
{
	const struct process *own = current->process;
	struct process *p = process_of((int)regs->rdi);
	int pgid = (int)regs->rsi;

	if (pgid < 0 || (!pgid && (int)regs->rdi < 0))
		return -EINVAL;
	if (!p || (p != own && p->parent != own))
		return -ESRCH;
	if (!pgid)
		pgid = p->pid;
	if (p->sid != own->sid || p->sid == p->pid || (pgid != p->pid && !process_is_group(pgid)))
		return -EPERM;
	p->pgid = pgid;
	return 0;
}

SYSCALL(setsid)
{
	struct process *own = current->process;

	(void)regs;
	if (process_is_group(own->pid))
		return -EPERM;
	own->pgid = own->sid = own->pid;
	return own->sid;
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

static u64 all_cpus(void)
{
	return ~0UL >> (64 - nr_cpus);
}

/* All run wherever there is a CPU: what asks for fewer is taken as a wish. */
SYSCALL(sched_setaffinity)
{
	u64 mask = 0;

	if (regs->rdi && !task_find((int)regs->rdi))
		return -ESRCH;
	if (copy_from_user(&mask, regs->rdx, MIN(regs->rsi, sizeof(mask))))
		return -EFAULT;
	return mask & all_cpus() ? 0 : -EINVAL;
}

SYSCALL(sched_getaffinity)
{
	const u64 mask = all_cpus();

	if (regs->rsi < sizeof(mask) || regs->rsi % sizeof(mask))
		return -EINVAL;
	if (regs->rdi && !task_find((int)regs->rdi))
		return -ESRCH;
	return copy_to_user(regs->rdx, &mask, sizeof(mask)) ? -EFAULT : (s64)sizeof(mask);
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
	const struct timespec ts = timespec_from_ns(now);

	if (regs->rdi >= CLOCKS)
		return -EINVAL;
	return copy_to_user(regs->rsi, &ts, sizeof(ts)) ? -EFAULT : 0;
}

SYSCALL(gettimeofday)
{
	u64 now = ktime_ns();
	s64 tv[2] = {(s64)(now / NSEC_PER_SEC), (s64)(now % NSEC_PER_SEC / 1000)};

	static const s32 utc[2];

	if (regs->rdi && copy_to_user(regs->rdi, tv, sizeof(tv)))
		return -EFAULT;
	return regs->rsi && copy_to_user(regs->rsi, utc, sizeof(utc)) ? -EFAULT : 0;
}

/* Until @absolute that time since boot, else as long; user_left: where what was left of that goes.
 */
static s64 sleep_as_asked(u64 user_time, u64 user_left, bool absolute)
{
	struct timespec ts;
	u64 ns, now, left;
	s64 err = timespec_read(user_time, &ns);

	if (err)
		return err;
	now = absolute ? ktime_ns() : 0;
	left = ns > now ? sleep_ns(ns - now) : 0;
	if (!left)
		return 0;
	ts = timespec_from_ns(left);
	if (user_left && !absolute && copy_to_user(user_left, &ts, sizeof(ts)))
		return -EFAULT;
	return -EINTR;
}

SYSCALL(nanosleep)
{
	return sleep_as_asked(regs->rdi, regs->rsi, false);
}

SYSCALL(clock_nanosleep)
{
	if (regs->rdi >= CLOCKS)
		return -EINVAL;
	return sleep_as_asked(regs->rdx, regs->r10, regs->rsi & TIMER_ABSTIME);
}

SYSCALL(getrusage)
{
	struct rusage ru = {0};
	struct fault_sums sums;

	switch ((int)regs->rdi) {
	case RUSAGE_SELF:
		sums = process_faults(current->process);
		break;
	case RUSAGE_THREAD:
		sums = current->faults;
		break;
	case RUSAGE_CHILDREN:
		sums = current->process->children_faults;
		break;
	default:
		return -EINVAL;
	}
	ru.minflt = (s64)sums.minor;
	ru.majflt = (s64)sums.major;
	return copy_to_user(regs->rsi, &ru, sizeof(ru)) ? -EFAULT : 0;
}

SYSCALL(getrandom)
{
	size_t n = MIN(regs->rsi, RW_MAX), done = 0;

	if (regs->rdx & ~(u64)GRND_KNOWN)
		return -EINVAL;
	while (done < n && !(done >= RANDOM_WHOLE && signal_pending())) {
		u64 r = random_u64();
		size_t len = MIN(n - done, sizeof(r)), bad;

		bad = copy_to_user(regs->rdi + done, &r, len);
		done += len - bad;
		if (bad)
			break;
		if (!(done % PAGE_SIZE) && this_cpu()->need_resched)
			schedule();
	}
	return done || !n ? (s64)done : -EFAULT;
}

SYSCALL(reboot)
{
	if ((u32)regs->rdi != REBOOT_MAGIC1)
		return -EINVAL;
	switch ((u32)regs->rdx) {
	case REBOOT_POWER_OFF:
	case REBOOT_HALT:
	case REBOOT_RESTART:
		processes_end_run(0);
		return 0;
	default:
		return -EINVAL;
	}
}
