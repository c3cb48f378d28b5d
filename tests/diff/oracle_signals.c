/* 13: what a signal says of a touch that may not be. */
#include "oracle.h"

#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ucontext.h>

#define RW  (PROT_READ | PROT_WRITE)
#define LEN (PAGES * PAGE)

static sigjmp_buf back;
static struct {
	int signal, code;
	const volatile char *at;
	unsigned long error, trap, cr2;
} said;

static void on_fault(int signal, siginfo_t *info, void *context)
{
	const greg_t *regs = ((const ucontext_t *)context)->uc_mcontext.gregs;

	said.signal = signal;
	said.code = info->si_code;
	said.at = info->si_addr;
	said.error = (unsigned long)regs[REG_ERR];
	said.trap = (unsigned long)regs[REG_TRAPNO];
	said.cr2 = (unsigned long)regs[REG_CR2];
	siglongjmp(back, 1);
}

static void catch_faults(void)
{
	struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};

	sigemptyset(&action.sa_mask);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

static void touch(enum access access, const volatile char *at)
{
	/* Unaligned on purpose: it may lie in two pages. */
	typedef uint64_t word __attribute__((aligned(1), may_alias));

	switch (access) {
	case READ:
		*(const volatile word *)at;
		break;
	case WRITE:
		*(volatile word *)(uintptr_t)at = 0; /* NOLINT(*-int-to-ptr) */
		break;
	case FETCH:
		((void (*)(void))(uintptr_t)at)(); /* NOLINT(*-int-to-ptr) */
		break;
	}
}

void attempt(const char *what, enum access access, const volatile char *at,
	     const volatile char *base)
{
	static const char *const names[] = {"read", "write", "fetch"};
	struct faults before;

	catch_faults();
	printf("%s, %s: ", what, names[access]);
	fflush(stdout);
	before = faults();
	if (!sigsetjmp(back, 0)) {
		touch(access, at);
		tell("ok", before);
		return;
	}
	struct faults now = faults();
	printf("signal %d code %d at %+ld trap %lu error %lx", said.signal, said.code,
	       (long)((uintptr_t)said.at - (uintptr_t)base), said.trap, said.error);
	/* Of a general protection there is no address: CR2 has one of before. */
	if (said.trap == 14)
		printf(" cr2 %+ld", (long)(said.cr2 - (uintptr_t)base));
	printf(": %ld minor, %ld major\n", now.minor - before.minor, now.major - before.major);
	fflush(stdout);
}

static void every_way(const char *what, const volatile char *at)
{
	for (enum access access = READ; access <= FETCH; access++)
		attempt(what, access, at, at);
}

static char *protected_region(int protection)
{
	char *p = own_region();

	must(!mprotect(p, LEN, protection), "mprotect");
	return p;
}

static const volatile char *absolute(uintptr_t at)
{
	return (const volatile char *)at; /* NOLINT(*-int-to-ptr) */
}

static void of_no_mapping(void)
{
	char *p = own_region();

	must(!munmap(p + PAGE, PAGE), "munmap");
	write_pages(p, 1, 1);
	every_way("13 a hole", p + PAGE);
	attempt("13 into a hole", READ, p + PAGE - 4, p);
	attempt("13 into a hole", WRITE, p + PAGE - 4, p);
	every_way("13 NULL", absolute(0));
	every_way("13 the last page below the hole", absolute(0x7ffffffff000UL));
	every_way("13 the kernel's", absolute(0xffffffff80100000UL));
	every_way("13 the kernel's memory", absolute(0xffff888000000000UL));
	every_way("13 the last byte there is", absolute(~0UL - 8));
	attempt("13 not canonical", READ, absolute(0x8000000000000000UL), NULL);
	attempt("13 not canonical", WRITE, absolute(0x8000000000000000UL), NULL);
	attempt("13 just not canonical", READ, absolute(0x800000000000UL), NULL);
}

static void of_a_mapping(void)
{
	char *p = own_region();

	write_pages(p, 2, (char)0xc3); /* ret */
	must(!mprotect(p, LEN, PROT_READ), "mprotect");
	every_way("13 read-only", p);
	every_way("13 read-only, untouched", protected_region(PROT_READ) + 3 * PAGE);
	p = own_region();
	write_pages(p, 2, 1);
	must(!mprotect(p + PAGE, PAGE, PROT_READ), "mprotect");
	attempt("13 into read-only", WRITE, p + PAGE - 4, p);
	attempt("13 into read-only", READ, p + PAGE - 4, p);
	must(!mprotect(p + PAGE, PAGE, PROT_NONE), "mprotect");
	attempt("13 into nothing", READ, p + PAGE - 4, p);
	every_way("13 nothing, touched", p + PAGE);
	every_way("13 nothing, untouched", protected_region(PROT_NONE));
	p = own_region();
	write_pages(p, 1, (char)0xc3);
	attempt("13 not executable", FETCH, p, p);
	attempt("13 not executable, untouched", FETCH, p + PAGE, p);
	p = file_region(PROT_READ, MAP_SHARED);
	every_way("13 a file's", p);
	every_way("13 a file's, touched", p);
}

void signal_programs(void)
{
	of_no_mapping();
	of_a_mapping();
}
