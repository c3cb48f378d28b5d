/*
 * The fault path from the address-space lock down: handle_mm_fault picks the case, one function
 * handles each. Structure and names follow Linux's mm/memory.c.
 *
 *   entry      access                         handler              counted as
 *   ------------------------------------------------------------------------------------
 *   none       anonymous, read                do_anonymous_page    anon_zero
 *              anonymous, write               do_anonymous_page    anon_page
 *              file, read                     do_read_fault        file_read, file_around
 *                                                                  dax_read
 *              private file, write            do_cow_fault         file_cow, dax_cow
 *              shared file, write             do_shared_fault      file_shared, dax_shared
 *   swapped    any                            do_swap_page         swap_read, swap_cached
 *   read-only  write, own page, sole user     do_wp_page           wp_reuse
 *              write, zero page               do_wp_page           wp_zero
 *              write, page others use         do_wp_page           wp_copy
 *              write, shared file             do_wp_page           wp_shared
 *   grants it  any                            handle_pte_fault     spurious
 *   no rights  any, where the mapping has some  do_numa_page       numa_hint
 *   lost       any                            handle_pte_fault     event hwpoison
 *   2 MiB      any                            huge_memory.c, hugetlb.c have their own tables
 *
 * A case may find that another thread was first: its entry stays, what was prepared is freed, and
 * the fault counts as raced.
 */
#include "guest/include/errno.h"
#include "guest/include/huge.h"
#include "guest/include/hugetlb.h"
#include "guest/include/printk.h"
#include "guest/include/smp_lock.h"
#include "guest/include/string.h"
#include "guest/include/swap.h"

#define FAULT_AROUND (16 * PAGE_SIZE) /* a power of two, at most a page table's reach */

struct page *zero_page;

pte_t vma_pte_flags(const struct vma *vma)
{
	pte_t flags = PTE_PRESENT | PTE_USER | PTE_ACCESSED;

	if (!(vma->flags & VM_ACCESS))
		return PTE_PROTNONE | PTE_ACCESSED;
	return vma->flags & VM_EXEC ? flags : flags | PTE_NX;
}

pte_t object_pte_flags(const struct vma *vma)
{
	const unsigned both = VM_SHARED | VM_WRITE;
	bool at_once = (vma->flags & both) == both && !vma->ops->page_mkwrite;

	return vma_pte_flags(vma) | (at_once ? PTE_WRITE | PTE_DIRTY : 0);
}

static pte_t mk_pte(const struct page *page, pte_t flags)
{
	return page_phys(page) | flags;
}

static bool is_write(const struct fault *f)
{
	return f->req->flags & FAULT_WRITE;
}

/*
 * Sets the entry if it is still what the case was chosen by, taking over the caller's reference
 * to page (NULL for frames without). False if another was first.
 */
static bool install_pte(struct fault *f, struct page *page, pte_t pte)
{
	struct vma *vma = f->req->vma;
	struct mm *mm = vma->mm;
	struct page *old;

	spin_lock(&mm->table_lock);
	if (*f->ptep != f->orig_pte) {
		spin_unlock(&mm->table_lock);
		f->kind = FC_raced;
		return false;
	}
	if (page)
		page_add_mapping(mm, page);
	/* Reclaim finds it from now on, and waits here until its entry is there. */
	if (page && page == f->cow_page)
		lru_add(page);
	old = vm_normal_page(f->orig_pte);
	/* Nobody has the new page while another CPU has the old one. */
	if (pte_present(f->orig_pte)) {
		set_pte(f->ptep, 0);
		flush_tlb_page(mm, f->req->page);
	}
	set_pte(f->ptep, pte);
	if (old && old != page)
		page_remove_mapping(mm, old);
	spin_unlock(&mm->table_lock);
	return true;
}

