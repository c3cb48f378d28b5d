/*
 * The mappings of an address space: a sorted array of pointers, searched by bisection. Splitting
 * and removing move the tail, which is cheap for the dozens a program has and bounded for the
 * MAX_MAP_COUNT it may have.
 */
#include "guest/include/vma.h"
#include "guest/include/errno.h"
#include "guest/include/huge.h"
#include "guest/include/hugetlb.h"
#include "guest/include/rlimit.h"
#include "guest/include/string.h"

#define FIRST_VMAS 16

static unsigned vma_index(const struct mm *mm, u64 addr)
{
	unsigned lo = 0, hi = mm->nr_vmas;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (mm->vmas[mid]->end > addr)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

struct vma *find_vma(struct mm *mm, u64 addr)
{
	struct vma *recent = READ_ONCE(mm->recent); /* others that only read change it, too */
	unsigned i;

	if (recent && addr >= recent->start && addr < recent->end)
		return recent;
	i = vma_index(mm, addr);
	if (i == mm->nr_vmas)
		return NULL;
	WRITE_ONCE(mm->recent, mm->vmas[i]);
	return mm->vmas[i];
}

int vma_insert(struct mm *mm, struct vma *vma)
{
	unsigned i = vma_index(mm, vma->start);

	if (mm->nr_vmas >= MAX_MAP_COUNT)
		return -ENOMEM;
	if (mm->nr_vmas == mm->max_vmas) {
		unsigned max = mm->max_vmas ? 2 * mm->max_vmas : FIRST_VMAS;
		struct vma **vmas = kmalloc(max * sizeof(*vmas));

		if (!vmas)
			return -ENOMEM;
		memcpy(vmas, mm->vmas, mm->nr_vmas * sizeof(*vmas));
		kfree(mm->vmas);
		mm->vmas = vmas;
		mm->max_vmas = max;
	}
	memmove(&mm->vmas[i + 1], &mm->vmas[i], (mm->nr_vmas - i) * sizeof(*mm->vmas));
	mm->vmas[i] = vma;
	mm->nr_vmas++;
	spin_lock(&rmap_lock);
	vma_link(vma);
	spin_unlock(&rmap_lock);
	mm->total_pages += (vma->end - vma->start) >> PAGE_SHIFT;
	return 0;
}

static void vma_remove(struct vma *vma)
{
	struct mm *mm = vma->mm;
	unsigned i = vma_index(mm, vma->start);

	mm->recent = NULL;
	mm->nr_vmas--;
	memmove(&mm->vmas[i], &mm->vmas[i + 1], (mm->nr_vmas - i) * sizeof(*mm->vmas));
	mm->total_pages -= (vma->end - vma->start) >> PAGE_SHIFT;
}

struct vma *vma_create(struct mm *mm, u64 start, u64 end, unsigned flags, struct inode *inode,
		       u64 pgoff)
{
	struct vma *vma = kzalloc(sizeof(*vma));

	if (!vma)
		return NULL;
	vma->mm = mm;
	vma->start = start;
	vma->end = end;
	vma->flags = flags;
	vma->inode = inode;
	vma->pgoff = inode ? pgoff : start >> PAGE_SHIFT;
	list_init(&vma->mapping_link);
	list_init(&vma->anon_link);
	if (inode) {
		inode_get(inode);
		vma->ops = inode->dax ? &dax_vm_ops : inode->sb ? &filemap_vm_ops : &shmem_vm_ops;
	}
	if (flags & VM_HUGETLB)
		vma->ops = &hugetlb_vm_ops;
	return vma;
}

void vma_free(struct vma *vma)
{
	spin_lock(&rmap_lock);
	vma_unlink(vma);
	spin_unlock(&rmap_lock);
	if (vma->inode)
		inode_put(vma->inode);
	kfree(vma);
}

struct vma *vma_clone(struct mm *mm, const struct vma *old)
{
	struct vma *vma = vma_create(mm, old->start, old->end, old->flags, old->inode, old->pgoff);

	if (vma) {
		vma->pgoff = old->pgoff;
		vma->ra = old->ra;
		spin_lock(&rmap_lock);
		anon_vma_join(vma, old->anon_vma);
		spin_unlock(&rmap_lock);
	}
	return vma;
}

int vma_split(struct vma *vma, u64 at)
{
	u64 pages = (at - vma->start) >> PAGE_SHIFT;
	u64 end = vma->end;
	struct vma *upper;
	int err;

	if ((vma->flags & VM_HUGETLB) && !IS_ALIGNED(at, PMD_SIZE))
		return -EINVAL;
	upper = vma_clone(vma->mm, vma);
	if (!upper)
		return -ENOMEM;
	spin_lock(&vma->mm->table_lock);
	split_huge_at(vma->mm, at);
	spin_unlock(&vma->mm->table_lock);
	spin_lock(&rmap_lock);
	upper->start = at;
	upper->pgoff += pages;
	vma->end = at;
	spin_unlock(&rmap_lock);
	vma->mm->total_pages -= (end - at) >> PAGE_SHIFT;
	err = vma_insert(vma->mm, upper);
	if (err) {
		vma->end = end;
		vma->mm->total_pages += (end - at) >> PAGE_SHIFT;
		vma_free(upper);
	}
	return err;
}

/* Whether the upper mapping goes on where the lower one ends, in memory and in the object. */
static bool can_merge(const struct vma *lower, const struct vma *upper)
{
	return lower->end == upper->start && lower->flags == upper->flags &&
	       lower->inode == upper->inode &&
	       lower->pgoff + ((lower->end - lower->start) >> PAGE_SHIFT) == upper->pgoff &&
	       (!lower->anon_vma || !upper->anon_vma || lower->anon_vma == upper->anon_vma);
}

void vma_merge_range(struct mm *mm, u64 start, u64 end)
{
	unsigned i = vma_index(mm, start ? start - 1 : 0);

	while (i + 1 < mm->nr_vmas && mm->vmas[i]->end <= end) {
		struct vma *lower = mm->vmas[i], *upper = mm->vmas[i + 1];

		if (!can_merge(lower, upper)) {
			i++;
			continue;
		}
		vma_remove(upper);
		mm->total_pages += (upper->end - upper->start) >> PAGE_SHIFT;
		spin_lock(&rmap_lock);
		lower->end = upper->end;
		if (!lower->anon_vma)
			anon_vma_join(lower, upper->anon_vma);
		spin_unlock(&rmap_lock);
		vma_free(upper);
	}
}

bool vma_covers(struct mm *mm, u64 start, u64 end)
{
	while (start < end) {
		const struct vma *vma = find_vma(mm, start);

		if (!vma || vma->start > start)
			return false;
		start = vma->end;
	}
	return true;
}

int for_each_mapped(struct mm *mm, u64 start, u64 end, vma_fn fn, int arg)
{
	int err = 0, gap = 0;

	while (start < end && !err) {
		struct vma *vma = find_vma(mm, start);

		if (!vma || vma->start > start)
			gap = -ENOMEM;
		if (!vma || vma->start >= end)
			break;
		err = fn(vma, MAX(start, vma->start), MIN(end, vma->end), arg);
		start = vma->end;
	}
	return err ? err : gap;
}

/* After this no mapping crosses start or end. */
int vma_split_range(struct mm *mm, u64 start, u64 end)
{
	const u64 at[] = {start, end};

	for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
		struct vma *vma = find_vma(mm, at[i]);
		int err;

		if (!vma || vma->start >= at[i])
			continue;
		err = vma_split(vma, at[i]);
		if (err)
			return err;
	}
	return 0;
}

