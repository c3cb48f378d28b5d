/* Page table entries by range: removed, protected, copied for fork, cleaned for write-back. */
#include "guest/include/errno.h"
#include "guest/include/mm.h"

/* Past this, one reload of CR3 is cheaper than a flush by page. */
#define FLUSH_PAGES_MAX 32

void flush_tlb_range(struct mm *mm, u64 start, u64 end)
{
	if (read_cr3() != virt_to_phys(mm->pt.pgd))
		return;
	if ((end - start) >> PAGE_SHIFT > FLUSH_PAGES_MAX) {
		write_cr3(read_cr3());
		return;
	}
	for (; start < end; start += PAGE_SIZE)
		invlpg(start);
}

/* The next address from which a page table may exist, given that there is none at addr. */
static u64 next_table(u64 addr)
{
	return ALIGN_DOWN(addr, PMD_SIZE) + PMD_SIZE;
}

void zap_range(struct vma *vma, u64 start, u64 end)
{
	struct mm *mm = vma->mm;
	bool flush = false;

	for (u64 addr = start; addr < end;) {
		pte_t *ptep = pte_find(&mm->pt, addr);
		u64 stop = MIN(next_table(addr), end);

		if (!ptep) {
			addr = stop;
			continue;
		}
		for (; addr < stop; addr += PAGE_SIZE, ptep++) {
			struct page *page = vm_normal_page(*ptep);

			if (!*ptep)
				continue;
			set_pte(ptep, 0);
			flush = true;
			if (page)
				page_remove_mapping(mm, page);
		}
	}
	if (flush)
		flush_tlb_range(mm, start, end);
}

void protect_range(struct vma *vma, u64 start, u64 end)
{
	pte_t keep = PTE_ADDR_MASK | PTE_SPECIAL | PTE_ACCESSED | PTE_DIRTY;
	bool none = !(vma->flags & VM_ACCESS);
	struct mm *mm = vma->mm;

	for (u64 addr = start; addr < end;) {
		pte_t *ptep = pte_find(&mm->pt, addr);
		u64 stop = MIN(next_table(addr), end);

		if (!ptep) {
			addr = stop;
			continue;
		}
		for (; addr < stop; addr += PAGE_SIZE, ptep++) {
			pte_t flags = vma_pte_flags(vma);

			if (!pte_present(*ptep))
				continue;
			if (none)
				flags &= ~(pte_t)PTE_USER;
			set_pte(ptep, (*ptep & keep) | flags);
		}
	}
	flush_tlb_range(mm, start, end);
}

int copy_range(struct vma *dst, struct vma *src)
{
	/* Files, and memory nobody has written to: the child faults it in again. */
	if (!src->has_private)
		return 0;
	for (u64 addr = src->start; addr < src->end;) {
		pte_t *from = pte_find(&src->mm->pt, addr);
		u64 stop = MIN(next_table(addr), src->end);
		pte_t *to;

		if (!from) {
			addr = stop;
			continue;
		}
		to = pte_alloc(&dst->mm->pt, addr);
		if (!to)
			return -ENOMEM;
		for (; addr < stop; addr += PAGE_SIZE, from++, to++) {
			struct page *page = vm_normal_page(*from);

			if (!page || !(page->flags & PG_ANON))
				continue;
			if (*from & PTE_WRITE)
				set_pte(from, *from & ~(pte_t)PTE_WRITE);
			get_page(page);
			page_add_mapping(dst->mm, page);
			set_pte(to, *from);
		}
	}
	return 0;
}

void page_mkclean(struct page *page)
{
	struct address_space *as = page->mapping;
	struct vma *vma;

	list_for_each(vma, &as->mappings, shared)
	{
		u64 addr = vma->start + ((page->index - vma->pgoff) << PAGE_SHIFT);
		pte_t *ptep;

		if (page->index < vma->pgoff || addr >= vma->end)
			continue;
		ptep = pte_find(&vma->mm->pt, addr);
		if (!ptep || vm_normal_page(*ptep) != page)
			continue;
		set_pte(ptep, *ptep & ~(pte_t)(PTE_WRITE | PTE_DIRTY));
		flush_tlb_range(vma->mm, addr, addr + PAGE_SIZE);
	}
}
