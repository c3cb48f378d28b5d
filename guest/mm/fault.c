/*
 * The page fault entry: what happened and to whom, before any page table is changed. Names follow
 * Linux's arch/x86/mm/fault.c.
 */
#include "guest/include/counters.h"
#include "guest/include/cpu.h"
#include "guest/include/mm.h"
#include "guest/include/oom.h"
#include "guest/include/printk.h"
#include "guest/include/process.h"
#include "guest/include/smp_lock.h"
#include "guest/include/swap.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"
#include "guest/include/trap.h"

#define SEGV_LINES_MAX 10 /* a task; more are counted, not printed */

#define OOM_RECLAIM    64 /* pages: a fault needs its own, page tables, and readahead */

/* What the access was, for people. */
static const char *access_name(u64 error)
{
	return error & PF_FETCH ? "fetch" : error & PF_WRITE ? "write" : "read";
}

static const char *code_name(int sig, int code)
{
	if (sig == SIGBUS)
		return code == BUS_MCEERR_AR ? "MCEERR" : "ADRERR";
	return code == SEGV_ACCERR ? "ACCERR" : "MAPERR";
}

/* The access failed for good. User mode: a signal; kernel mode: fixup or oops. */
static void bad_area(struct regs *regs, u64 address, int sig, int code)
{
	if (!user_mode(regs)) {
		if (!fixup_exception(regs))
			oops(address < PAGE_SIZE ? "NULL pointer dereference"
						 : "unable to handle page fault",
			     regs, address);
		fault_counters.fixups++;
		return;
	}
	if (signal_unhandled(sig) && current->segv_lines++ < SEGV_LINES_MAX)
		printk("%s[%d]: %s at %lx: %s (%s), ip %lx sp %lx error %lx\n", current->name,
		       current->pid, sig == SIGBUS ? "bus error" : "segmentation fault", address,
		       access_name(regs->error), code_name(sig, code), regs->rip, regs->rsp,
		       regs->error);
	current->signals.cr2 = address;
	current->signals.error = regs->error;
	current->signals.trap = VEC_PAGE_FAULT;
	signal_force(sig, code, address);
}

/* A kernel address. No process's mapping has one, so nothing is resolved here. */
static void do_kern_addr_fault(struct regs *regs, u64 address)
{
	/* To user mode, every kernel address looks mapped: what is there is not its business. */
	if (user_mode(regs)) {
		regs->error |= PF_PRESENT;
		fault_counters.maperr++;
	}
	bad_area(regs, address, SIGSEGV, SEGV_MAPERR);
}

/* Whether the mapping forbids the access that error describes. */
static bool access_error(u64 error, const struct vma *vma)
{
	if (error & PF_WRITE)
		return !(vma->flags & VM_WRITE);
	/* On a page that is not there a fetch is a read: what it may not do, it is told then. */
	if ((error & PF_FETCH) && (error & PF_PRESENT))
		return !(vma->flags & VM_EXEC);
	return !(vma->flags & VM_ACCESS);
}

/*
 * The mapping above the address grows down to it, if it is one that does; or NULL. The lock, had
 * for reading, is given up to have it for writing: another thread may have grown the stack first.
 */
static struct vma *grow_stack(struct mm *mm, struct vma *vma, u64 address)
{
	if (!(vma->flags & VM_GROWSDOWN))
		return NULL;
	up_read(&mm->lock);
	down_write(&mm->lock);
	vma = find_vma(mm, address);
	if (vma && vma->start > address &&
	    (!(vma->flags & VM_GROWSDOWN) || expand_stack(vma, address)))
		vma = NULL;
	downgrade_write(&mm->lock);
	return vma;
}

struct vma *vma_at(struct mm *mm, u64 address)
{
	struct vma *vma = find_vma(mm, address);

	return vma && vma->start > address ? grow_stack(mm, vma, address) : vma;
}

/* The mapping that the access is meant for; or NULL. */
static struct vma *lock_vma(struct mm *mm, const struct regs *regs, u64 address)
{
	struct vma *vma;

	if (!down_read_trylock(&mm->lock)) {
		/*
		 * The kernel faulting with the lock held would wait for itself. Only the user
		 * copies may fault here, and they are never called with it.
		 */
		if (!user_mode(regs) && !is_fixup_ip(regs->rip))
			return NULL;
		down_read(&mm->lock);
	}
	vma = vma_at(mm, address);
	if (!vma)
		up_read(&mm->lock);
	return vma;
}

