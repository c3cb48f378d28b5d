/*
 * Translations that are no longer true leave every CPU that may have them: those whose bit is in
 * mm.cpumask. An entry is changed first, the mask looked at after; a CPU sets its bit first and
 * loads the tables after. So one that is not asked has read the entry as it is now.
 */
#include "guest/include/cpu.h"
#include "guest/include/mm.h"
#include "guest/include/smp.h"
#include "guest/include/task.h"

/* Past this, one reload of CR3 is cheaper than a flush by page. */
#define FLUSH_PAGES_MAX 32

struct flush {
	const struct mm *mm;
	u64 start, end;
};

static void flush_here(const struct flush *f)
{
	if (read_cr3() != virt_to_phys(f->mm->pt.pgd))
		return;
	if ((f->end - f->start) >> PAGE_SHIFT > FLUSH_PAGES_MAX) {
		write_cr3(read_cr3());
		return;
	}
	for (u64 addr = f->start; addr < f->end; addr += PAGE_SIZE)
		invlpg(addr);
}

/* An idle CPU gives the address space up, and is not asked again. */
static void flush_for_another(void *arg)
{
	if (this_cpu()->task == this_cpu()->idle)
		mm_activate(NULL);
	else
		flush_here(arg);
}

static u32 used_elsewhere(const struct mm *mm)
{
	smp_mb();
	return READ_ONCE(mm->cpumask) & other_cpus();
}

bool mm_is_local(const struct mm *mm)
{
	if (nr_cpus == 1 || !READ_ONCE(mm->users))
		return true;
	return mm->users == 1 && current->mm == mm;
}

void flush_tlb_range(struct mm *mm, u64 start, u64 end)
{
	struct flush f = {mm, start, end};
	u32 others;

	flush_here(&f);
	if (nr_cpus == 1)
		return;
	others = used_elsewhere(mm);
	fault_counters.shootdowns += others != 0;
	smp_call_function_many(others, flush_for_another, &f);
}

void flush_tlb_page(struct mm *mm, u64 addr)
{
	invlpg(addr);
	if (nr_cpus > 1)
		flush_tlb_range(mm, addr, addr + PAGE_SIZE);
}

static void leave(void *arg)
{
	if (this_cpu()->mm == arg)
		mm_activate(NULL);
}

void mm_leave_all(struct mm *mm)
{
	if (nr_cpus > 1)
		smp_call_function_many(used_elsewhere(mm), leave, mm);
}

void mm_activate(struct mm *mm)
{
	u64 cr3 = virt_to_phys(mm ? mm->pt.pgd : kernel_pgd());
	u64 irq = local_irq_save();
	struct mm *prev = this_cpu()->mm;
	u32 bit = 1U << this_cpu()->id;

	if (prev != mm) {
		this_cpu()->mm = mm;
		if (mm)
			__atomic_fetch_or(&mm->cpumask, bit, __ATOMIC_SEQ_CST);
		write_cr3(cr3);
		if (prev)
			__atomic_fetch_and(&prev->cpumask, ~bit, __ATOMIC_SEQ_CST);
	}
	local_irq_restore(irq);
}
