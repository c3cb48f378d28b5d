/* Where every exception and interrupt goes. */
#include "guest/include/trap.h"
#include "guest/include/apic.h"
#include "guest/include/cpu.h"
#include "guest/include/printk.h"
#include "guest/include/process.h"
#include "guest/include/smp_lock.h"
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

/* What a user program gets for an exception it raised, as Linux has it. */
static const struct {
	int sig, code;
	bool at_rip;
} exception_signals[VEC_EXCEPTIONS] = {
    [VEC_DIVIDE] = {SIGFPE, FPE_INTDIV, true},	    [VEC_DEBUG] = {SIGTRAP, TRAP_BRKPT, true},
    [VEC_BREAKPOINT] = {SIGTRAP, SI_KERNEL, false}, [VEC_INVALID_OP] = {SIGILL, ILL_ILLOPN, true},
    [VEC_X87] = {SIGFPE, SI_KERNEL, true},	    [VEC_ALIGNMENT] = {SIGBUS, BUS_ADRALN, false},
    [VEC_SIMD] = {SIGFPE, SI_KERNEL, true},	    [VEC_STACK] = {SIGBUS, SI_KERNEL, false},
};

static void send_signal(const struct regs *regs)
{
	int sig = exception_signals[regs->vector].sig, code = exception_signals[regs->vector].code;

	current->signals.error = regs->error;
	current->signals.trap = regs->vector;
	if (!sig) {
		sig = SIGSEGV;
		code = SI_KERNEL;
	}
	if (signal_unhandled(sig))
		printk("%s[%d]: %s ip %lx sp %lx error %lx\n", current->name, current->pid,
		       exception_names[regs->vector], regs->rip, regs->rsp, regs->error);
	signal_force(sig, code, exception_signals[regs->vector].at_rip ? regs->rip : 0);
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
	send_signal(regs);
	local_irq_disable();
}

void exit_to_user(struct regs *regs)
{
	if (likely(!this_cpu()->need_resched && !signal_pending() && !current->signals.suspends))
		return;
	local_irq_enable();
	if (this_cpu()->need_resched)
		schedule();
	lock_kernel();
	signals_deliver(regs);
	if (current->dying)
		task_exit(current->process->exit_status);
	unlock_kernel();
	local_irq_disable();
	if (this_cpu()->need_resched)
		sched_renew_slice();
}

/* From entry.S, interrupts off. */
void trap_dispatch(struct regs *regs)
{
	if (regs->vector == VEC_PAGE_FAULT) {
		exc_page_fault(regs);
	} else if (regs->vector == VEC_MACHINE_CHECK) {
		exc_machine_check(regs);
	} else if (regs->vector < VEC_EXCEPTIONS) {
		exc_other(regs);
	} else {
		this_cpu()->irq_user = user_mode(regs);
		this_cpu()->irq_depth++;
		irq_dispatch((unsigned)regs->vector);
		this_cpu()->irq_depth--;
	}
	if (user_mode(regs))
		exit_to_user(regs);
}

/* From entry.S, interrupts off. */
void syscall_dispatch(struct regs *regs)
{
	local_irq_enable();
	lock_kernel();
	regs->rax = (u64)syscall_run(regs);
	unlock_kernel();
	local_irq_disable();
	exit_to_user(regs);
}
