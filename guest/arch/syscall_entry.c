/*
 * How a system call gets in. SYSCALL takes its privileged form on a processor; a host that
 * emulates ring 0 may run it wholly in ring 3: control arrives at LSTAR, %rcx and %r11 are set, but
 * the privilege is still the user's. So LSTAR points where both end well: at the kernel's entry.
 * If the first one arrives there in ring 3, the fetch of a kernel page faults; that fault is taken
 * as the call, and from then on LSTAR points at a stub in user memory whose ud2 traps, which is
 * cheaper than a page fault that such a host has to walk tables for.
 */
#include "guest/include/cpu.h"
#include "guest/include/pgtable.h"
#include "guest/include/printk.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"
#include "guest/include/trap.h"

#define RFLAGS_USER_BITS 0x3f7fd7UL /* what user mode may hold, IF added */
#define RFLAGS_MASKED	 0x47700UL  /* TF IF DF IOPL NT AC: off at entry */

extern char syscall_entry[];

void syscall_init(void)
{
	wrmsr(MSR_STAR, (u64)(USER_DS - 8) << 48 | (u64)KERNEL_CS << 32);
	wrmsr(MSR_LSTAR, (u64)syscall_entry);
	wrmsr(MSR_SYSCALL_MASK, RFLAGS_MASKED);
}

bool syscall_by_exception(struct regs *regs)
{
	if (regs->rip != (u64)syscall_entry)
		return false;
	regs->rip = regs->rcx;
	regs->rflags = (regs->r11 & 0xcd5) | RFLAGS_IF;
	regs->error = regs->rax;
	regs->vector = ~0UL;
	syscall_dispatch(regs);
	return true;
}
