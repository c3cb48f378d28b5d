/*
 * Mappings of pages from the pool; hugetlb.h.
 *
 *   entry      access                         handler              counted as
 *   ------------------------------------------------------------------------------------
 *   none       private, any                   hugetlb_no_page      hugetlb_page
 *              shared, any                    hugetlb_shared_page  hugetlb_page
 *   read-only  write, sole user               hugetlb_wp           hugetlb_reuse
 *              write, page a fork shares      hugetlb_wp           hugetlb_copy
 *              the same, and the pool empty   hugetlb_wp: who reserved takes it (hugetlb_reuse)
 *   grants it  any                            hugetlb_fault        spurious
 *   any        the pool is empty              SIGBUS
 */
#include "guest/include/hugetlb.h"
#include "guest/include/errno.h"
#include "guest/include/filemap.h"
#include "guest/include/huge.h"
#include "guest/include/string.h"

const struct vm_ops hugetlb_vm_ops = {.name = "hugetlb"};

static struct {
	struct spinlock lock;
	struct list pages;
	struct hugetlb_counts n; /* reserved: of those free */
} pool = {.pages = {&pool.pages, &pool.pages}};

/* --- the pool -------------------------------------------------------------------------------- */

struct hugetlb_counts hugetlb_counts(void)
{
	struct hugetlb_counts n;

	spin_lock(&pool.lock);
	n = pool.n;
	spin_unlock(&pool.lock);
	return n;
}

void hugetlb_page_free(struct page *page)
{
	page->flags = PG_HUGETLB;
	page->mapping = NULL;
	spin_lock(&pool.lock);
	list_add(&page->lru, &pool.pages);
	pool.n.free++;
	spin_unlock(&pool.lock);
}

u64 hugetlb_init(u64 pages)
{
	struct page *page;

	for (; pool.n.total < pages && (page = alloc_pages(MAX_ORDER, 0)); pool.n.total++) {
		page->refcount = 0;
		hugetlb_page_free(page);
	}
	return pool.n.total;
}

bool hugetlb_reserve(u64 pages)
{
	bool there;

	spin_lock(&pool.lock);
	there = pool.n.free >= pool.n.reserved + pages;
	pool.n.reserved += there ? pages : 0;
	spin_unlock(&pool.lock);
	return there;
}

void hugetlb_unreserve(u64 pages)
{
	spin_lock(&pool.lock);
	pool.n.reserved -= pages;
	spin_unlock(&pool.lock);
}

/* One that is reserved, or nobody's; NULL: there is none. */
static struct page *take_page(bool reserved)
{
	struct page *page = NULL;

	spin_lock(&pool.lock);
	if (pool.n.free && (reserved || pool.n.free > pool.n.reserved)) {
		page = list_entry(pool.pages.next, struct page, lru);
		list_del(&page->lru);
		pool.n.free--;
		pool.n.reserved -= reserved;
	}
	spin_unlock(&pool.lock);
	if (page)
		page->refcount = 1;
	return page;
}

/* Of pages that come back in a moment: nobody else is to have them. */
static void promise(u64 pages)
{
	spin_lock(&pool.lock);
	pool.n.reserved += pages;
	spin_unlock(&pool.lock);
}

/* It was not used: back it goes, with its reservation. */
static void return_page(struct page *page, bool reserved)
{
	promise(reserved);
	put_page(page);
}

/* --- reservations of private mappings -------------------------------------------------------- */

static bool reserves(const struct vma *vma)
{
	return !(vma->flags & (VM_SHARED | VM_NORESERVE));
}

static u64 absent(const struct vma *vma)
{
	u64 n = (vma->end - vma->start) >> PMD_SHIFT;

	for (u64 addr = vma->start; pmd_next_huge(&vma->mm->pt, &addr, vma->end); addr += PMD_SIZE)
		n--;
	return n;
}

bool zap_hugetlb_range(struct vma *vma, u64 start, u64 end)
{
	struct mm *mm = vma->mm;
	const bool reserving = reserves(vma);
	u64 back = 0, lost = 0;
	pte_t *pmd;

	for (u64 addr = start; (pmd = pmd_next_huge(&mm->pt, &addr, end)); addr += PMD_SIZE) {
		bool sole = page_is_sole(vm_normal_page(*pmd));

		back += sole;
		lost += !sole;
		promise(reserving && sole);
		huge_clear(mm, pmd);
	}
	/* A fork still has some of it, so not all can be promised for the next time. */
	if (reserving && lost) {
		hugetlb_unreserve(absent(vma) - lost);
		vma->flags |= VM_NORESERVE;
	}
	return back + lost;
}

void hugetlb_close(const struct vma *vma)
{
	if ((vma->flags & VM_HUGETLB) && reserves(vma))
		hugetlb_unreserve((vma->end - vma->start) >> PMD_SHIFT);
}

/* --- faults ---------------------------------------------------------------------------------- */

static void clear_all(struct page *page)
{
	for (u64 i = 0; i < HUGE_PAGES; i++)
		clear_page(page_kva(page + i));
}

/* The entry is set if it is as it was, and takes the reference; false: another was first. */
static bool install(struct fault *f, struct page *page, pte_t pte)
{
	struct mm *mm = f->req->vma->mm;
	const u64 haddr = f->req->page & PMD_MASK;
	bool same;

	spin_lock(&mm->table_lock);
	same = *f->ptep == f->orig_pte;
	if (same && f->orig_pte) {
		huge_clear(mm, f->ptep);
		flush_tlb_range(mm, haddr, haddr + PMD_SIZE);
	}
	if (same)
		huge_set(mm, f->ptep, page, pte);
	else
		f->kind = FC_raced;
	spin_unlock(&mm->table_lock);
	return same;
}

