/* Faults on entries whose page is in the swap area, or still or again in its cache. */
#include "guest/include/errno.h"
#include "guest/include/filemap.h"
#include "guest/include/swap.h"

#define SWAP_AROUND 8 /* slots read together: what left together is wanted together */

/* A page for the slot, in the cache and locked. Not resolved: no memory, or it is there already. */
static enum fault_result add_slot(struct fault *f, u64 slot)
{
	struct page *page;

	if (!alloc_own_page(f, 0))
		return FAULT_OOM;
	page = f->cow_page;
	page->flags = PG_ANON | PG_LOCKED;
	if (swap_cache_add_slot(page, slot))
		return FAULT_LOCKED;
	unlock_page(page);
	put_page(page);
	return FAULT_NOPAGE;
}

/*
 * Reads the slot into f->page, locked, and with it those behind it that are in use and not in
 * memory; these stay in the cache, until they are wanted or reclaimed.
 */
static enum fault_result read_slot(struct fault *f, u64 slot)
{
	struct page *pages[SWAP_AROUND];
	unsigned n = 1;
	enum fault_result ret = add_slot(f, slot);
	int err;

	if (ret != FAULT_LOCKED)
		return ret;
	pages[0] = f->page = f->cow_page;
	while (n < SWAP_AROUND && slot_wanted(slot + n) && add_slot(f, slot + n) == FAULT_LOCKED)
		pages[n++] = f->cow_page;
	f->major = true;
	err = swap_read(pages, n);
	for (unsigned i = 0; i < n; i++) {
		if (!err)
			__atomic_fetch_or(&pages[i]->flags, PG_UPTODATE, __ATOMIC_RELAXED);
		if (!i)
			continue;
		/* One that could not be read is forgotten: who wants it asks again. */
		swap_cache_drop(pages[i], err);
		lru_add(pages[i]);
		unlock_page(pages[i]);
		put_page(pages[i]);
	}
	return FAULT_LOCKED;
}

static enum fault_result find_slot(struct fault *f, u64 slot)
{
	f->page = swap_cache_get(slot);
	return f->page ? lock_page_or_retry(f, f->page) : read_slot(f, slot);
}

/*
 * The entry becomes the page's, with the caller's reference. The slot has an entry less; if it was
 * the last, the page is nobody else's and writable if the mapping is.
 */
static bool install_swapped(struct fault *f, u64 slot)
{
	struct vma *vma = f->req->vma;
	struct mm *mm = vma->mm;
	struct page *page = f->page;
	bool same;

	spin_lock(&mm->table_lock);
	same = *f->ptep == f->orig_pte;
	if (same) {
		pte_t pte = page_phys(page) | vma_pte_flags(vma) | PTE_DIRTY;

		page->anon_vma = vma->anon_vma;
		page->index = f->req->pgoff;
		mm->rss[RSS_SWAP]--;
		swap_put(slot);
		swap_cache_drop(page, false);
		if (page->refcount == 1)
			pte = vma_mkwrite(pte, vma);
		page_add_mapping(mm, page);
		set_pte(f->ptep, pte);
	}
	spin_unlock(&mm->table_lock);
	return same;
}

enum fault_result do_swap_page(struct fault *f)
{
	u64 slot = pte_slot(f->orig_pte);
	enum fault_result ret;
	bool installed = false;

	f->kind = FC_raced;
	ret = find_slot(f, slot);
	if (ret != FAULT_LOCKED)
		return ret;
	ret = FAULT_RESOLVED;
	/* Still the slot's? Then its contents cannot change while it is locked. */
	if (likely((f->page->flags & PG_SWAPCACHE) && f->page->private == slot)) {
		if (unlikely(!(f->page->flags & PG_UPTODATE)))
			ret = FAULT_SIGBUS;
		else
			installed = install_swapped(f, slot);
	}
	if (installed)
		f->kind = f->major ? FC_swap_read : FC_swap_cached;
	else
		swap_cache_drop(f->page, false);
	lru_add(f->page);
	unlock_page(f->page);
	if (!installed)
		put_page(f->page);
	return ret;
}
