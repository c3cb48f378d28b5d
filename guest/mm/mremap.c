/* mremap: mappings shrink, grow where they are, or move with their pages. */
#include "guest/include/errno.h"
#include "guest/include/huge.h"
#include "guest/include/vma.h"

/* As checked: all multiples of a page, lengths not 0. */
struct remap {
	struct mm *mm;
	u64 addr, old_len, new_len, new_addr;
	unsigned flags;
};

static bool grows_in_place(const struct remap *r, const struct vma *vma)
{
	const struct vma *next;

	if (r->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) || r->addr + r->old_len != vma->end ||
	    r->new_len > USER_END - r->addr)
		return false;
	next = find_vma(r->mm, vma->end);
	return !next || next->start >= r->addr + r->new_len;
}

static void grow(const struct remap *r, struct vma *vma)
{
	r->mm->total_pages += (r->new_len - r->old_len) >> PAGE_SHIFT;
	spin_lock(&rmap_lock);
	vma->end = r->addr + r->new_len;
	spin_unlock(&rmap_lock);
	vma_merge_range(r->mm, vma->start, vma->end);
}

/* The same object and own pages, at new_addr. */
static struct vma *clone_at(const struct remap *r, const struct vma *vma)
{
	struct vma *new = vma_clone(r->mm, vma);

	if (!new)
		return NULL;
	spin_lock(&rmap_lock);
	new->start = r->new_addr;
	new->end = r->new_addr + r->new_len;
	new->pgoff = vma->pgoff + ((r->addr - vma->start) >> PAGE_SHIFT);
	spin_unlock(&rmap_lock);
	if (!vma_insert(r->mm, new))
		return new;
	vma_free(new);
	return NULL;
}

static s64 move(const struct remap *r, struct vma *vma)
{
	const u64 len = MIN(r->old_len, r->new_len);
	struct vma *new = clone_at(r, vma);
	int err;

	if (!new)
		return -ENOMEM;
	spin_lock(&r->mm->table_lock);
	split_huge_range(r->mm, r->addr, r->addr + len);
	spin_unlock(&r->mm->table_lock);
	err = prepare_move(r->mm, new->start, r->addr, len);
	if (err) {
		unmap_range(r->mm, new->start, new->end);
		return err;
	}
	/* No walk from a page finds it at neither place. */
	spin_lock(&rmap_lock);
	spin_lock(&r->mm->table_lock);
	move_range(new, new->start, r->addr, len);
	spin_unlock(&r->mm->table_lock);
	spin_unlock(&rmap_lock);
	if (!(r->flags & MREMAP_DONTUNMAP))
		err = unmap_range(r->mm, r->addr, r->addr + r->old_len);
	vma_merge_range(r->mm, r->new_addr, r->new_addr + r->new_len);
	return err ? err : (s64)r->new_addr;
}

/* Where it goes if it has to move. */
static int place_move(struct remap *r)
{
	if (r->flags & MREMAP_FIXED)
		return unmap_range(r->mm, r->new_addr, r->new_addr + r->new_len);
	if (!(r->flags & MREMAP_MAYMOVE))
		return -ENOMEM;
	r->new_addr = vma_find_gap(r->mm, r->new_len);
	return r->new_addr ? 0 : -ENOMEM;
}

static s64 remap(struct remap *r)
{
	const bool must_move = r->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP);
	struct vma *vma = find_vma(r->mm, r->addr);
	int err;

	if (!vma || vma->start > r->addr)
		return -EFAULT;
	if (!must_move && r->new_len <= r->old_len) {
		err = r->new_len < r->old_len
			  ? unmap_range(r->mm, r->addr + r->new_len, r->addr + r->old_len)
			  : 0;
		return err ? err : (s64)r->addr;
	}
	if (r->old_len > vma->end - r->addr)
		return -EFAULT;
	if (vma->flags & VM_HUGETLB)
		return must_move ? -EINVAL : -EFAULT;
	if (r->new_len > r->old_len &&
	    !may_expand(r->mm, vma->flags, (r->new_len - r->old_len) >> PAGE_SHIFT))
		return -ENOMEM;
	if (grows_in_place(r, vma)) {
		grow(r, vma);
		return (s64)r->addr;
	}
	err = place_move(r);
	if (err)
		return err;
	/* What was replaced at the new place may have had a part of it. */
	vma = find_vma(r->mm, r->addr);
	return move(r, vma);
}

static bool overlap(const struct remap *r)
{
	return r->addr < r->new_addr + r->new_len && r->new_addr < r->addr + r->old_len;
}

s64 do_mremap(struct mm *mm, u64 addr, u64 old_len, u64 new_len, unsigned flags, u64 new_addr)
{
	struct remap r = {mm, addr, old_len, new_len, new_addr, flags};
	s64 ret;

	if (flags & ~(unsigned)(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP))
		return -EINVAL;
	if ((flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && !(flags & MREMAP_MAYMOVE))
		return -EINVAL;
	/* A length of 0 would make a second mapping of a shared object: not offered. */
	if (addr >= USER_END && IS_ALIGNED(addr, PAGE_SIZE) && old_len && new_len)
		return -EFAULT;
	if (!page_range(addr, &r.old_len) || !page_range(0, &r.new_len) ||
	    ((flags & MREMAP_DONTUNMAP) && r.old_len != r.new_len))
		return -EINVAL;
	if ((flags & MREMAP_FIXED) &&
	    (!page_range(new_addr, &r.new_len) || new_addr < MMAP_MIN_ADDR || overlap(&r)))
		return -EINVAL;
	down_write(&mm->lock);
	ret = remap(&r);
	if (ret > 0 && r.new_len > r.old_len && (find_vma(mm, (u64)ret)->flags & VM_LOCKED))
		populate_range(mm, (u64)ret + r.old_len, (u64)ret + r.new_len, true, false);
	up_write(&mm->lock);
	return ret;
}
