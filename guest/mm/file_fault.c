/* The fault operations of file mappings: through the page cache, and of persistent memory. */
#include "guest/include/errno.h"
#include "guest/include/mm.h"
#include "guest/include/string.h"

static u64 file_pages(const struct inode *inode)
{
	return (inode->size + PAGE_SIZE - 1) >> PAGE_SHIFT;
}

/*
 * The page is being read. Whoever may retry waits without the address-space lock; the second
 * time round the page is there. Else waits with it.
 */
static enum fault_result lock_page_or_retry(struct fault *f, struct page *page)
{
	unsigned flags = f->req->flags;

	if (trylock_page(page))
		return FAULT_LOCKED;
	if ((flags & FAULT_ALLOW_RETRY) && !(flags & FAULT_TRIED)) {
		mutex_unlock(&f->req->vma->mm->lock);
		wait_on_page_locked(page);
		put_page(page);
		return FAULT_RETRY;
	}
	lock_page(page);
	return FAULT_LOCKED;
}

static enum fault_result filemap_fault(struct fault *f)
{
	struct vma *vma = f->req->vma;
	struct inode *inode = vma->inode;
	struct address_space *as = &inode->mapping;
	u64 index = f->req->pgoff;
	enum fault_result ret;
	struct page *page;

	if (index >= file_pages(inode))
		return FAULT_SIGBUS;
	page = find_get_page(as, index);
	if (!page) {
		f->major = true;
		sync_readahead(as, &vma->ra, index, vma->flags);
		page = find_get_page(as, index);
		if (!page)
			return FAULT_OOM;
	} else {
		if (vma->ra.misses)
			vma->ra.misses--;
		if (page->flags & PG_READAHEAD && !(vma->flags & VM_RAND_READ))
			async_readahead(as, &vma->ra, page);
	}
	ret = lock_page_or_retry(f, page);
	if (ret != FAULT_LOCKED)
		return ret;
	if (unlikely(!(page->flags & PG_UPTODATE))) {
		/* Readahead failed on it: read again and say so. */
		int err;

		unlock_page(page);
		put_page(page);
		f->major = true;
		err = read_cache_page(as, index, &page);
		if (err)
			return err == -ENOMEM ? FAULT_OOM : FAULT_SIGBUS;
		lock_page(page);
	}
	/* Still this file's, still inside it? */
	if (unlikely(page->mapping != as || index >= file_pages(inode))) {
		unlock_page(page);
		put_page(page);
		return FAULT_SIGBUS;
	}
	f->page = page;
	return FAULT_LOCKED;
}

/* Of the pages at hand, those that fault-around may map: nothing to wait for, nothing to do. */
static bool mappable(const struct page *page)
{
	u32 flags = READ_ONCE(page->flags);

	return (flags & PG_UPTODATE) && !(flags & (PG_LOCKED | PG_READAHEAD | PG_ERROR));
}

static unsigned filemap_map_pages(struct fault *f, u64 start, u64 end)
{
	struct vma *vma = f->req->vma;
	struct address_space *as = &vma->inode->mapping;
	u64 index = f->req->pgoff - ((f->req->page - start) >> PAGE_SHIFT);
	u64 last = MIN(index + ((end - start) >> PAGE_SHIFT), file_pages(vma->inode));
	pte_t *ptep = f->ptep - ((f->req->page - start) >> PAGE_SHIFT);
	pte_t flags = vma_pte_flags(vma);
	unsigned mapped = 0;
	u64 n, irq;

	spin_lock(&vma->mm->table_lock);
	irq = spin_lock_irqsave(&as->lock);
	for (; index < last; index += n, ptep += n) {
		struct page **slots = filemap_slots(as, index, last - index, &n);

		for (u64 i = 0; slots && i < n; i++) {
			struct page *page = slots[i];

			if (!page || ptep[i] || !mappable(page))
				continue;
			get_page(page);
			__atomic_fetch_add(&page->mapcount, 1, __ATOMIC_RELAXED);
			set_pte(&ptep[i], page_phys(page) | flags);
			mapped++;
		}
	}
	vma->mm->rss[RSS_FILE] += mapped;
	spin_unlock_irqrestore(&as->lock, irq);
	spin_unlock(&vma->mm->table_lock);
	return mapped;
}

static int filemap_page_mkwrite(struct fault *f)
{
	if (f->page->mapping != &f->req->vma->inode->mapping)
		return -EIO;
	set_page_dirty(f->page);
	return 0;
}

const struct vm_ops filemap_vm_ops = {
    .name = "file",
    .fault = filemap_fault,
    .map_pages = filemap_map_pages,
    .page_mkwrite = filemap_page_mkwrite,
};

#define DAX_AROUND 16UL

/* --- persistent memory ----------------------------------------------------------------------- */

static enum fault_result dax_fault(struct fault *f)
{
	struct inode *inode = f->req->vma->inode;
	int err;

	if (f->req->pgoff >= file_pages(inode))
		return FAULT_SIGBUS;
	err = inode->mapping.ops->dax_pfn(inode, f->req->pgoff, &f->phys);
	if (err == -ENOENT && !(f->req->flags & FAULT_WRITE)) {
		/* A hole reads as zero. */
		f->phys = page_phys(zero_page);
		err = 0;
	}
	return err ? FAULT_SIGBUS : FAULT_DIRECT;
}

static unsigned dax_map_pages(struct fault *f, u64 start, u64 end)
{
	struct vma *vma = f->req->vma;
	struct inode *inode = vma->inode;
	u64 index = f->req->pgoff - ((f->req->page - start) >> PAGE_SHIFT);
	pte_t *ptep = f->ptep - ((f->req->page - start) >> PAGE_SHIFT);
	pte_t flags = vma_pte_flags(vma) | PTE_SPECIAL;
	u64 phys[DAX_AROUND];
	unsigned n, mapped = 0;

	/* The file's block map may have to be read: find the frames first, then lock. */
	for (n = 0; n < MIN((end - start) >> PAGE_SHIFT, DAX_AROUND); n++)
		if (index + n >= file_pages(inode) ||
		    inode->mapping.ops->dax_pfn(inode, index + n, &phys[n]))
			phys[n] = 0;
	spin_lock(&vma->mm->table_lock);
	for (unsigned i = 0; i < n; i++) {
		if (ptep[i] || !phys[i])
			continue;
		set_pte(&ptep[i], phys[i] | flags);
		mapped++;
	}
	spin_unlock(&vma->mm->table_lock);
	return mapped;
}

static int dax_page_mkwrite(struct fault *f)
{
	if (f->phys == page_phys(zero_page))
		return -ENOSPC;
	f->req->vma->inode->mapping.dax_dirty = true;
	return 0;
}

const struct vm_ops dax_vm_ops = {
    .name = "dax",
    .fault = dax_fault,
    .map_pages = dax_map_pages,
    .page_mkwrite = dax_page_mkwrite,
};
