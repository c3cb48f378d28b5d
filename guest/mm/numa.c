/*
 * Hinting faults ("NUMA balancing"): entries lose their rights now and then, so that the next
 * access tells that the page is in use, and by whom. There is one node, so nothing is moved: the
 * fault counts and gives the rights back. Linux scans by time; here it is by faults, so that a run
 * can be repeated. Off, unless the command line says numa_balancing=enable.
 */
#include "guest/include/huge.h"
#include "guest/include/vma.h"

#define SCAN_FAULTS 64	/* of an address space between two scans */
#define SCAN_PAGES  128 /* that lose their rights in one */

bool numa_balancing;

/* The entry as it was, for nobody. */
static pte_t make_hint(pte_t pte)
{
	const pte_t keep = PTE_ADDR_MASK | PTE_HUGE | PTE_ACCESSED | PTE_DIRTY;

	return (pte & keep) | PTE_PROTNONE;
}

static bool may_hint(pte_t pte)
{
	return vm_normal_page(pte) && !(pte & PTE_PROTNONE);
}

/* From *addr on, where the next scan goes on; how many of max entries were taken. */
static unsigned change_prot_numa(struct vma *vma, u64 *addr, unsigned max)
{
	struct mm *mm = vma->mm;
	const u64 start = *addr;
	unsigned n = 0;
	pte_t *ptep;

	for (u64 at = start; (ptep = pmd_next_huge(&mm->pt, &at, vma->end)); at += PMD_SIZE)
		if (n < max && may_hint(*ptep)) {
			set_pte(ptep, make_hint(*ptep));
			n++;
		}
	for (u64 stop; n < max && (ptep = pte_next_span(&mm->pt, addr, vma->end, &stop));) {
		for (; *addr < stop && n < max; *addr += PAGE_SIZE, ptep++) {
			if (!may_hint(*ptep))
				continue;
			set_pte(ptep, make_hint(*ptep));
			n++;
		}
	}
	if (n)
		flush_tlb_range(mm, start, vma->end);
	return n;
}

void task_numa_work(struct mm *mm)
{
	unsigned left = SCAN_PAGES;
	struct vma *vma;

	if (!numa_balancing || ++mm->numa_faults % SCAN_FAULTS)
		return;
	spin_lock(&mm->table_lock);
	while (left && (vma = find_vma(mm, mm->numa_scan))) {
		mm->numa_scan = MAX(mm->numa_scan, vma->start);
		if ((vma->flags & VM_ACCESS) && !(vma->flags & VM_HUGETLB))
			left -= change_prot_numa(vma, &mm->numa_scan, left);
		if (left)
			mm->numa_scan = vma->end;
	}
	if (left)
		mm->numa_scan = 0; /* from the beginning, next time */
	fault_counters.numa_pte_updates += SCAN_PAGES - left;
	spin_unlock(&mm->table_lock);
}

enum fault_result do_numa_page(struct fault *f)
{
	const struct vma *vma = f->req->vma;
	struct mm *mm = vma->mm;
	bool huge = pmd_is_huge(f->orig_pte);

	f->kind = FC_numa_hint;
	spin_lock(&mm->table_lock);
	if (*f->ptep == f->orig_pte)
		set_pte(f->ptep, pte_modify(vma, f->orig_pte) | (huge ? PTE_HUGE : 0));
	else
		f->kind = FC_raced;
	spin_unlock(&mm->table_lock);
	return FAULT_RESOLVED;
}
