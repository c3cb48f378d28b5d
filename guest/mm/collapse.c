/* MADV_COLLAPSE: what 512 entries map one by one is copied into 2 MiB mapped by one. */
#include "guest/include/errno.h"
#include "guest/include/huge.h"
#include "guest/include/string.h"
#include "guest/include/swap.h"

/* Its contents are in this entry alone, in memory, and nobody is at work on it. */
static bool may_move(struct page *page)
{
	return (page->flags & PG_ANON) && !page->order && page_is_sole(page) &&
	       !(page->flags & (PG_TAIL | PG_SWAPCACHE | PG_LOCKED));
}

/* Something is there, and all that is can be moved. table_lock held. */
static bool may_collapse(const pte_t *table)
{
	bool any = false;

	for (unsigned i = 0; i < PTRS_PER_TABLE; i++) {
		struct page *page = vm_normal_page(table[i]);

		if (pte_is_swap(table[i]) || (page && !may_move(page)))
			return false;
		any |= table[i] != 0;
	}
	return any;
}

/* The entries' pages go; what they held is in the 2 MiB page. table_lock held. */
static void move_pages(struct mm *mm, u64 haddr, pte_t *table, struct page *head)
{
	/* First, nobody writes any more to what is copied. */
	for (unsigned i = 0; i < PTRS_PER_TABLE; i++)
		if (table[i])
			set_pte(&table[i], table[i] & ~(pte_t)PTE_WRITE);
	flush_tlb_range(mm, haddr, haddr + PMD_SIZE);
	for (unsigned i = 0; i < PTRS_PER_TABLE; i++) {
		struct page *page = vm_normal_page(table[i]);

		if (page)
			copy_page(page_kva(head + i), page_kva(page));
		else
			clear_page(page_kva(head + i));
		set_pte(&table[i], 0);
		if (page)
			page_remove_mapping(mm, page);
	}
}

static int collapse(struct vma *vma, u64 haddr)
{
	struct mm *mm = vma->mm;
	pte_t *pmd = pmd_find(&mm->pt, haddr), *table;
	pte_t flags = vma_pte_flags(vma) | PTE_DIRTY;
	struct page *head;
	int err = -EAGAIN;

	if (pmd && pmd_is_huge(*pmd))
		return 0;
	if (!pmd || !*pmd)
		return -EINVAL;
	head = huge_page_alloc(vma, haddr, 0);
	if (!head)
		return -ENOMEM;
	lru_add(head);
	spin_lock(&mm->table_lock);
	table = pte_find(&mm->pt, haddr);
	if (may_collapse(table)) {
		move_pages(mm, haddr, table, head);
		pmd_drop_table(&mm->pt, pmd);
		huge_set(mm, pmd, head, vma_mkwrite(page_phys(head) | flags, vma));
		flush_tlb_range(mm, haddr, haddr + PMD_SIZE);
		fault_counters.thp_collapse++;
		err = 0;
	}
	spin_unlock(&mm->table_lock);
	if (err)
		put_page(head);
	return err;
}

int collapse_range(struct vma *vma, u64 start, u64 end)
{
	int err = 0;

	if (vma->ops || (vma->flags & VM_NOHUGEPAGE) ||
	    ALIGN_UP(vma->start, PMD_SIZE) + PMD_SIZE > vma->end)
		return -EINVAL;
	end &= PMD_MASK;
	for (u64 haddr = ALIGN_UP(start, PMD_SIZE); haddr < end; haddr += PMD_SIZE) {
		int failed = collapse(vma, haddr);

		err = failed ? failed : err;
	}
	return err;
}
