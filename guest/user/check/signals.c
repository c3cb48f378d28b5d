/* Signals: what a handler is told, where it goes back to, and what is made again. */
#include "guest/user/check/check.h"

enum { SYS_RT_SIGACTION = 13, SYS_RT_SIGPROCMASK = 14, SYS_KILL = 62, SYS_WAIT4_RAW = 61 };
enum { SIGUSR1 = 10, SIGCHLD = 17, SIGCONT = 18, SIGSTOP = 19, WUNTRACED = 2, EINTR = 4 };
enum { SA_SIGINFO = 4, SA_RESTORER = 0x04000000, SA_RESTART = 0x10000000 };
enum { SEGV_MAPERR = 1, SEGV_ACCERR = 2, RAX = 13, RIP = 16, CR2 = 22 }; /* of mcontext */

struct info {
	int signo, error, code, pad;
	uint64_t addr;
};

struct context {
	uint64_t head[5], reg[23];
};

static volatile struct info told;
static volatile uint64_t told_cr2;
static volatile int calls;

/* void restore(void): what a handler returns to. */
__asm__(".text; restore: movq $15, %rax; syscall");
extern char restore[];

static int handle(int sig, void (*handler)(int, struct info *, struct context *), long flags)
{
	const uint64_t action[4] = {(uint64_t)handler, SA_SIGINFO | SA_RESTORER | (uint64_t)flags,
				    (uint64_t)restore, 0};

	return (int)syscall4(SYS_RT_SIGACTION, sig, (long)action, 0, 8);
}

/* The access is the two bytes of movb (%rdi), %al: the program goes on behind it, with 7 in %al. */
static void skip(int sig, struct info *info, struct context *context)
{
	(void)sig;
	told = *info;
	told_cr2 = context->reg[CR2];
	context->reg[RIP] += 2;
	context->reg[RAX] = 7;
	calls++;
}

static int access_at(const volatile void *at)
{
	long got = 0;

	__asm__ volatile("movb (%%rdi), %%al" : "+a"(got) : "D"(at) : "memory");
	return (int)got;
}

static int handler_is_told(void)
{
	volatile uint8_t *p = anon(2);

	EXPECT(p && handle(SIGSEGV, skip, 0) == 0);
	EXPECT(access_at((void *)0x1234567) == 7);
	EXPECT(told.signo == SIGSEGV && told.code == SEGV_MAPERR && told.addr == 0x1234567);
	EXPECT(told_cr2 == 0x1234567);
	EXPECT(protect(p + 4096, 1, PROT_NONE) == 0);
	EXPECT(access_at(p + 4096 + 9) == 7);
	EXPECT(told.code == SEGV_ACCERR && told.addr == (uint64_t)p + 4096 + 9);
	EXPECT(calls == 2 && access_at(p) == 0);
	return 0;
}

static void count(int sig, struct info *info, struct context *context)
{
	(void)sig, (void)info, (void)context;
	calls++;
}

static int blocked_waits(void)
{
	const uint64_t set = 1UL << (SIGUSR1 - 1), none = 0;
	int self = (int)syscall3(SYS_GETPID, 0, 0, 0);

	EXPECT(handle(SIGUSR1, count, 0) == 0);
	EXPECT(syscall4(SYS_RT_SIGPROCMASK, 2, (long)&set, 0, 8) == 0);
	EXPECT(syscall3(SYS_KILL, self, SIGUSR1, 0) == 0 && calls == 0);
	EXPECT(syscall4(SYS_RT_SIGPROCMASK, 2, (long)&none, 0, 8) == 0 && calls == 1);
	return 0;
}

/* The child ends only after its parent was signalled while it waits. */
static int wait_is_made_again(void)
{
	const struct timespec some = {0, 20000000};
	int status = 0, parent = (int)syscall3(SYS_GETPID, 0, 0, 0);

	EXPECT(handle(SIGUSR1, count, SA_RESTART) == 0);
	int pid = sys_fork();
	if (!pid) {
		sys_nanosleep(&some);
		syscall3(SYS_KILL, parent, SIGUSR1, 0);
		sys_nanosleep(&some);
		sys_exit(3);
	}
	EXPECT(sys_wait4(pid, &status) == pid && status == 3 << 8 && calls == 1);
	return 0;
}

static int sleep_is_cut(void)
{
	const struct timespec some = {0, 20000000}, long_one = {1000, 0};
	int status, parent = (int)syscall3(SYS_GETPID, 0, 0, 0);

	EXPECT(handle(SIGUSR1, count, 0) == 0);
	int pid = sys_fork();
	if (!pid) {
		sys_nanosleep(&some);
		sys_exit((int)syscall3(SYS_KILL, parent, SIGUSR1, 0));
	}
	EXPECT(sys_nanosleep(&long_one) == -EINTR && calls == 1);
	EXPECT(sys_wait4(pid, &status) == pid && status == 0);
	return 0;
}

static int stops_and_goes_on(void)
{
	int status = 0, pid = sys_fork();

	if (!pid) {
		syscall3(SYS_KILL, (int)syscall3(SYS_GETPID, 0, 0, 0), SIGSTOP, 0);
		sys_exit(4);
	}
	EXPECT(syscall4(SYS_WAIT4_RAW, pid, (long)&status, WUNTRACED, 0) == pid);
	EXPECT(status == (SIGSTOP << 8 | 0x7f));
	EXPECT(syscall3(SYS_KILL, pid, SIGCONT, 0) == 0);
	EXPECT(sys_wait4(pid, &status) == pid && status == 4 << 8);
	return 0;
}

/* Where no frame fits, the program ends instead. */
static int no_room_for_a_frame(void)
{
	EXPECT(handle(SIGSEGV, skip, 0) == 0);
	__asm__ volatile("xorl %%esp, %%esp; movb (%%rsp), %%al" ::: "rax", "memory");
	return 0;
}

/* A frame of its own making: privileged flags and wild registers are not taken from it. */
static int forged_return(void)
{
	__asm__ volatile("movq $15, %%rax; syscall" ::: "rax", "rcx", "r11", "memory");
	return 0;
}

const struct check signal_checks[] = {
    {"handler_is_told", handler_is_told, 0},
    {"blocked_waits", blocked_waits, 0},
    {"wait_is_made_again", wait_is_made_again, 0},
    {"sleep_is_cut", sleep_is_cut, 0},
    {"stops_and_goes_on", stops_and_goes_on, 0},
    {"no_room_for_a_frame", no_room_for_a_frame, SIGSEGV},
    {"forged_return", forged_return, SIGSEGV},
    {0},
};
