/* Tasks: children, preemption, registers, time. */
#include "guest/user/check/check.h"

static int exec_refused(void)
{
	char *const args[] = {NULL};

	EXPECT(sys_execve("/nonexistent", args, args) == -ENOENT);
	EXPECT(sys_execve("/etc/image", args, args) < 0);
	EXPECT(sys_execve("/bin", args, args) < 0);
	EXPECT(sys_execve(NULL, args, args) == -EFAULT);
	return 0;
}

static int no_children(void)
{
	int status;

	EXPECT(sys_wait4(-1, &status) == -ECHILD);
	return 0;
}

/* Spins until the other side, which shares the page, has moved: only preemption lets it. */
static int preempted(void)
{
	int fd = sys_open(FILE_PATH, O_RDWR);
	long p = sys_mmap(NULL, PAGE_SIZE, RW, MAP_SHARED, fd, 0);
	volatile uint32_t *word = (volatile uint32_t *)p;
	int status, pid;

	EXPECT(fd >= 0 && p > 0);
	uint32_t old = word[1];
	word[1] = 0;
	pid = sys_fork();
	if (!pid) {
		while (word[1] != 1)
			;
		word[1] = 2;
		sys_exit(0);
	}
	word[1] = 1;
	while (word[1] != 2)
		;
	word[1] = old;
	EXPECT(sys_wait4(pid, &status) == pid && status == 0);
	return 0;
}

/* Vector registers survive other programs' use of them. */
static int vectors(void)
{
	uint64_t in[2] = {0x1122334455667788UL, (uint64_t)syscall3(SYS_GETPID, 0, 0, 0)}, out[2];
	uint64_t until = now_ns() + 60000000;
	int pid = sys_fork(), status = 0;

	in[1] += (uint64_t)pid;
	__asm__ volatile("movdqu %0, %%xmm7" ::"m"(in) : "xmm7");
	while (now_ns() < until)
		syscall3(SYS_SCHED_YIELD, 0, 0, 0);
	__asm__ volatile("movdqu %%xmm7, %0" : "=m"(out));
	EXPECT(out[0] == in[0] && out[1] == in[1]);
	if (!pid)
		sys_exit(0);
	EXPECT(sys_wait4(pid, &status) == pid && status == 0);
	return 0;
}

static int sleeps(void)
{
	uint64_t start = now_ns();

	sleep_ms(20);
	EXPECT(now_ns() - start >= 20000000);
	return 0;
}

const struct check task_checks[] = {
    {"exec_refused", exec_refused, 0}, {"no_children", no_children, 0}, {"preempted", preempted, 0},
    {"vectors", vectors, 0},	       {"sleeps", sleeps, 0},		{0},
};
