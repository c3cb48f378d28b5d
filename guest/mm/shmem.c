/*
 * Shared anonymous memory: an object that no filesystem has, whose holes are filled by the first
 * to touch them. Its pages stay until its last mapping goes: they are neither written anywhere nor
 * reclaimed.
 */
#include "guest/include/filemap.h"
#include "guest/include/hugetlb.h"
#include "guest/include/mm.h"

struct inode *shmem_create(u64 len)
{
	struct inode *inode = kzalloc(sizeof(*inode));

	if (!inode)
		return NULL;
	inode->mode = S_IFREG | 0777;
	inode->size = len;
	inode->refcount = 1;
	address_space_init(&inode->mapping, inode, NULL);
	return inode;
}

void shmem_free(struct inode *inode)
{
	hugetlb_unreserve((u64)inode->private);
	filemap_release(&inode->mapping);
	kfree(inode);
}

/* A zeroed page for a hole, in the object and locked; NULL without memory, or another was first. */
static struct page *fill_hole(struct address_space *as, u64 index)
{
	struct page *page = may_alloc_user_pages(1) ? alloc_page(GFP_ZERO) : NULL;

	if (!page)
		return NULL;
	page->flags = PG_UPTODATE | PG_LOCKED;
	get_page(page);
	if (filemap_add(as, page, index, 1))
		return page;
	unlock_page(page);
	put_page(page);
	put_page(page);
	return NULL;
}

static enum fault_result shmem_fault(struct fault *f)
{
	struct inode *inode = f->req->vma->inode;
	struct address_space *as = &inode->mapping;

	if (f->req->pgoff >= inode->size >> PAGE_SHIFT)
		return FAULT_SIGBUS;
	f->page = find_get_page(as, f->req->pgoff);
	if (!f->page)
		f->page = fill_hole(as, f->req->pgoff);
	else
		lock_page(f->page); /* held only while an entry is set */
	if (f->page)
		return FAULT_LOCKED;
	f->page = find_get_page(as, f->req->pgoff);
	if (!f->page)
		return FAULT_OOM;
	lock_page(f->page);
	return FAULT_LOCKED;
}

const struct vm_ops shmem_vm_ops = {
    .name = "shmem",
    .fault = shmem_fault,
    .map_pages = filemap_map_pages,
};
