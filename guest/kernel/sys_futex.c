/* futex(2): numbers, arguments and errors are Linux's. */
#include "guest/include/errno.h"
#include "guest/include/futex.h"
#include "guest/include/sched.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"
#include "guest/include/uaccess.h"

#define FUTEX_PRIVATE_FLAG   128
#define FUTEX_CLOCK_REALTIME 256 /* all clocks count from boot */
#define NSEC_PER_SEC	     1000000000UL
#define SECONDS_MAX	     (1UL << 32)

enum {
	FUTEX_WAIT = 0,
	FUTEX_WAKE = 1,
	FUTEX_REQUEUE = 3,
	FUTEX_CMP_REQUEUE = 4,
	FUTEX_WAIT_BITSET = 9,
	FUTEX_WAKE_BITSET = 10,
};

/* When the wait ends at the latest (ktime). user 0: never. */
static s64 deadline_of(u64 user, bool absolute, u64 *deadline)
{
	s64 ts[2];
	u64 ns;

	*deadline = ~0UL;
	if (!user)
		return 0;
	if (copy_from_user(ts, user, sizeof(ts)))
		return -EFAULT;
	if (ts[0] < 0 || ts[1] < 0 || ts[1] >= (s64)NSEC_PER_SEC)
		return -EINVAL;
	ns = MIN((u64)ts[0], SECONDS_MAX) * NSEC_PER_SEC + (u64)ts[1];
	*deadline = absolute ? ns : ktime_ns() + ns;
	return 0;
}

static s64 wait(const struct regs *regs, const struct futex_key *key, bool absolute, u32 bits)
{
	u64 deadline;
	s64 ret = deadline_of(regs->r10, absolute, &deadline);

	if (!ret)
		ret = futex_wait(regs->rdi, key, (u32)regs->rdx, bits, deadline);
	/* A time that counts from the call would begin anew behind a handler. */
	return ret == -ERESTARTSYS && regs->r10 && !absolute ? -ERESTARTNOHAND : ret;
}

static s64 requeue(const struct regs *regs, const struct futex_key *from, bool private,
		   bool compare)
{
	struct futex_key to;
	u32 now;
	int err;

	if ((s32)regs->rdx < 0 || (s32)regs->r10 < 0)
		return -EINVAL;
	err = futex_key(regs->r8, private, &to);
	if (err)
		return err;
	if (compare && copy_from_user(&now, regs->rdi, sizeof(now)))
		return -EFAULT;
	if (compare && now != (u32)regs->r9)
		return -EAGAIN;
	return futex_requeue(from, &to, (u32)regs->rdx, (u32)regs->r10);
}

SYSCALL(futex)
{
	u32 op = (u32)regs->rsi, command = op & ~(u32)(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
	bool private = op & FUTEX_PRIVATE_FLAG;
	bool with_bits = command == FUTEX_WAIT_BITSET || command == FUTEX_WAKE_BITSET;
	u32 bits = with_bits ? (u32)regs->r9 : FUTEX_ANY_BIT;
	struct futex_key key;
	int err;

	if (op & FUTEX_CLOCK_REALTIME && command != FUTEX_WAIT_BITSET)
		return -ENOSYS;
	if (!bits)
		return -EINVAL;
	err = futex_key(regs->rdi, private, &key);
	if (err)
		return err;
	switch (command) {
	case FUTEX_WAIT:
	case FUTEX_WAIT_BITSET:
		return wait(regs, &key, command == FUTEX_WAIT_BITSET, bits);
	case FUTEX_WAKE:
	case FUTEX_WAKE_BITSET:
		/* As Linux: one, where none is asked for. */
		return futex_wake(&key, (s32)regs->rdx > 0 ? (u32)regs->rdx : 1, bits);
	case FUTEX_REQUEUE:
	case FUTEX_CMP_REQUEUE:
		return requeue(regs, &key, private, command == FUTEX_CMP_REQUEUE);
	default:
		return -ENOSYS;
	}
}

#define ROBUST_LIST_SIZE 24 /* of the head, as the call is told */

SYSCALL(set_robust_list)
{
	if (regs->rsi != ROBUST_LIST_SIZE)
		return -EINVAL;
	current->robust_list = regs->rdi;
	return 0;
}

SYSCALL(get_robust_list)
{
	const u64 size = ROBUST_LIST_SIZE;
	int pid = (int)regs->rdi;
	const struct task *t = pid ? task_find(pid) : current;

	if (!t)
		return -ESRCH;
	if (copy_to_user(regs->rdx, &size, sizeof(size)))
		return -EFAULT;
	return copy_to_user(regs->rsi, &t->robust_list, sizeof(u64)) ? -EFAULT : 0;
}
