/*
 * From a page to the entries that map it: a file's through the mappings of the file, an own page
 * through those that came from the one it was made in. A page that no entry maps says nothing of
 * where those are: its mappings may be gone.
 */
#include "guest/include/huge.h"
#include "guest/include/swap.h"

struct spinlock rmap_lock;

/* --- who maps what --------------------------------------------------------------------------- */

void vma_link(struct vma *vma)
{
	if (vma->inode && list_empty(&vma->mapping_link))
		list_add(&vma->mapping_link, &vma->inode->mapping.mappings);
}

void anon_vma_join(struct vma *vma, struct anon_vma *anon_vma)
{
	if (!anon_vma)
		return;
	vma->anon_vma = anon_vma;
	anon_vma->nr_vmas++;
	list_add(&vma->anon_link, &anon_vma->vmas);
}

void vma_unlink(struct vma *vma)
{
	list_del(&vma->mapping_link);
	list_del(&vma->anon_link);
	if (vma->anon_vma && !--vma->anon_vma->nr_vmas)
		kfree(vma->anon_vma);
	vma->anon_vma = NULL;
}

bool anon_vma_prepare(struct vma *vma)
{
	struct anon_vma *fresh;

	if (likely(READ_ONCE(vma->anon_vma)))
		return true;
	fresh = kzalloc(sizeof(*fresh));
	if (!fresh)
		return false;
	list_init(&fresh->vmas);
	spin_lock(&rmap_lock);
	if (!vma->anon_vma) {
		anon_vma_join(vma, fresh);
		fresh = NULL;
	}
	spin_unlock(&rmap_lock);
	kfree(fresh);
	return true;
}

/* --- mappings counted ---------------------------------------------------------------------- */

void page_add_mapping(struct mm *mm, struct page *page)
{
	__atomic_fetch_add(&page->mapcount, 1, __ATOMIC_RELAXED);
	mm->rss[page->flags & PG_ANON ? RSS_ANON : RSS_FILE]++;
}

/* What an entry held is no longer held by it. */
void page_remove_mapping(struct mm *mm, struct page *page)
{
	__atomic_fetch_sub(&page->mapcount, 1, __ATOMIC_RELAXED);
	mm->rss[page->flags & PG_ANON ? RSS_ANON : RSS_FILE]--;
	put_page(page);
}

/* --- walks ----------------------------------------------------------------------------------- */

static bool visit(const struct page *page, struct vma *vma, entry_fn fn)
{
	u64 offset = page->index - vma->pgoff; /* huge if it lies before */
	u64 addr = vma->start + (offset << PAGE_SHIFT);
	bool ret = false;
	pte_t *ptep;

	if (offset >= (vma->end - vma->start) >> PAGE_SHIFT)
		return false;
	spin_lock(&vma->mm->table_lock);
	ptep = pte_find(&vma->mm->pt, addr);
	if (!ptep && page->order)
		ptep = pmd_find(&vma->mm->pt, addr);
	if (ptep && vm_normal_page(*ptep) == page)
		ret = fn(vma, addr, ptep);
	spin_unlock(&vma->mm->table_lock);
	return ret;
}

bool rmap_walk(const struct page *page, entry_fn fn)
{
	struct vma *vma;
	bool any = false;

	spin_lock(&rmap_lock);
	if (READ_ONCE(page->mapcount) && (page->flags & PG_ANON)) {
		list_for_each(vma, &page->anon_vma->vmas, anon_link) any |= visit(page, vma, fn);
	} else if (READ_ONCE(page->mapcount)) {
		list_for_each(vma, &page->mapping->mappings, mapping_link) any |=
		    visit(page, vma, fn);
	}
	spin_unlock(&rmap_lock);
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

	(void)addr;
	set_pte(ptep, *ptep & ~(pte_t)PTE_ACCESSED);
	return accessed || (vma->flags & VM_LOCKED);
}

bool split_huge_page(struct page *head)
{
	return rmap_walk(head, split_sole_entry);
}

bool page_referenced(struct page *page)
{
	return rmap_walk(page, age_entry);
}

static bool unmap_entry(struct vma *vma, u64 addr, pte_t *ptep)
{
	struct page *page = vm_normal_page(*ptep);

	if (page->flags & PG_ANON) {
		swap_dup(page->private);
		vma->mm->rss[RSS_SWAP]++;
		set_pte(ptep, swap_pte(page->private));
	} else {
		set_pte(ptep, 0);
	}
	flush_tlb_range(vma->mm, addr, addr + PAGE_SIZE);
	page_remove_mapping(vma->mm, page);
	return true;
}

void page_unmap(struct page *page)
{
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