bool alloc_own_page(struct fault *f, unsigned gfp)
{
	struct vma *vma = f->req->vma;

	if (!may_alloc_user_pages(1) || !anon_vma_prepare(vma) || !group_charge(vma->mm->group))
		return false;
	f->cow_page = alloc_page(gfp);
	if (!f->cow_page) {
		group_uncharge(vma->mm->group, 1);
		return false;
	}
	f->cow_page->flags = PG_ANON | PG_UPTODATE;
	f->cow_page->anon_vma = vma->anon_vma;
	f->cow_page->index = f->req->pgoff;
	f->cow_page->group = vma->mm->group;
	return true;
}

/* f->cow_page goes in, writable if the mapping is. */
static enum fault_result install_own_page(struct fault *f)
{
	struct vma *vma = f->req->vma;
	pte_t pte = mk_pte(f->cow_page, vma_pte_flags(vma) | PTE_DIRTY);

	if (!install_pte(f, f->cow_page, vma_mkwrite(pte, vma)))
		put_page(f->cow_page);
	return FAULT_RESOLVED;
}

static enum fault_result do_anonymous_page(struct fault *f)
{
	struct vma *vma = f->req->vma;

	if (!is_write(f)) {
		f->kind = FC_anon_zero;
		install_pte(f, NULL, mk_pte(zero_page, vma_pte_flags(vma) | PTE_SPECIAL));
		return FAULT_RESOLVED;
	}
	f->kind = FC_anon_page;
	if (!alloc_own_page(f, GFP_ZERO))
		return FAULT_OOM;
	return install_own_page(f);
}

/* Drops what the object's fault operation handed over. */
static void release_page(struct fault *f)
{
	if (!f->page)
		return;
	unlock_page(f->page);
	put_page(f->page);
}

/*
 * Maps pages that are at hand around the faulting one: an aligned window, clipped to the mapping
 * and the page table. True if the faulting entry is among them.
 */
static bool do_fault_around(struct fault *f)
{
	struct vma *vma = f->req->vma;
	u64 start = MAX(ALIGN_DOWN(f->req->page, FAULT_AROUND), vma->start);
	u64 table_end = ALIGN_DOWN(start, PMD_SIZE) + PMD_SIZE;
	u64 end = MIN(MIN(start + FAULT_AROUND, vma->end), table_end);
	unsigned mapped = vma->ops->map_pages(f, start, end);
	bool done = pte_present(READ_ONCE(*f->ptep));

	fault_counters.around_pages += mapped - (mapped && done);
	return done;
}

/*
 * The object's own page or frame goes in. A page stays locked until the entry is set, so that it
 * can neither be cleaned nor leave its file in between; the entry takes over its reference.
 */
static void install_object_page(struct fault *f, pte_t flags)
{
	struct page *page = f->page;
	pte_t pte = page ? mk_pte(page, flags) : f->phys | flags | PTE_SPECIAL;

	if (!install_pte(f, page, pte))
		release_page(f);
	else if (page)
		unlock_page(page);
}

static enum fault_result do_read_fault(struct fault *f)
{
	const struct vma *vma = f->req->vma;
	enum fault_result ret;

	f->kind = vma->inode->dax ? FC_dax_read : FC_file_around;
	if (do_fault_around(f))
		return FAULT_RESOLVED;
	ret = vma->ops->fault(f);
	if (ret != FAULT_LOCKED && ret != FAULT_DIRECT)
		return ret;
	if (ret == FAULT_LOCKED)
		f->kind = FC_file_read;
	install_object_page(f, object_pte_flags(vma));
	return FAULT_RESOLVED;
}

static enum fault_result do_cow_fault(struct fault *f)
{
	enum fault_result ret;

	/* First the own page: if there is none, nothing was read for it. */
	if (!alloc_own_page(f, 0))
		return FAULT_OOM;
	ret = f->req->vma->ops->fault(f);
	if (ret != FAULT_LOCKED && ret != FAULT_DIRECT) {
		put_page(f->cow_page);
		return ret;
	}
	f->kind = ret == FAULT_DIRECT ? FC_dax_cow : FC_file_cow;
	copy_page(page_kva(f->cow_page),
		  ret == FAULT_DIRECT ? phys_to_virt(f->phys) : page_kva(f->page));
	release_page(f);
	return install_own_page(f);
}

