/*
 * Faults on own memory by 2 MiB, and what becomes of such an entry. Names follow Linux's
 * mm/huge_memory.c.
 *
 *   entry      access                         handler              counted as
 *   ------------------------------------------------------------------------------------
 *   none       read                           huge_read            huge_zero
 *              write                          huge_write           huge_page
 *   read-only  write, sole user               do_huge_wp           huge_reuse
 *              write, the zero page           huge_write           huge_page
 *              write, page others use         do_huge_wp: split, then in the lowest table
 *   grants it  any                            huge_pmd_set_accessed  spurious
 *   no rights  any                            do_numa_page         numa_hint
 *   none       no 2 MiB to be had             in the lowest table; event thp_fallback
 */
#include "guest/include/errno.h"
#include "guest/include/huge.h"
#include "guest/include/swap.h"

enum thp_mode thp_mode;

static u64 live; /* pages of 2 MiB */

u64 nr_huge_pages(void)
{
	return live;
}

/* --- pages ----------------------------------------------------------------------------------- */

struct page *huge_page_alloc(struct vma *vma, u64 haddr, unsigned gfp)
{
	struct mem_group *group = vma->mm->group;
	struct page *page;

	/* Nothing is reclaimed for it: single pages do as well. */
	if (!may_alloc_user_pages(HUGE_PAGES) || !anon_vma_prepare(vma) ||
	    !group_try_charge(group, HUGE_PAGES))
		return NULL;
	page = alloc_pages(MAX_ORDER, gfp);
	if (!page) {
		group_uncharge(group, HUGE_PAGES);
		return NULL;
	}
	page->flags = PG_ANON | PG_UPTODATE;
	page->anon_vma = vma->anon_vma;
	page->index = vma->pgoff + ((haddr - vma->start) >> PAGE_SHIFT);
	page->group = group;
	__atomic_fetch_add(&live, 1, __ATOMIC_RELAXED);
	return page;
}

void huge_page_gone(void)
{
	__atomic_fetch_sub(&live, 1, __ATOMIC_RELAXED);
}

/* --- entries; table_lock held ---------------------------------------------------------------- */

/* The pool's do not count, as on Linux. */
static u64 rss_pages(const struct page *page)
{
	return page->flags & PG_HUGETLB ? 0 : HUGE_PAGES;
}

void huge_set(struct mm *mm, pte_t *pmd, struct page *page, pte_t pte)
{
	pmd_set_huge(&mm->pt, pmd, pte);
	if (!page)
		return;
	__atomic_fetch_add(&page->mapcount, 1, __ATOMIC_RELAXED);
	mm->rss[RSS_ANON] += rss_pages(page);
}

void huge_clear(struct mm *mm, pte_t *pmd)
{
	struct page *page = vm_normal_page(*pmd);

	pmd_clear_huge(&mm->pt, pmd);
	/* Other CPUs forget it before it can be another's. */
	if (!mm_is_local(mm))
		flush_tlb_range(mm, 0, USER_END);
	if (!page) {
		huge_zero_put();
		return;
	}
	__atomic_fetch_sub(&page->mapcount, 1, __ATOMIC_RELAXED);
	mm->rss[RSS_ANON] -= rss_pages(page);
	put_page(page);
}

/* Nobody else has it: its frames are pages of their own from now on, each mapped once. */
static void split_sole_page(struct page *head)
{
	for (u64 i = 1; i < HUGE_PAGES; i++) {
		head[i] = (struct page){
		    .flags = PG_ANON | PG_UPTODATE,
		    .refcount = 1,
		    .mapcount = 1,
		    .anon_vma = head->anon_vma,
		    .index = head->index + i,
		    .group = head->group,
		};
		list_init(&head[i].lru);
	}
	lru_add_split(head);
	huge_page_gone();
	fault_counters.thp_split_page++;
}

/* Others have it, too: its frames are mapped one by one, and counted together. */
static void share_tails(struct page *head)
{
	static struct spinlock lock; /* who is first to share this one? */

	spin_lock(&lock);
	for (u64 i = 1; i < HUGE_PAGES && !(head->flags & PG_TAILS); i++)
		head[i] = (struct page){
		    .flags = PG_ANON | PG_UPTODATE | PG_TAIL,
		    .private = (u64)head,
		};
	__atomic_fetch_or(&head->flags, PG_TAILS, __ATOMIC_RELAXED);
	spin_unlock(&lock);
	for (u64 i = 1; i < HUGE_PAGES; i++)
		__atomic_fetch_add(&head[i].mapcount, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&head->refcount, (s32)HUGE_PAGES - 1, __ATOMIC_RELAXED);
}

