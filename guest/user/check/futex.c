/* Waiting on words of memory: what is refused, who is woken, and by which name of the word. */
#include "guest/user/check/check.h"

enum { SYS_FUTEX = 202 };
enum {
	FUTEX_WAIT = 0,
	FUTEX_WAKE = 1,
	FUTEX_REQUEUE = 3,
	FUTEX_CMP_REQUEUE = 4,
	FUTEX_WAIT_BITSET = 9,
	FUTEX_WAKE_BITSET = 10,
	FUTEX_PRIVATE = 128,
};
enum { EAGAIN = 11, ENOSYS = 38, ETIMEDOUT = 110 };

#define KERNEL_ADDRESS 0xffff888000000000UL

static long futex(const volatile uint32_t *word, int op, long value, long time, long other,
		  long last)
{
	return syscall6(SYS_FUTEX, (long)word, op, value, time, other, last);
}

static int futex_refused(void)
{
	volatile uint32_t *word = (volatile uint32_t *)anon(1);
	const long past[2] = {0, 1}, bad[2] = {0, 1000000000};

	EXPECT(word);
	word[0] = 5;
	EXPECT(futex((volatile uint32_t *)((long)word + 1), FUTEX_WAKE, 1, 0, 0, 0) == -EINVAL);
	EXPECT(futex((volatile uint32_t *)KERNEL_ADDRESS, FUTEX_WAIT, 0, 0, 0, 0) == -EFAULT);
	EXPECT(futex((volatile uint32_t *)16, FUTEX_WAIT | FUTEX_PRIVATE, 0, 0, 0, 0) == -EFAULT);
	EXPECT(futex((volatile uint32_t *)16, FUTEX_WAKE, 1, 0, 0, 0) == -EFAULT);
	EXPECT(futex(word, FUTEX_WAIT, 4, 0, 0, 0) == -EAGAIN);
	EXPECT(futex(word, FUTEX_WAIT, 5, 16, 0, 0) == -EFAULT);
	EXPECT(futex(word, FUTEX_WAIT, 5, (long)bad, 0, 0) == -EINVAL);
	EXPECT(futex(word, FUTEX_WAIT, 5, (long)past, 0, 0) == -ETIMEDOUT);
	EXPECT(futex(word, FUTEX_WAIT_BITSET, 5, (long)past, 0, 1) == -ETIMEDOUT);
	EXPECT(futex(word, FUTEX_WAIT_BITSET, 5, 0, 0, 0) == -EINVAL);
	EXPECT(futex(word, FUTEX_REQUEUE, -1, 0, (long)(word + 1), 0) == -EINVAL);
	EXPECT(futex(word, FUTEX_CMP_REQUEUE, 1, 1, (long)(word + 1), 4) == -EAGAIN);
	EXPECT(futex(word, 99, 0, 0, 0, 0) == -ENOSYS);
	EXPECT(futex(word, FUTEX_WAKE, 1, 0, 0, 0) == 0);
	return 0;
}

/* A child waits on a file's word; it is moved, and woken by the other address the word has. */
static int futex_shared(void)
{
	int fd = sys_open(FILE_PATH, O_RDWR), status, pid;
	volatile uint32_t *word =
	    (volatile uint32_t *)sys_mmap(NULL, PAGE_SIZE, RW, MAP_SHARED, fd, 0);
	volatile uint32_t *same =
	    (volatile uint32_t *)sys_mmap(NULL, PAGE_SIZE, RW, MAP_SHARED, fd, 0);
	uint32_t value;
	long to = (long)(same + 1);

	EXPECT(fd >= 0 && (long)word > 0 && (long)same > 0);
	value = word[0];
	pid = sys_fork();
	if (!pid)
		sys_exit((int)-futex(word, FUTEX_WAIT_BITSET, value, 0, 0, 1));
	while (futex(same, FUTEX_CMP_REQUEUE, 0, 1, to, value) == 0)
		syscall3(SYS_SCHED_YIELD, 0, 0, 0);
	EXPECT(futex(word, FUTEX_WAKE, 1, 0, 0, 0) == 0);
	EXPECT(futex(word + 1, FUTEX_WAKE_BITSET, 1, 0, 0, 2) == 0);
	EXPECT(futex(word + 1, FUTEX_WAKE | FUTEX_PRIVATE, 1, 0, 0, 0) == 0);
	EXPECT(futex(word + 1, FUTEX_WAKE_BITSET, 9, 0, 0, 1) == 1);
	EXPECT(sys_wait4(pid, &status) == pid && status == 0);
	return 0;
}

const struct check futex_checks[] = {
    {"futex_refused", futex_refused, 0},
    {"futex_shared", futex_shared, 0},
    {0},
};
