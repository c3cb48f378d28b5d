/*
 * From a page of a file to the entries that map it, through the mappings of the file. The list of
 * mappings changes only where tasks do not switch, and no walk sleeps.
 */
#include "guest/include/mm.h"

/* An entry that maps the page, under table_lock. */
typedef bool (*entry_fn)(struct vma *vma, u64 addr, pte_t *ptep);

/* Calls fn for each entry; whether it was true of any. */
static bool rmap_walk(const struct page *page, entry_fn fn)
{
	struct vma *vma;
	bool any = false;

	list_for_each(vma, &page->mapping->mappings, mapping_link)
	{
		u64 offset = page->index - vma->pgoff; /* huge if it lies before */
		u64 addr = vma->start + (offset << PAGE_SHIFT);
		pte_t *ptep;

		if (offset >= (vma->end - vma->start) >> PAGE_SHIFT)
			continue;
		spin_lock(&vma->mm->table_lock);
		ptep = pte_find(&vma->mm->pt, addr);
		if (ptep && vm_normal_page(*ptep) == page)
			any |= fn(vma, addr, ptep);
		spin_unlock(&vma->mm->table_lock);
	}
	return any;
}

static bool clean_entry(struct vma *vma, u64 addr, pte_t *ptep)
{
	if (!(*ptep & (PTE_WRITE | PTE_DIRTY)))
		return false;
	set_pte(ptep, *ptep & ~(pte_t)(PTE_WRITE | PTE_DIRTY));
	flush_tlb_range(vma->mm, addr, addr + PAGE_SIZE);
	return true;
}

void page_mkclean(struct page *page)
{
	rmap_walk(page, clean_entry);
}

/* Not flushed: a page that is used again without that being seen is only faulted in again. */
static bool age_entry(struct vma *vma, u64 addr, pte_t *ptep)
{
	bool accessed = *ptep & PTE_ACCESSED;

	(void)vma, (void)addr;
	set_pte(ptep, *ptep & ~(pte_t)PTE_ACCESSED);
	return accessed;
}

bool page_referenced(struct page *page)
{
	return page->mapcount && rmap_walk(page, age_entry);
}

static bool unmap_entry(struct vma *vma, u64 addr, pte_t *ptep)
{
	struct page *page = vm_normal_page(*ptep);

	set_pte(ptep, 0);
	flush_tlb_range(vma->mm, addr, addr + PAGE_SIZE);
	page_remove_mapping(vma->mm, page);
	return true;
}

void page_unmap(struct page *page)
{
	if (page->mapcount)
		rmap_walk(page, unmap_entry);
}

void unmap_mapping_range(struct address_space *as, u64 first, u64 last)
{
	struct vma *vma;

	list_for_each(vma, &as->mappings, mapping_link)
	{
		u64 pages = (vma->end - vma->start) >> PAGE_SHIFT;
		u64 from = first > vma->pgoff ? first - vma->pgoff : 0;
		u64 to = last - vma->pgoff; /* of the mapping's own pages */

		if (last < vma->pgoff || from >= pages)
			continue;
		to = to < pages ? to + 1 : pages;
		spin_lock(&vma->mm->table_lock);
		zap_range(vma, vma->start + (from << PAGE_SHIFT), vma->start + (to << PAGE_SHIFT));
		spin_unlock(&vma->mm->table_lock);
	}
}