static unsigned fault_flags(u64 error)
{
	unsigned flags = FAULT_ALLOW_RETRY;

	if (error & PF_WRITE)
		flags |= FAULT_WRITE;
	if (error & PF_USER)
		flags |= FAULT_USER;
	if (error & PF_FETCH)
		flags |= FAULT_FETCH;
	return flags;
}

void count_fault(bool major, bool in_kernel)
{
	if (major) {
		current->faults.major++;
		fault_counters.major++;
	} else {
		current->faults.minor++;
		fault_counters.minor++;
	}
	if (in_kernel)
		fault_counters.kernel_faults++;
}

/*
 * The fault found no memory. True: there may be some now, by reclaim or because a program was
 * ended for it. A system call gets its error; a program that is to end does so on its way back.
 */
static bool made_room(struct regs *regs, u64 address)
{
	const struct mem_group *group = current->mm->group;

	if (group->usage < group->limit && reclaim_pages(OOM_RECLAIM))
		return true;
	fault_counters.oom++;
	if (!user_mode(regs)) {
		bad_area(regs, address, SIGSEGV, SEGV_MAPERR);
		return false;
	}
	if (oom_kill(group))
		return !task_dying();
	printk("out of memory: ending %s[%d], the last one\n", current->name, current->pid);
	process_exit(SIGKILL);
}

static bool make_room(struct regs *regs, u64 address)
{
	bool made;

	lock_kernel();
	made = made_room(regs, address);
	unlock_kernel();
	return made;
}

static void do_user_addr_fault(struct regs *regs, u64 address)
{
	struct mm *mm = current->mm;
	unsigned flags = fault_flags(regs->error);
	bool major = false;

	reclaim_if_low();
	for (;; flags |= FAULT_TRIED) {
		struct vma *vma = lock_vma(mm, regs, address);
		enum fault_result ret;

		if (unlikely(!vma)) {
			fault_counters.maperr++;
			bad_area(regs, address, SIGSEGV, SEGV_MAPERR);
			return;
		}
		if (unlikely(access_error(regs->error, vma))) {
			up_read(&mm->lock);
			fault_counters.accerr++;
			bad_area(regs, address, SIGSEGV, SEGV_ACCERR);
			return;
		}
		ret = handle_mm_fault(vma, address, flags, &major);
		if (ret == FAULT_RETRY) {
			fault_counters.retry++;
			continue;
		}
		task_numa_work(mm);
		up_read(&mm->lock);
		switch (ret) {
		case FAULT_OOM:
			if (make_room(regs, address))
				continue;
			return;
		case FAULT_SIGBUS:
			fault_counters.sigbus++;
			bad_area(regs, address, SIGBUS, BUS_ADRERR);
			return;
		case FAULT_HWPOISON:
			fault_counters.hwpoison++;
			bad_area(regs, address, SIGBUS, BUS_MCEERR_AR);
			return;
		case FAULT_SIGSEGV:
			bad_area(regs, address, SIGSEGV, SEGV_ACCERR);
			return;
		case FAULT_RESOLVED:
		case FAULT_RETRY:
		case FAULT_NOPAGE:
		case FAULT_LOCKED:
		case FAULT_DIRECT:
		case FAULT_FALLBACK:
			count_fault(major, !user_mode(regs));
			return;
		}
	}
}

void exc_page_fault(struct regs *regs)
{
	u64 address = read_cr2();

	/* An entry with reserved bits set is this kernel's doing, whoever ran into it. */
	if (unlikely(regs->error & PF_RESERVED))
		oops("corrupt page table", regs, address);
	if (user_mode(regs)) {
		if (syscall_by_exception(regs))
			return;
		local_irq_enable();
	} else if (regs->rflags & RFLAGS_IF) {
		local_irq_enable();
	}
	if (unlikely(address >= USER_END))
		do_kern_addr_fault(regs, address);
	else if (unlikely(!current->mm || this_cpu()->irq_depth || !(regs->rflags & RFLAGS_IF)))
		bad_area(regs, address, SIGSEGV, SEGV_MAPERR);
	else
		do_user_addr_fault(regs, address);
	local_irq_disable();
}