static void make_private(struct fault *f, struct page *page)
{
	const struct vma *vma = f->req->vma;

	page->flags = PG_HUGETLB | PG_ANON | PG_UPTODATE;
	page->anon_vma = vma->anon_vma;
	page->index = vma->pgoff + (((f->req->page & PMD_MASK) - vma->start) >> PAGE_SHIFT);
}

static enum fault_result hugetlb_no_page(struct fault *f)
{
	struct vma *vma = f->req->vma;
	const bool reserved = reserves(vma), write = f->req->flags & FAULT_WRITE;
	pte_t pte = vma_pte_flags(vma) | (write ? PTE_WRITE | PTE_DIRTY : 0);
	struct page *page;

	if (!anon_vma_prepare(vma))
		return FAULT_OOM;
	page = take_page(reserved);
	if (!page)
		return FAULT_SIGBUS;
	f->kind = FC_hugetlb_page;
	clear_all(page);
	make_private(f, page);
	if (!install(f, page, page_phys(page) | pte))
		return_page(page, reserved);
	return FAULT_RESOLVED;
}

/* The object's page, made if it has none, with a reference; NULL: there is none to be had. */
static struct page *object_page(struct inode *inode, u64 index, bool reserved)
{
	struct page *page = find_get_page(&inode->mapping, index);

	if (page)
		return page;
	page = take_page(reserved);
	if (!page)
		return NULL;
	clear_all(page);
	page->flags = PG_HUGETLB | PG_UPTODATE;
	get_page(page);
	if (filemap_add(&inode->mapping, page, index, 1) == 1) {
		inode->private = (void *)((u64)inode->private - reserved);
		return page;
	}
	put_page(page);
	return_page(page, reserved);
	return find_get_page(&inode->mapping, index);
}

static enum fault_result hugetlb_shared_page(struct fault *f)
{
	const struct vma *vma = f->req->vma;
	pte_t pte = vma_mkwrite(vma_pte_flags(vma) | PTE_DIRTY, vma);
	u64 index = f->req->pgoff - ((f->req->page & ~PMD_MASK) >> PAGE_SHIFT);
	struct page *page = object_page(vma->inode, index, !(vma->flags & VM_NORESERVE));

	if (!page)
		return FAULT_SIGBUS;
	f->kind = FC_hugetlb_page;
	if (!install(f, page, page_phys(page) | pte))
		put_page(page);
	return FAULT_RESOLVED;
}

/* The last user's entry becomes writable. */
static bool reuse(struct fault *f, struct page *page)
{
	struct mm *mm = f->req->vma->mm;
	const u64 haddr = f->req->page & PMD_MASK;
	bool done = true;

	f->kind = FC_hugetlb_reuse;
	spin_lock(&mm->table_lock);
	if (*f->ptep != f->orig_pte) {
		f->kind = FC_raced;
	} else if (page_is_sole(page)) {
		set_pte(f->ptep, f->orig_pte | PTE_WRITE | PTE_DIRTY | PTE_ACCESSED);
		flush_tlb_range(mm, haddr, haddr + PMD_SIZE);
	} else {
		done = false;
	}
	spin_unlock(&mm->table_lock);
	return done;
}

/* A child's entry of what its parent reserved. */
static bool take_from_child(struct vma *vma, u64 addr, pte_t *entry)
{
	if (!(vma->flags & VM_NORESERVE))
		return false;
	huge_clear(vma->mm, entry);
	flush_tlb_range(vma->mm, addr, addr + PMD_SIZE);
	return true;
}

static enum fault_result hugetlb_wp(struct fault *f)
{
	struct vma *vma = f->req->vma;
	struct page *old = vm_normal_page(f->orig_pte), *page;

	if (reuse(f, old))
		return FAULT_RESOLVED;
	page = take_page(false);
	/* Who reserved must not fail: those who did not lose the page instead. */
	if (!page && reserves(vma)) {
		rmap_walk(old, take_from_child);
		return reuse(f, old) ? FAULT_RESOLVED : FAULT_SIGBUS;
	}
	if (!page)
		return FAULT_SIGBUS;
	f->kind = FC_hugetlb_copy;
	for (u64 i = 0; i < HUGE_PAGES; i++)
		copy_page(page_kva(page + i), page_kva(old + i));
	make_private(f, page);
	if (!install(f, page, page_phys(page) | vma_pte_flags(vma) | PTE_WRITE | PTE_DIRTY))
		put_page(page);
	return FAULT_RESOLVED;
}

enum fault_result hugetlb_fault(struct fault *f)
{
	struct vma *vma = f->req->vma;
	bool write = f->req->flags & FAULT_WRITE;

	spin_lock(&vma->mm->table_lock);
	f->ptep = pmd_alloc_huge(&vma->mm->pt, f->req->page);
	f->orig_pte = f->ptep ? *f->ptep : 0;
	spin_unlock(&vma->mm->table_lock);
	if (!f->ptep)
		return FAULT_OOM;
	if (!f->orig_pte)
		return vma->flags & VM_SHARED ? hugetlb_shared_page(f) : hugetlb_no_page(f);
	return write && !(f->orig_pte & PTE_WRITE) ? hugetlb_wp(f) : huge_pmd_set_accessed(f);
}