/* Before a shared page becomes writable; -> FAULT_RESOLVED or why it must not. */
static enum fault_result call_page_mkwrite(struct fault *f)
{
	const struct vm_ops *ops = f->req->vma->ops;

	return ops->page_mkwrite && ops->page_mkwrite(f) ? FAULT_SIGBUS : FAULT_RESOLVED;
}

static enum fault_result do_shared_fault(struct fault *f)
{
	enum fault_result ret = f->req->vma->ops->fault(f);

	if (ret != FAULT_LOCKED && ret != FAULT_DIRECT)
		return ret;
	f->kind = ret == FAULT_DIRECT ? FC_dax_shared : FC_file_shared;
	ret = call_page_mkwrite(f);
	if (ret == FAULT_RESOLVED)
		install_object_page(f, vma_pte_flags(f->req->vma) | PTE_WRITE | PTE_DIRTY);
	else
		release_page(f);
	return ret;
}

/*
 * The entry loses its protection, if the mapping is not what protects it; nothing else changes. Of
 * an own page only if it is nobody else's; false: it is not.
 */
static bool wp_make_writable(struct fault *f, struct page *own)
{
	struct mm *mm = f->req->vma->mm;
	bool shared = false;

	spin_lock(&mm->table_lock);
	if (*f->ptep == f->orig_pte && own && !page_is_sole(own)) {
		shared = true;
	} else if (*f->ptep == f->orig_pte) {
		set_pte(f->ptep, vma_mkwrite(f->orig_pte | PTE_DIRTY | PTE_ACCESSED, f->req->vma));
		invlpg(f->req->page);
	} else {
		f->kind = FC_raced;
	}
	spin_unlock(&mm->table_lock);
	return !shared;
}

/* A reference to what the entry maps; false if it does so no more. */
static bool get_old_page(struct fault *f, struct page *old)
{
	struct mm *mm = f->req->vma->mm;
	bool same;

	spin_lock(&mm->table_lock);
	same = *f->ptep == f->orig_pte;
	if (same)
		get_page(old);
	else
		f->kind = FC_raced;
	spin_unlock(&mm->table_lock);
	return same;
}

static enum fault_result wp_page_shared(struct fault *f, struct page *old)
{
	enum fault_result ret;

	f->kind = FC_wp_shared;
	f->page = old;
	f->phys = pte_phys(f->orig_pte);
	if (old && !get_old_page(f, old))
		return FAULT_RESOLVED;
	if (old)
		lock_page(old);
	ret = call_page_mkwrite(f);
	if (ret == FAULT_RESOLVED)
		wp_make_writable(f, NULL);
	release_page(f);
	return ret;
}

static enum fault_result wp_page_copy(struct fault *f, struct page *old)
{
	bool zero = pte_phys(f->orig_pte) == page_phys(zero_page);

	f->kind = zero ? FC_wp_zero : FC_wp_copy;
	if (!alloc_own_page(f, zero ? GFP_ZERO : 0))
		return FAULT_OOM;
	if (!zero) {
		if (old && !get_old_page(f, old)) {
			put_page(f->cow_page);
			return FAULT_RESOLVED;
		}
		copy_page(page_kva(f->cow_page), phys_to_virt(pte_phys(f->orig_pte)));
		if (old)
			put_page(old);
	}
	return install_own_page(f);
}

static enum fault_result do_wp_page(struct fault *f)
{
	struct page *old = vm_normal_page(f->orig_pte);

	if (f->req->vma->flags & VM_SHARED)
		return wp_page_shared(f, old);
	f->kind = FC_wp_reuse;
	if (old && (old->flags & PG_ANON) && wp_make_writable(f, old))
		return FAULT_RESOLVED;
	return wp_page_copy(f, old);
}

static enum fault_result do_fault(struct fault *f)
{
	if (!is_write(f))
		return do_read_fault(f);
	return f->req->vma->flags & VM_SHARED ? do_shared_fault(f) : do_cow_fault(f);
}

