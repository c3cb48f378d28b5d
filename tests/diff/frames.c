/*
 * Signal frames that lie: what a handler writes into its frame before it returns, stacks that are
 * too small or nowhere. How each child ends, as text: the same program run on two kernels has to
 * say the same.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ucontext.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOT_ITS_OWN 0x27000UL /* of rflags: IOPL, NT, VM */
#define AREA	    65536UL
#define STACK	    32768UL /* of it, the upper half */

static void (*lie)(ucontext_t *);

static void handler(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)info;
	lie(context);
}

static void rip_kernel(ucontext_t *uc)
{
	uc->uc_mcontext.gregs[REG_RIP] = (long)0xffffffff80100000UL;
}

static void rip_not_canonical(ucontext_t *uc)
{
	uc->uc_mcontext.gregs[REG_RIP] = 0x0000800000000000L;
}

static void rsp_not_canonical(ucontext_t *uc)
{
	uc->uc_mcontext.gregs[REG_RSP] = 0x0000800000000000L;
}

static void cs_kernel(ucontext_t *uc)
{
	uc->uc_mcontext.gregs[REG_CSGSFS] = (uc->uc_mcontext.gregs[REG_CSGSFS] & ~0xffffL) | 0x10;
}

static void cs_null(ucontext_t *uc)
{
	uc->uc_mcontext.gregs[REG_CSGSFS] &= ~0xffffL;
}

static void flags_reserved(ucontext_t *uc)
{
	uc->uc_mcontext.gregs[REG_EFL] |= (long)0xfffffffffffff000UL;
	uc->uc_mcontext.gregs[REG_EFL] &= ~0x40000L; /* not AC */
}

static void flags_none(ucontext_t *uc)
{
	uc->uc_mcontext.gregs[REG_EFL] = 0;
}

static void trap_flag(ucontext_t *uc)
{
	uc->uc_mcontext.gregs[REG_EFL] |= 0x100;
}

static void mxcsr_reserved(ucontext_t *uc)
{
	uc->uc_mcontext.fpregs->mxcsr = 0xffffffffU;
}

static void fpu_kernel(ucontext_t *uc)
{
	uc->uc_mcontext.fpregs = (void *)0xffffffff80100000UL;
}

static void fpu_not_there(ucontext_t *uc)
{
	uc->uc_mcontext.fpregs = (void *)0x10000;
}

static const struct {
	const char *name;
	void (*lie)(ucontext_t *);
} lies[] = {
    {"rip in the kernel", rip_kernel},
    {"rip not canonical", rip_not_canonical},
    {"rsp not canonical", rsp_not_canonical},
    {"cs the kernel's", cs_kernel},
    {"cs null", cs_null},
    {"rflags reserved", flags_reserved},
    {"rflags none", flags_none},
    {"rflags trap", trap_flag},
    {"mxcsr reserved", mxcsr_reserved},
    {"fpu in the kernel", fpu_kernel},
    {"fpu nowhere", fpu_not_there},
};

/* --- in a child --------------------------------------------------------------------------------
 */

static void raise_lie(void *arg)
{
	struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
	unsigned long flags;

	(void)arg;
	sigaction(SIGUSR1, &action, NULL);
	raise(SIGUSR1);
	__asm__ volatile("pushf; pop %0" : "=r"(flags));
	_exit(flags & NOT_ITS_OWN ? 1 : 0);
}

/* rt_sigreturn with nothing on the stack that could be a frame. */
static void return_from(void *rsp)
{
	__asm__ volatile("movq %0, %%rsp; movl $15, %%eax; syscall; hlt" ::"r"(rsp) : "memory");
}

static void nest(int sig)
{
	(void)sig;
	raise(SIGUSR1);
}

static void overflow(void *area)
{
	const stack_t stack = {.ss_sp = (char *)area + AREA - STACK, .ss_size = STACK};
	struct sigaction action = {.sa_handler = nest, .sa_flags = SA_ONSTACK | SA_NODEFER};

	if (sigaltstack(&stack, NULL))
		_exit(2);
	sigaction(SIGUSR1, &action, NULL);
	raise(SIGUSR1);
}

/* How the child that ran fn ended. */
static void report(const char *name, void (*fn)(void *), void *arg)
{
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		fn(arg);
		_exit(3);
	}
	waitpid(pid, &status, 0);
	printf("%s: %s %d\n", name, WIFSIGNALED(status) ? "signal" : "status",
	       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

int main(void)
{
	char *area = mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int touched = 0;

	if (area == MAP_FAILED)
		return 2;
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		lie = lies[i].lie;
		report(lies[i].name, raise_lie, NULL);
	}
	report("frame nowhere", return_from, (void *)0x10000);
	report("frame in the kernel", return_from, (void *)0xffffffff80100000UL);
	report("frame not canonical", return_from, (void *)0x0000800000000000UL);
	report("stack overflows", overflow, area);
	for (size_t i = 0; i < AREA - STACK; i++)
		touched += area[i] != 0;
	printf("bytes below the stack: %d written\n", touched);
	return 0;
}
