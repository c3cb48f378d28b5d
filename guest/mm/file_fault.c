/* The fault operations of file mappings: through the page cache, and of persistent memory. */
#include "guest/include/errno.h"
#include "guest/include/mm.h"
#include "guest/include/string.h"
#include "guest/include/swap.h"

static u64 file_pages(const struct inode *inode)
{
	return (inode->size + PAGE_SIZE - 1) >> PAGE_SHIFT;
}

/*
 * The page is being read. Whoever may retry waits without the address-space lock; the second
 * time round the page is there. Else waits with it.
 */
enum fault_result lock_page_or_retry(struct fault *f, struct page *page)
{
	unsigned flags = f->req->flags;

	if (trylock_page(page))
		return FAULT_LOCKED;
	if ((flags & FAULT_ALLOW_RETRY) && !(flags & FAULT_TRIED)) {
		up_read(&f->req->vma->mm->lock);
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
	if (unlikely(page->flags & PG_HWPOISON)) {
		unlock_page(page);
		put_page(page);
		return FAULT_HWPOISON;
	}
	f->page = page;
	return FAULT_LOCKED;
}

/* Of the pages at hand, those that fault-around may map: nothing to wait for, nothing to do. */
static bool mappable(const struct page *page)
{
	u32 flags = READ_ONCE(page->flags);

	return (flags & PG_UPTODATE) &&
	       !(flags & (PG_LOCKED | PG_READAHEAD | PG_ERROR | PG_HWPOISON));
}

unsigned filemap_map_pages(struct fault *f, u64 start, u64 end)
{
	struct vma *vma = f->req->vma;
	struct address_space *as = &vma->inode->mapping;
	u64 index = f->req->pgoff - ((f->req->page - start) >> PAGE_SHIFT);
	u64 last = MIN(index + ((end - start) >> PAGE_SHIFT), file_pages(vma->inode));
	pte_t *ptep = f->ptep - ((f->req->page - start) >> PAGE_SHIFT);
	pte_t flags = object_pte_flags(vma);
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
	struct inode *inode = f->req->vma->inode;
	int err;

	if (f->page->mapping != &inode->mapping)
		return -EIO;
	/* Part of it may be a hole: no block, no write. */
	err = inode->ops->allocate(inode, f->page->index, inode->size);
	if (!err)
		set_page_dirty(f->page);
	return err;
}

const struct vm_ops filemap_vm_ops = {
    .name = "file",
    .fault = filemap_fault,
    .map_pages = filemap_map_pages,
    .page_mkwrite = filemap_page_mkwrite,
};

/* --- persistent memory ----------------------------------------------------------------------- */

static enum fault_result dax_fault(struct fault *f)
{
	struct inode *inode = f->req->vma->inode;
	bool shared_write = (f->req->flags & FAULT_WRITE) && (f->req->vma->flags & VM_SHARED);
	u64 n;
	int err = inode->mapping.ops->dax_run(inode, f->req->pgoff, 1, &f->phys, &n);

	if (err == -ENOENT && shared_write) {
		err = inode->ops->allocate(inode, f->req->pgoff, inode->size);
		if (!err)
			err = inode->mapping.ops->dax_run(inode, f->req->pgoff, 1, &f->phys, &n);
		/* Who had it mapped as zeroes finds its place now. */
		unmap_mapping_range(&inode->mapping, f->req->pgoff, f->req->pgoff);
	} else if (err == -ENOENT) {
		/* A hole reads as zero. */
		f->phys = page_phys(zero_page);
		err = 0;
	}
	return err ? FAULT_SIGBUS : FAULT_DIRECT;
}

static unsigned map_run(struct mm *mm, pte_t *ptep, u64 n, pte_t pte)
{
	unsigned mapped = 0;

	spin_lock(&mm->table_lock);
	for (; n--; ptep++, pte += PAGE_SIZE) {
		if (*ptep)
			continue;
		set_pte(ptep, pte);
		mapped++;
	}
	spin_unlock(&mm->table_lock);
	return mapped;
}

static unsigned dax_map_pages(struct fault *f, u64 start, u64 end)
{
	const struct vma *vma = f->req->vma;
	struct inode *inode = vma->inode;
	u64 index = f->req->pgoff - ((f->req->page - start) >> PAGE_SHIFT);
	u64 last = index + ((end - start) >> PAGE_SHIFT);
	pte_t *ptep = f->ptep - ((f->req->page - start) >> PAGE_SHIFT);
	pte_t flags = vma_pte_flags(vma) | PTE_SPECIAL;
	unsigned mapped = 0;
	u64 phys, n;

	/* The file's block map may have to be read, so each run is found first, then mapped. */
	for (; index < last; index += n, ptep += n) {
		int err = inode->mapping.ops->dax_run(inode, index, last - index, &phys, &n);

		if (err && err != -ENOENT)
			break;
		if (!err)
			mapped += map_run(vma->mm, ptep, n, phys | flags);
	}
	return mapped;
}

static int dax_page_mkwrite(struct fault *f)
{
	struct inode *inode = f->req->vma->inode;
	int err = 0;

	/* Mapped as zeroes: it gets its place, and the access faults again. */
	if (f->phys == page_phys(zero_page)) {
		err = inode->ops->allocate(inode, f->req->pgoff, inode->size);
		unmap_mapping_range(&inode->mapping, f->req->pgoff, f->req->pgoff);
	}
	inode->mapping.dax_dirty = true;
	return err;
}

const struct vm_ops dax_vm_ops = {
    .name = "dax",
    .fault = dax_fault,
    .map_pages = dax_map_pages,
    .page_mkwrite = dax_page_mkwrite,
};
