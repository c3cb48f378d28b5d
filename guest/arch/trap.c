/* Where every exception and interrupt goes. */
#include "guest/include/trap.h"
#include "guest/include/apic.h"
#include "guest/include/cpu.h"
#include "guest/include/printk.h"
#include "guest/include/spinlock.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"

static const char *const exception_names[VEC_EXCEPTIONS] = {
    "divide error",
    "debug",
    "NMI",
    "breakpoint",
    "overflow",
    "bound range exceeded",
    "invalid opcode",
    "device not available",
    "double fault",
    "coprocessor segment overrun",
    "invalid TSS",
    "segment not present",
    "stack fault",
    "general protection fault",
    "page fault",
    "reserved",
    "x87 error",
    "alignment check",
    "machine check",
    "SIMD error",
    "virtualization exception",
    "control protection",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "hypervisor injection",
    "VMM communication",
    "security exception",
    "reserved",
};

/* What a user program gets for an exception it raised. */
static int exception_signal(u64 vector)
{
	switch (vector) {
	case 0:
	case 16:
	case 19:
		return SIGFPE;
	case 1:
	case 3:
		return SIGTRAP;
	case VEC_INVALID_OP:
		return SIGILL;
	case 17:
		return SIGBUS;
	default:
		return SIGSEGV;
	}
}

static void exc_other(struct regs *regs)
{
	const char *name = exception_names[regs->vector];

	if (!user_mode(regs)) {
		if (regs->vector == VEC_GENERAL_PROTECTION && fixup_exception(regs))
			return;
		oops(name, regs, 0);
	}
	if (syscall_by_exception(regs))
		return;
	local_irq_enable();
	printk("%s[%d]: %s ip %lx sp %lx error %lx\n", current->name, current->pid, name, regs->rip,
	       regs->rsp, regs->error);
	task_kill(exception_signal(regs->vector));
	local_irq_disable();
}

void exit_to_user(void)
{
	if (likely(!this_cpu()->need_resched && !current->dying))
		return;
	local_irq_enable();
	if (this_cpu()->need_resched)
		schedule();
	if (current->dying)
		task_exit(current->exit_status);
	local_irq_disable();
	if (this_cpu()->need_resched)
		sched_renew_slice();
}

/* From entry.S, interrupts off. */
void trap_dispatch(struct regs *regs)
{
	if (regs->vector == VEC_PAGE_FAULT) {
		exc_page_fault(regs);
	} else if (regs->vector < VEC_EXCEPTIONS) {
		exc_other(regs);
	} else {
		this_cpu()->irq_depth++;
		irq_dispatch((unsigned)regs->vector);
		this_cpu()->irq_depth--;
	}
	if (user_mode(regs))
		exit_to_user();
}

/* From entry.S, interrupts off. */
void syscall_dispatch(struct regs *regs)
{
	local_irq_enable();
	regs->rax = (u64)syscall_run(regs);
	local_irq_disable();
	exit_to_user();
}
