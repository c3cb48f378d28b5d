/*
 * poisoned FILE: touches pages of a file that are lost after it said "ready" and was typed a line:
 * number 300 and those behind it. The exit status is 0 if each touch ends as it does on Linux.
 */
#include "guest/user/lib/user.h"

enum { SYS_RT_SIGACTION = 13, SIGBUS = 7, BUS_MCEERR_AR = 4, EFAULT = 14 };
enum { NEAR = 20, LOST = 300, OTHER = 350 };
enum { SA_SIGINFO = 4, SA_RESTORER = 0x04000000, RAX = 13, RIP = 16 }; /* of mcontext */

struct info {
	int signo, error, code, pad;
	uint64_t addr;
	int16_t lsb;
};

struct context {
	uint64_t head[5], reg[23];
};

static volatile struct info told;
static volatile int calls;

/* void restore(void): what a handler returns to. */
__asm__(".text; restore: movq $15, %rax; syscall");
extern char restore[];

/* The access is the two bytes of movb (%rdi), %al: the program goes on behind it, with 7 in %al. */
static void skip(int sig, struct info *info, struct context *context)
{
	(void)sig;
	told = *info;
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

static bool ends_with_sigbus(volatile uint8_t *at)
{
	int status = 0, pid = sys_fork();

	if (!pid)
		sys_exit(access_at(at));
	return sys_wait4(pid, &status) == pid && status == SIGBUS;
}

static int say(const char *what, bool right)
{
	print("poisoned: %s: %s\n", what, right ? "yes" : "no");
	return !right;
}

int main(int argc, char **argv)
{
	const uint64_t action[4] = {(uint64_t)skip, SA_SIGINFO | SA_RESTORER, (uint64_t)restore, 0};
	struct mapping file;
	volatile uint8_t *p;
	char line[8];
	int wrong = 0;

	if (argc != 2 || map_file(argv[1], false, MAP_PRIVATE, &file) ||
	    file.len < (size_t)(OTHER + 1) * PAGE_SIZE)
		return 2;
	p = file.data;
	(void)p[0];
	(void)p[NEAR * PAGE_SIZE]; /* so that the kernel knows where the file lies */
	print("poisoned: ready\n");
	sys_read(0, line, sizeof(line));

	wrong += say("a program ends", ends_with_sigbus(p + LOST * PAGE_SIZE));
	wrong += say("a call fails", sys_write(1, (void *)(p + OTHER * PAGE_SIZE), 1) == -EFAULT);
	syscall4(SYS_RT_SIGACTION, SIGBUS, (long)action, 0, 8);
	wrong += say("a handler runs", access_at(p + LOST * PAGE_SIZE + 5) == 7 && calls == 1);
	wrong += say("it is told", told.code == BUS_MCEERR_AR && told.lsb == 12 &&
				       told.addr == (uint64_t)p + LOST * PAGE_SIZE);
	wrong += say("again, where", access_at(p + LOST * PAGE_SIZE + 5) == 7 && calls == 2 &&
					 told.code == BUS_MCEERR_AR &&
					 told.addr == (uint64_t)p + LOST * PAGE_SIZE + 5);
	wrong +=
	    say("and a call fails", sys_write(1, (void *)(p + LOST * PAGE_SIZE), 1) == -EFAULT);
	wrong +=
	    say("the rest is there", access_at(p) == 'A' && access_at(p + NEAR * PAGE_SIZE) == 'A');
	return wrong;
}
