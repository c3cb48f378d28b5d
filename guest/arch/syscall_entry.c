/*
 * How a system call gets in. SYSCALL takes its privileged form on a processor; a host that
 * emulates ring 0 may run it wholly in ring 3: control arrives at LSTAR, %rcx and %r11 are set, but
 * the privilege is still the user's. LSTAR starts out at the kernel's entry. If the first call
 * arrives there in ring 3, the fetch faults; that fault is taken as the call, and from then on
 * LSTAR points at a stub that user mode may execute and that traps by ud2, which costs such a host
 * less than a page fault it has to walk tables for. Which of the two it is, init's first call
 * settles: a program that jumps to the kernel's entry later changes nothing.
 */
#include "guest/include/cpu.h"
#include "guest/include/pgtable.h"
#include "guest/include/printk.h"
#include "guest/include/process.h"
#include "guest/include/smp.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"
#include "guest/include/trap.h"

#define RFLAGS_MASKED	0x47700UL /* at entry: TF, IF, DF, IOPL, NT, AC off */
#define RFLAGS_USER_MAY 0xcd5UL	  /* of %r11: the arithmetic flags and DF */

extern char syscall_entry[], syscall_stub[];

static bool settled;
static u64 entry = (u64)syscall_entry; /* every CPU's LSTAR */

void syscall_init_secondary(void)
{
	wrmsr(MSR_STAR, (u64)(USER_DS - 8) << 48 | (u64)KERNEL_CS << 32);
	wrmsr(MSR_LSTAR, entry);
	wrmsr(MSR_SYSCALL_MASK, RFLAGS_MASKED);
}

void syscall_init(void)
{
	syscall_init_secondary();
	if (!map_user_text(SYSCALL_STUB, syscall_stub))
		panic("system calls: no memory for their entry");
}

static void load_entry(void *arg)
{
	(void)arg;
	wrmsr(MSR_LSTAR, entry);
}

void syscall_by_instruction(struct regs *regs)
{
	settled = true;
	syscall_dispatch(regs);
}

bool syscall_by_exception(struct regs *regs)
{
	if (regs->rip == (u64)syscall_entry && !settled) {
		settled = true;
		entry = SYSCALL_STUB;
		load_entry(NULL);
		smp_call_function_many(other_cpus(), load_entry, NULL);
		pr_info("system calls: this host keeps them in ring 3, entry by ud2\n");
	} else if (regs->rip != SYSCALL_STUB) {
		return false;
	}
	/* Whoever jumped here by hand chose %rcx freely: iretq must not meet what it cannot take.
	 */
	if (regs->rcx >= USER_END)
		process_exit(SIGSEGV);
	regs->rip = regs->rcx;
	regs->rflags = (regs->r11 & RFLAGS_USER_MAY) | RFLAGS_IF;
	regs->error = regs->rax;
	regs->vector = VECTOR_SYSCALL;
	syscall_dispatch(regs);
	return true;
}