/* The entry in the lowest table, made if there is none. */
static enum fault_result find_entry(struct fault *f)
{
	struct mm *mm = f->req->vma->mm;
	const pte_t *pmd;

	spin_lock(&mm->table_lock);
	f->ptep = pte_alloc(&mm->pt, f->req->page);
	pmd = f->ptep ? NULL : pmd_find(&mm->pt, f->req->page);
	spin_unlock(&mm->table_lock);
	if (f->ptep) {
		f->orig_pte = READ_ONCE(*f->ptep);
		return FAULT_RESOLVED;
	}
	/* Another's 2 MiB were faster: the access finds them. */
	f->kind = FC_raced;
	return pmd && pmd_is_huge(*pmd) ? FAULT_NOPAGE : FAULT_OOM;
}

/* What a file or the swap area has a part in is one CPU's at a time. */
static bool needs_kernel_lock(const struct fault *f)
{
	const struct vma *vma = f->req->vma;

	return pte_is_swap(f->orig_pte) || (vma->ops && !pte_present(f->orig_pte)) ||
	       vma->flags & VM_SHARED;
}

static enum fault_result handle_pte_fault(struct fault *f)
{
	struct mm *mm = f->req->vma->mm;

	if (pte_is_swap(f->orig_pte))
		return do_swap_page(f);
	if (unlikely(f->orig_pte == PTE_POISON))
		return FAULT_HWPOISON;
	if (!pte_present(f->orig_pte))
		return f->req->vma->ops ? do_fault(f) : do_anonymous_page(f);
	if (unlikely(is_numa_hint(f->req->vma, f->orig_pte)))
		return do_numa_page(f);
	if (is_write(f) && !(f->orig_pte & PTE_WRITE))
		return do_wp_page(f);
	f->kind = FC_spurious;
	spin_lock(&mm->table_lock);
	if (*f->ptep == f->orig_pte)
		set_pte(f->ptep, f->orig_pte | PTE_ACCESSED | (is_write(f) ? PTE_DIRTY : 0));
	invlpg(f->req->page);
	spin_unlock(&mm->table_lock);
	return FAULT_RESOLVED;
}

static enum fault_result handle_small_fault(struct fault *f)
{
	enum fault_result ret = find_entry(f);

	if (ret != FAULT_RESOLVED)
		return ret;
	if (!needs_kernel_lock(f))
		return handle_pte_fault(f);
	lock_kernel();
	ret = handle_pte_fault(f);
	unlock_kernel();
	return ret;
}

/* FAULT_FALLBACK: 2 MiB have no part in it. */
static enum fault_result handle_huge_fault(struct fault *f)
{
	struct vma *vma = f->req->vma;
	enum fault_result ret;

	if (!(vma->flags & VM_HUGETLB) && !vma->mm->pt.nr_huge && !huge_allowed(vma, f->req->page))
		return FAULT_FALLBACK;
	lock_kernel();
	ret = vma->flags & VM_HUGETLB ? hugetlb_fault(f) : do_huge_fault(f);
	unlock_kernel();
	return ret;
}

enum fault_result handle_mm_fault(struct vma *vma, u64 address, unsigned flags, bool *major)
{
	const struct fault_request req = {
	    .vma = vma,
	    .address = address,
	    .page = address & PAGE_MASK,
	    .pgoff = vma->pgoff + ((address - vma->start) >> PAGE_SHIFT),
	    .flags = flags,
	};
	struct fault f = {.req = &req};
	enum fault_result ret;

	ret = handle_huge_fault(&f);
	if (ret == FAULT_FALLBACK)
		ret = handle_small_fault(&f);
	*major |= f.major;
	if (ret == FAULT_NOPAGE)
		ret = FAULT_RESOLVED;
	if (ret == FAULT_RESOLVED)
		fault_counters.cases[f.kind]++;
	return ret;
}

void memory_init(void)
{
	filemap_init();
	zero_page = alloc_page(GFP_ZERO);
	if (!zero_page)
		panic("no memory for the zero page");
	zero_page->flags = PG_RESERVED | PG_UPTODATE;
}
