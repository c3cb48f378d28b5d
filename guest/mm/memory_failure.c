/*
 * The end of a frame that failed. Only the program that touched it is looked at: others that map
 * it get a machine check of their own.
 */
#include "guest/include/memory_failure.h"
#include "guest/include/huge.h"
#include "guest/include/printk.h"
#include "guest/include/signal.h"
#include "guest/include/task.h"
#include "guest/include/trap.h"

/* With its last reference it goes nowhere. */
static void retire(struct mm *mm, struct page *page)
{
	__atomic_fetch_or(&compound_head(page)->flags, PG_HWPOISON, __ATOMIC_RELAXED);
	page_remove_mapping(mm, page);
}

/* 2 MiB mapped as one lose only what is lost. */
static void split_around(struct vma *vma, u64 phys)
{
	pte_t *pmd;

	for (u64 addr = vma->start; (pmd = pmd_next_huge(&vma->mm->pt, &addr, vma->end));
	     addr += PMD_SIZE)
		if (!(vma->flags & VM_HUGETLB) && pte_phys(*pmd) == (phys & PMD_MASK))
			split_huge_range(vma->mm, addr, addr + PMD_SIZE);
}

static u64 poison_in(struct vma *vma, u64 phys)
{
	struct mm *mm = vma->mm;
	pte_t *ptep;

	split_around(vma, phys);
	for (u64 addr = vma->start, stop;
	     (ptep = pte_next_span(&mm->pt, &addr, vma->end, &stop));) {
		for (; addr < stop; addr += PAGE_SIZE, ptep++) {
			struct page *page = vm_normal_page(*ptep);

			if (!pte_present(*ptep) || pte_phys(*ptep) != phys)
				continue;
			set_pte(ptep, PTE_POISON);
			flush_tlb_range(mm, addr, addr + PAGE_SIZE);
			if (page)
				retire(mm, page);
			return addr;
		}
	}
	return 0;
}

u64 poison_entry(struct mm *mm, u64 phys)
{
	u64 addr = 0;

	for (unsigned i = 0; i < mm->nr_vmas && !addr; i++) {
		spin_lock(&mm->table_lock);
		addr = poison_in(mm->vmas[i], phys);
		spin_unlock(&mm->table_lock);
	}
	return addr;
}

void memory_failure(u64 phys)
{
	struct mm *mm = current->mm;
	u64 addr;

	down_read(&mm->lock);
	addr = poison_entry(mm, phys);
	up_read(&mm->lock);
	if (signal_unhandled(SIGBUS))
		printk("%s[%d]: memory error at %lx, physical %lx\n", current->name, current->pid,
		       addr, phys);
	current->signals.trap = VEC_MACHINE_CHECK;
	signal_force(SIGBUS, BUS_MCEERR_AR, addr);
}