/* The entry becomes 512 of the lowest table. refs: what the page has if this alone maps it. */
static void split_pmd(struct mm *mm, pte_t *pmd, u64 haddr, s32 refs)
{
	struct page *head = vm_normal_page(*pmd);
	pte_t pte = *pmd & ~(pte_t)PTE_HUGE, step = PAGE_SIZE, *table;

	pmd_clear_huge(&mm->pt, pmd);
	flush_tlb_range(mm, haddr, haddr + PMD_SIZE);
	if (!head) {
		pte = (pte & ~PTE_ADDR_MASK) | page_phys(zero_page);
		step = 0;
		huge_zero_put();
	} else if (head->refcount == refs) {
		split_sole_page(head);
	} else {
		share_tails(head);
	}
	table = pmd_set_table(&mm->pt, pmd);
	for (unsigned i = 0; i < PTRS_PER_TABLE; i++, pte += step)
		set_pte(&table[i], pte);
	fault_counters.thp_split_pmd++;
}

void split_huge_range(struct mm *mm, u64 start, u64 end)
{
	pte_t *pmd;

	for (u64 addr = start & PMD_MASK; (pmd = pmd_next_huge(&mm->pt, &addr, end));
	     addr += PMD_SIZE)
		split_pmd(mm, pmd, addr, 1);
}

void split_huge_at(struct mm *mm, u64 addr)
{
	if (!IS_ALIGNED(addr, PMD_SIZE))
		split_huge_range(mm, addr, addr + 1);
}

bool zap_huge_range(struct vma *vma, u64 start, u64 end)
{
	struct mm *mm = vma->mm;
	bool any = false;
	pte_t *pmd;

	if (!mm->pt.nr_huge)
		return false;
	split_huge_at(mm, start);
	split_huge_at(mm, end);
	for (u64 addr = start; (pmd = pmd_next_huge(&mm->pt, &addr, end)); addr += PMD_SIZE) {
		huge_clear(mm, pmd);
		any = true;
	}
	return any;
}

void protect_huge_range(struct vma *vma, u64 start, u64 end)
{
	pte_t *pmd;

	for (u64 addr = start; (pmd = pmd_next_huge(&vma->mm->pt, &addr, end)); addr += PMD_SIZE)
		set_pte(pmd, pte_modify(vma, *pmd) | PTE_HUGE);
}

int copy_huge_range(struct vma *dst, struct vma *src)
{
	pte_t *from;

	for (u64 addr = src->start; (from = pmd_next_huge(&src->mm->pt, &addr, src->end));
	     addr += PMD_SIZE) {
		pte_t *to = pmd_alloc_huge(&dst->mm->pt, addr);
		struct page *page = vm_normal_page(*from);

		if (!to)
			return -ENOMEM;
		if (page)
			get_page(page);
		else
			huge_zero_get();
		/* What is shared is never here: the child faults it in again. */
		set_pte(from, *from & ~(pte_t)PTE_WRITE);
		huge_set(dst->mm, to, page, *from);
	}
	return 0;
}

/* --- faults ---------------------------------------------------------------------------------- */

bool huge_allowed(const struct vma *vma, u64 addr)
{
	const u64 haddr = addr & PMD_MASK;

	return !vma->ops && haddr >= vma->start && haddr + PMD_SIZE <= vma->end &&
	       haddr + PMD_SIZE > haddr && thp_mode != THP_NEVER && !(vma->flags & VM_NOHUGEPAGE) &&
	       (thp_mode == THP_ALWAYS || (vma->flags & VM_HUGEPAGE));
}

/*
 * The entry is set if it still is what the case was chosen by; page NULL: the one all zero. Else
 * NOPAGE: another was first; FALLBACK: there is no memory for tables.
 */
static enum fault_result install_huge(struct fault *f, struct page *page, pte_t pte)
{
	struct mm *mm = f->req->vma->mm;
	const u64 haddr = f->req->page & PMD_MASK;
	enum fault_result ret = FAULT_RESOLVED;
	pte_t *pmd;

	spin_lock(&mm->table_lock);
	pmd = pmd_alloc_huge(&mm->pt, haddr);
	if (!pmd) {
		ret = FAULT_FALLBACK;
	} else if (*pmd != f->orig_pte) {
		f->kind = FC_raced;
		ret = FAULT_NOPAGE;
	} else {
		if (*pmd) {
			huge_clear(mm, pmd);
			flush_tlb_range(mm, haddr, haddr + PMD_SIZE);
		}
		huge_set(mm, pmd, page, pte);
	}
	spin_unlock(&mm->table_lock);
	return ret;
}

/* No 2 MiB to be had: single pages, in place of zeroes that are mapped as one, too. */
static enum fault_result huge_fallback(struct fault *f)
{
	struct mm *mm = f->req->vma->mm;

