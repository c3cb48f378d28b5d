/* Page table entries by range: removed, protected, copied for fork. */
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

/*
 * The entries from @*addr on, up to @*stop, of the next page table that there is before @end;
 * NULL: none. For a loop that leaves @*addr at @*stop.
 */
static pte_t *next_entries(const struct pgtable *pt, u64 *addr, u64 end, u64 *stop)
{
	for (; *addr < end; *addr = *stop) {
		pte_t *ptep = pte_find_span(pt, *addr, stop);

		*stop = MIN(*stop, end);
		if (ptep)
			return ptep;
	}
	return NULL;
}

void zap_range(struct vma *vma, u64 start, u64 end)
{
	struct mm *mm = vma->mm;
	bool flush = false;
	pte_t *ptep;

	for (u64 addr = start, stop; (ptep = next_entries(&mm->pt, &addr, end, &stop));) {
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

/*
 * Whether the entry may be writable right away, given that the mapping is: the page is nobody
 * else's; or shared, and its file was told of a write that has not been written back.
 */
static bool may_stay_writable(const struct vma *vma, pte_t pte)
{
	const struct page *page = vm_normal_page(pte);

	if (!(vma->flags & VM_WRITE))
		return false;
	if (vma->flags & VM_SHARED)
		return pte & PTE_DIRTY;
	return page && (page->flags & PG_ANON) && page->refcount == 1;
}

void protect_range(struct vma *vma, u64 start, u64 end)
{
	pte_t keep = PTE_ADDR_MASK | PTE_SPECIAL | PTE_ACCESSED | PTE_DIRTY;
	pte_t flags = vma_pte_flags(vma);
	struct mm *mm = vma->mm;
	pte_t *ptep;

	for (u64 addr = start, stop; (ptep = next_entries(&mm->pt, &addr, end, &stop));) {
		for (; addr < stop; addr += PAGE_SIZE, ptep++) {
			pte_t pte = (*ptep & keep) | flags;

			if (!pte_present(*ptep))
				continue;
			if (may_stay_writable(vma, pte))
				pte |= PTE_WRITE;
			set_pte(ptep, pte);
		}
	}
	flush_tlb_range(mm, start, end);
}

int copy_range(struct vma *dst, struct vma *src)
{
	pte_t *from;

	/* Only files, and memory nobody has written to: the child faults it in again. */
	if (!src->has_private)
		return 0;
	for (u64 addr = src->start, stop;
	     (from = next_entries(&src->mm->pt, &addr, src->end, &stop));) {
		pte_t *to = pte_alloc(&dst->mm->pt, addr);

		if (!to)
			return -ENOMEM;
		for (; addr < stop; addr += PAGE_SIZE, from++, to++) {
			struct page *page = vm_normal_page(*from);

			if (!pte_present(*from))
				continue;
			/* Write permission is had by own pages alone: from now on, nobody's own. */
			if (*from & PTE_WRITE)
				set_pte(from, *from & ~(pte_t)PTE_WRITE);
			if (page) {
				get_page(page);
				page_add_mapping(dst->mm, page);
			}
			set_pte(to, *from);
		}
	}
	return 0;
}
