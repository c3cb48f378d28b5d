/* madvise: what a program says of how it will use its memory, or that it will not. */
#include "guest/include/errno.h"
#include "guest/include/filemap.h"
#include "guest/include/huge.h"
#include "guest/include/swap.h"
#include "guest/include/vma.h"

/* The advices that are flags of the mapping: which bits go, and which come. */
static const struct {
	int advice;
	unsigned clear, set;
} flag_advices[] = {
    {MADV_NORMAL, VM_RAND_READ | VM_SEQ_READ, 0},
    {MADV_RANDOM, VM_SEQ_READ, VM_RAND_READ},
    {MADV_SEQUENTIAL, VM_RAND_READ, VM_SEQ_READ},
    {MADV_DONTFORK, 0, VM_DONTCOPY},
    {MADV_DOFORK, VM_DONTCOPY, 0},
    {MADV_HUGEPAGE, VM_NOHUGEPAGE, VM_HUGEPAGE},
    {MADV_NOHUGEPAGE, VM_HUGEPAGE, VM_NOHUGEPAGE},
};

static int set_flags(struct vma *vma, u64 start, u64 end, int i)
{
	(void)start, (void)end;
	vma->flags = (vma->flags & ~flag_advices[i].clear) | flag_advices[i].set;
	return 0;
}

static int advise_flags(struct mm *mm, u64 start, u64 end, int i)
{
	int err = vma_split_range(mm, start, end);

	if (!err)
		err = for_each_mapped(mm, start, end, set_flags, i);
	vma_merge_range(mm, start, end);
	return err;
}

static void will_need(struct vma *vma, u64 start, u64 end)
{
	if (vma->ops == &filemap_vm_ops)
		start_read(&vma->inode->mapping, vma->pgoff + ((start - vma->start) >> PAGE_SHIFT),
			   (end - start) >> PAGE_SHIFT, ~0UL);
}

static void zap(struct vma *vma, u64 start, u64 end)
{
	spin_lock(&vma->mm->table_lock);
	zap_range(vma, start, end);
	spin_unlock(&vma->mm->table_lock);
}

/* As if not used for long: the next look at the pages finds them so. */
static void make_cold(struct vma *vma, u64 start, u64 end)
{
	struct mm *mm = vma->mm;
	pte_t *ptep;

	spin_lock(&mm->table_lock);
	for (u64 addr = start & PMD_MASK; (ptep = pmd_next_huge(&mm->pt, &addr, end));
	     addr += PMD_SIZE)
		set_pte(ptep, *ptep & ~(pte_t)PTE_ACCESSED);
	for (u64 addr = start, stop; (ptep = pte_next_span(&mm->pt, &addr, end, &stop));)
		for (; addr < stop; addr += PAGE_SIZE, ptep++)
			if (pte_present(*ptep))
				set_pte(ptep, *ptep & ~(pte_t)PTE_ACCESSED);
	spin_unlock(&mm->table_lock);
	flush_tlb_range(mm, start, end);
}

/* The own page that the entry of addr, or the next one there is, alone maps; with a reference. */
static struct page *next_own_page(struct mm *mm, u64 *addr, u64 end)
{
	struct page *found = NULL;
	pte_t *ptep;
	u64 stop;

	spin_lock(&mm->table_lock);
	split_huge_range(mm, *addr, end);
	while (!found && (ptep = pte_next_span(&mm->pt, addr, end, &stop))) {
		for (; *addr < stop && !found; *addr += PAGE_SIZE, ptep++) {
			struct page *page = vm_normal_page(*ptep);

			if (page && (page->flags & PG_ANON) && page->mapcount == 1 &&
			    !page->order && !(page->flags & PG_TAIL))
				found = page;
		}
	}
	if (found)
		get_page(found);
	spin_unlock(&mm->table_lock);
	return found;
}

static void page_out(struct vma *vma, u64 start, u64 end)
{
	struct page *page;

	while ((page = next_own_page(vma->mm, &start, end)))
		swap_out_page(page);
}

static int advise(struct vma *vma, u64 start, u64 end, int advice)
{
	if (advice != MADV_WILLNEED && advice != MADV_COLLAPSE && (vma->flags & VM_LOCKED))
		return -EINVAL;
	if (advice == MADV_FREE && vma->ops)
		return -EINVAL;
	if ((vma->flags & VM_HUGETLB) && advice == MADV_DONTNEED) {
		if (!IS_ALIGNED(start, PMD_SIZE))
			return -EINVAL;
		end &= PMD_MASK;
	} else if ((vma->flags & VM_HUGETLB) && advice != MADV_WILLNEED) {
		return -EINVAL;
	}
	switch (advice) {
	case MADV_WILLNEED:
		will_need(vma, start, end);
		return 0;
	case MADV_COLLAPSE:
		return collapse_range(vma, start, end);
	case MADV_COLD:
		make_cold(vma, start, end);
		return 0;
	case MADV_PAGEOUT:
		page_out(vma, start, end);
		return 0;
	default: /* MADV_DONTNEED; MADV_FREE, which may be done at once */
		zap(vma, start, end);
		return 0;
	}
}

static int run_advice(struct mm *mm, u64 start, u64 end, int advice)
{
	for (unsigned i = 0; i < ARRAY_SIZE(flag_advices); i++)
		if (flag_advices[i].advice == advice)
			return advise_flags(mm, start, end, (int)i);
	if (advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE)
		return populate_range(mm, start, end, advice == MADV_POPULATE_WRITE, true);
	return for_each_mapped(mm, start, end, advise, advice);
}

static bool known_advice(int advice)
{
	return (advice >= MADV_NORMAL && advice <= MADV_DONTNEED) || advice == MADV_FREE ||
	       advice == MADV_DONTFORK || advice == MADV_DOFORK || advice == MADV_HUGEPAGE ||
	       advice == MADV_NOHUGEPAGE || advice == MADV_COLLAPSE ||
	       (advice >= MADV_COLD && advice <= MADV_POPULATE_WRITE);
}

int do_madvise(struct mm *mm, u64 addr, u64 len, int advice)
{
	int err;

	if (!IS_ALIGNED(addr, PAGE_SIZE) || !known_advice(advice))
		return -EINVAL;
	if (!len)
		return 0;
	if (wraps(addr, len))
		return -EINVAL;
	if (!page_range(addr, &len))
		return -ENOMEM;
	down_write(&mm->lock);
	err = run_advice(mm, addr, addr + len, advice);
	up_write(&mm->lock);
	return err;
}