	fault_counters.thp_fallback++;
	spin_lock(&mm->table_lock);
	if (f->orig_pte && *f->ptep == f->orig_pte)
		split_pmd(mm, f->ptep, f->req->page & PMD_MASK, 1);
	spin_unlock(&mm->table_lock);
	return FAULT_FALLBACK;
}

static enum fault_result huge_read(struct fault *f)
{
	struct page *page = huge_zero_get();
	enum fault_result ret;

	if (!page)
		return huge_fallback(f);
	f->kind = FC_huge_zero;
	ret = install_huge(f, NULL, page_phys(page) | vma_pte_flags(f->req->vma) | PTE_SPECIAL);
	if (ret != FAULT_RESOLVED)
		huge_zero_put();
	return ret == FAULT_FALLBACK ? huge_fallback(f) : ret;
}

static enum fault_result huge_write(struct fault *f)
{
	struct vma *vma = f->req->vma;
	struct page *page = huge_page_alloc(vma, f->req->page & PMD_MASK, GFP_ZERO);
	enum fault_result ret;

	if (!page)
		return huge_fallback(f);
	f->kind = FC_huge_page;
	lru_add(page);
	ret = install_huge(f, page,
			   vma_mkwrite(page_phys(page) | vma_pte_flags(vma) | PTE_DIRTY, vma));
	if (ret != FAULT_RESOLVED)
		put_page(page);
	return ret == FAULT_FALLBACK ? huge_fallback(f) : ret;
}

/* A write to what is read-only: its own page becomes writable, or is left for single pages. */
static enum fault_result do_huge_wp(struct fault *f)
{
	struct mm *mm = f->req->vma->mm;
	const u64 haddr = f->req->page & PMD_MASK;
	struct page *page = vm_normal_page(f->orig_pte);
	enum fault_result ret = FAULT_RESOLVED;

	if (!page)
		return huge_write(f);
	f->kind = FC_huge_reuse;
	spin_lock(&mm->table_lock);
	if (*f->ptep != f->orig_pte) {
		f->kind = FC_raced;
	} else if (page_is_sole(page)) {
		set_pte(f->ptep, vma_mkwrite(f->orig_pte | PTE_DIRTY | PTE_ACCESSED, f->req->vma));
		flush_tlb_range(mm, haddr, haddr + PMD_SIZE);
	} else {
		split_pmd(mm, f->ptep, haddr, 1);
		ret = FAULT_FALLBACK;
	}
	spin_unlock(&mm->table_lock);
	return ret;
}

enum fault_result huge_pmd_set_accessed(struct fault *f)
{
	struct mm *mm = f->req->vma->mm;
	const u64 haddr = f->req->page & PMD_MASK;
	bool write = f->req->flags & FAULT_WRITE;

	f->kind = FC_spurious;
	spin_lock(&mm->table_lock);
	if (*f->ptep == f->orig_pte)
		set_pte(f->ptep, f->orig_pte | PTE_ACCESSED | (write ? PTE_DIRTY : 0));
	flush_tlb_range(mm, haddr, haddr + PMD_SIZE);
	spin_unlock(&mm->table_lock);
	return FAULT_RESOLVED;
}

enum fault_result do_huge_fault(struct fault *f)
{
	struct vma *vma = f->req->vma;
	struct mm *mm = vma->mm;
	bool write = f->req->flags & FAULT_WRITE, allowed = huge_allowed(vma, f->req->page);

	if (likely(!allowed && !mm->pt.nr_huge))
		return FAULT_FALLBACK;
	spin_lock(&mm->table_lock);
	f->ptep = pmd_find(&mm->pt, f->req->page);
	f->orig_pte = f->ptep ? *f->ptep : 0;
	spin_unlock(&mm->table_lock);
	if (!f->orig_pte && allowed)
		return write ? huge_write(f) : huge_read(f);
	if (!pmd_is_huge(f->orig_pte))
		return FAULT_FALLBACK;
	if (unlikely(is_numa_hint(vma, f->orig_pte)))
		return do_numa_page(f);
	return write && !(f->orig_pte & PTE_WRITE) ? do_huge_wp(f) : huge_pmd_set_accessed(f);
}

/* --- reclaim --------------------------------------------------------------------------------- */

/* Called for the entries that map the page, under their table_lock. */
bool split_sole_entry(struct vma *vma, u64 addr, pte_t *entry)
{
	struct page *head = vm_normal_page(*entry);

	/* The caller's, and this one's. */
	if (!pmd_is_huge(*entry) || head->refcount != 2)
		return false;
	split_pmd(vma->mm, entry, addr, 2);
	return true;
}