/* Nothing is mapped by those that are for this range alone: the next to map it starts anew. */
static void drop_tables(struct pgtable *pt, u64 start, u64 end)
{
	pte_t *pmd;

	end &= PMD_MASK;
	for (u64 addr = ALIGN_UP(start, PMD_SIZE); (pmd = pmd_next(pt, &addr, end));
	     addr += PMD_SIZE)
		pmd_drop_table(pt, pmd);
}

int unmap_range(struct mm *mm, u64 start, u64 end)
{
	struct vma *vma;
	int err = vma_split_range(mm, start, end);

	if (err)
		return err;
	while ((vma = find_vma(mm, start)) && vma->start < end) {
		spin_lock(&mm->table_lock);
		zap_range(vma, vma->start, vma->end);
		drop_tables(&mm->pt, vma->start, vma->end);
		spin_unlock(&mm->table_lock);
		hugetlb_close(vma);
		vma_remove(vma);
		vma_free(vma);
	}
	return 0;
}

/* The highest gap of len bytes below mm->mmap_base, or 0. */
u64 vma_find_gap(struct mm *mm, u64 len)
{
	u64 top = mm->mmap_base;

	for (unsigned i = mm->nr_vmas; i-- > 0;) {
		const struct vma *vma = mm->vmas[i];
		u64 start = vma->start;

		if (start >= top && start >= mm->mmap_base)
			continue;
		if (vma->end < top && top - vma->end >= len)
			return top - len;
		top = MIN(top, start);
	}
	return top >= len + MMAP_MIN_ADDR ? top - len : 0;
}

u64 vma_pages(const struct mm *mm, unsigned mask, unsigned want)
{
	u64 pages = 0;

	for (unsigned i = 0; i < mm->nr_vmas; i++)
		if ((mm->vmas[i]->flags & mask) == want)
			pages += (mm->vmas[i]->end - mm->vmas[i]->start) >> PAGE_SHIFT;
	return pages;
}

bool may_expand(const struct mm *mm, unsigned flags, u64 pages)
{
	u64 data = rlimit(RLIMIT_DATA);

	if (mm->total_pages + pages > rlimit(RLIMIT_AS) >> PAGE_SHIFT)
		return false;
	/* Counted only where there is a limit: nothing has to be kept up to date for the rest. */
	return data == RLIM_INFINITY || (flags & VM_DATA_MASK) != VM_WRITE ||
	       vma_pages(mm, VM_DATA_MASK, VM_WRITE) + pages <= data >> PAGE_SHIFT;
}

int expand_stack(struct vma *vma, u64 addr)
{
	struct mm *mm = vma->mm;
	unsigned i = vma_index(mm, vma->start);
	u64 start = addr & PAGE_MASK;

	if (vma->end - start > rlimit(RLIMIT_STACK) || start < MMAP_MIN_ADDR ||
	    !may_expand(mm, vma->flags, (vma->start - start) >> PAGE_SHIFT))
		return -ENOMEM;
	/* A gap to what lies below, unless that is inaccessible and so a guard itself. */
	if (i && (mm->vmas[i - 1]->flags & VM_ACCESS) &&
	    start - mm->vmas[i - 1]->end < STACK_GUARD_GAP)
		return -ENOMEM;
	mm->total_pages += (vma->start - start) >> PAGE_SHIFT;
	spin_lock(&rmap_lock);
	vma->pgoff -= (vma->start - start) >> PAGE_SHIFT;
	vma->start = start;
	spin_unlock(&rmap_lock);
	fault_counters.stack_grown++;
	return 0;
}
