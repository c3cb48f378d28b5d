/* Page table entries by range: removed, protected, copied for fork. */
#include "guest/include/errno.h"
#include "guest/include/huge.h"
#include "guest/include/hugetlb.h"
#include "guest/include/swap.h"

#define GATHER_MAX 64

pte_t *pte_next_span(const struct pgtable *pt, u64 *addr, u64 end, u64 *stop)
{
	for (; *addr < end; *addr = *stop) {
		pte_t *ptep = pte_find_span(pt, *addr, stop);

		*stop = MIN(*stop, end);
		if (ptep)
			return ptep;
	}
	return NULL;
}

/* Pages that no entry has any more, but other CPUs still may: freed when those have been asked. */
struct mmu_gather {
	struct mm *mm;
	u64 start; /* of what is to be flushed */
	bool local, flush;
	unsigned nr;
	struct page *pages[GATHER_MAX];
};

static void tlb_flush(struct mmu_gather *tlb, u64 end)
{
	if (tlb->flush)
		flush_tlb_range(tlb->mm, tlb->start, end);
	for (unsigned i = 0; i < tlb->nr; i++)
		put_page(tlb->pages[i]);
	tlb->nr = 0;
	tlb->flush = false;
	tlb->start = end;
}

static void tlb_remove_page(struct mmu_gather *tlb, struct page *page, u64 end)
{
	if (!tlb->local) {
		get_page(page);
		tlb->pages[tlb->nr++] = page;
	}
	page_remove_mapping(tlb->mm, page);
	if (tlb->nr == GATHER_MAX)
		tlb_flush(tlb, end);
}

void zap_range(struct vma *vma, u64 start, u64 end)
{
	struct mm *mm = vma->mm;
	struct mmu_gather tlb = {.mm = mm, .start = start, .local = mm_is_local(mm)};
	pte_t *ptep;

	tlb.flush = vma->flags & VM_HUGETLB ? zap_hugetlb_range(vma, start, end)
					    : zap_huge_range(vma, start, end);
	for (u64 addr = start, stop; (ptep = pte_next_span(&mm->pt, &addr, end, &stop));) {
		for (; addr < stop; addr += PAGE_SIZE, ptep++) {
			pte_t pte = *ptep;
			struct page *page = vm_normal_page(pte);

			if (!pte)
				continue;
			set_pte(ptep, 0);
			if (pte_is_swap(pte)) {
				mm->rss[RSS_SWAP]--;
				swap_put(pte_slot(pte));
				continue;
			}
			tlb.flush = true;
			if (page)
				tlb_remove_page(&tlb, page, addr + PAGE_SIZE);
		}
	}
	tlb_flush(&tlb, end);
}

/*
 * Whether the entry may be writable right away, given that the mapping is: the page is nobody
 * else's; or shared, and its file was told of a write that has not been written back.
 */
static bool may_stay_writable(const struct vma *vma, pte_t pte)
{
	struct page *page = vm_normal_page(pte);

	if (!(vma->flags & VM_WRITE))
		return false;
	if (vma->flags & VM_SHARED)
		return (pte & PTE_DIRTY) || !vma->ops->page_mkwrite;
	return page && (page->flags & PG_ANON) && page_is_sole(page);
}

pte_t pte_modify(const struct vma *vma, pte_t pte)
{
	const pte_t keep = PTE_ADDR_MASK | PTE_SPECIAL | PTE_ACCESSED | PTE_DIRTY;

	pte = (pte & keep) | vma_pte_flags(vma);
	return may_stay_writable(vma, pte) ? pte | PTE_WRITE : pte;
}

void protect_range(struct vma *vma, u64 start, u64 end)
{
	struct mm *mm = vma->mm;
	pte_t *ptep;

	protect_huge_range(vma, start, end);
	for (u64 addr = start, stop; (ptep = pte_next_span(&mm->pt, &addr, end, &stop));) {
		for (; addr < stop; addr += PAGE_SIZE, ptep++) {
			if (pte_present(*ptep))
				set_pte(ptep, pte_modify(vma, *ptep));
		}
	}
	flush_tlb_range(mm, start, end);
}

int copy_range(struct vma *dst, struct vma *src)
{
	pte_t *from;
	int err;

	/* Only files, and memory nobody has written to: the child faults it in again. */
	if (!src->anon_vma)
		return 0;
	err = copy_huge_range(dst, src);
	if (err)
		return err;
	for (u64 addr = src->start, stop;
	     (from = pte_next_span(&src->mm->pt, &addr, src->end, &stop));) {
		pte_t *to = pte_alloc(&dst->mm->pt, addr);

		if (!to)
			return -ENOMEM;
		for (; addr < stop; addr += PAGE_SIZE, from++, to++) {
			struct page *page = vm_normal_page(*from);

			if (!*from)
				continue;
			if (pte_is_swap(*from)) {
				swap_dup(pte_slot(*from));
				dst->mm->rss[RSS_SWAP]++;
			}
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

int prepare_move(struct mm *mm, u64 to, u64 start, u64 len)
{
	int err = 0;

	spin_lock(&mm->table_lock);
	for (u64 addr = start, stop; !err && pte_next_span(&mm->pt, &addr, start + len, &stop);
	     addr = stop) {
		/* Where the tables end differs at the two places. */
		if (!pte_alloc(&mm->pt, to + (addr - start)) ||
		    !pte_alloc(&mm->pt, to + (stop - PAGE_SIZE - start)))
			err = -ENOMEM;
	}
	spin_unlock(&mm->table_lock);
	return err;
}

void move_range(struct vma *dst, u64 to, u64 start, u64 len)
{
	struct mm *mm = dst->mm;
	pte_t *from;

	for (u64 addr = start, stop; (from = pte_next_span(&mm->pt, &addr, start + len, &stop));) {
		for (; addr < stop; addr += PAGE_SIZE, from++) {
			pte_t pte = *from;

			if (!pte)
				continue;
			set_pte(from, 0);
			set_pte(pte_find(&mm->pt, to + (addr - start)), pte);
		}
	}
	flush_tlb_range(mm, start, start + len);
}
