/* What keeps memory, tells of it, and writes it: mlock, mincore, msync. */
#include "guest/include/errno.h"
#include "guest/include/filemap.h"
#include "guest/include/mm.h"
#include "guest/include/swap.h"
#include "guest/include/uaccess.h"
#include "guest/include/vma.h"

/* --- mlock ----------------------------------------------------------------------------------- */

static int set_locked(struct vma *vma, u64 start, u64 end, int lock)
{
	(void)start, (void)end;
	vma->flags = (vma->flags & ~(unsigned)VM_LOCKED) | (lock ? VM_LOCKED : 0);
	return 0;
}

static int lock_range(struct mm *mm, u64 start, u64 end, bool lock)
{
	int err = vma_split_range(mm, start, end);

	if (!err)
		err = for_each_mapped(mm, start, end, set_locked, lock);
	vma_merge_range(mm, start, end);
	return err;
}

int do_mlock(struct mm *mm, u64 addr, u64 len, bool lock, bool populate)
{
	int err;

	/* Unlike its company it takes any address: that of the page counts. */
	len = ALIGN_UP(len + (addr & ~PAGE_MASK), PAGE_SIZE);
	addr &= PAGE_MASK;
	if (!len)
		return 0;
	if (wraps(addr, len))
		return -EINVAL;
	if (!page_range(addr, &len))
		return -ENOMEM;
	down_write(&mm->lock);
	err = lock_range(mm, addr, addr + len, lock);
	if (!err && lock && populate && populate_range(mm, addr, addr + len, true, false))
		err = -ENOMEM;
	up_write(&mm->lock);
	return err;
}

int do_mlockall(struct mm *mm, unsigned flags)
{
	const bool now = flags & MCL_CURRENT;

	down_write(&mm->lock);
	mm->def_flags = flags & MCL_FUTURE ? VM_LOCKED : 0;
	for (unsigned i = 0; i < mm->nr_vmas && (now || !flags); i++) {
		struct vma *vma = mm->vmas[i];

		set_locked(vma, 0, 0, now);
		/* What cannot come in is no error of the call's. */
		if (now && !(flags & MCL_ONFAULT))
			populate_range(mm, vma->start, vma->end, true, false);
	}
	vma_merge_range(mm, 0, USER_END);
	up_write(&mm->lock);
	return 0;
}

/* --- mincore --------------------------------------------------------------------------------- */

static bool page_in_memory(const struct vma *vma, u64 addr, pte_t pte)
{
	struct page *page = NULL;
	bool there;

	if (pte_present(pte))
		return true;
	if (pte_is_swap(pte))
		page = swap_cache_get(pte_slot(pte));
	else if (vma->inode && !vma->inode->dax)
		page = find_get_page(&vma->inode->mapping,
				     vma->pgoff + ((addr - vma->start) >> PAGE_SHIFT));
	if (!page)
		return false;
	there = page->flags & PG_UPTODATE;
	put_page(page);
	return there;
}

static void look(struct vma *vma, u64 start, u64 end, u8 *vec)
{
	for (u64 addr = start; addr < end; addr += PAGE_SIZE) {
		pte_t pte;

		spin_lock(&vma->mm->table_lock);
		pte = pte_get(&vma->mm->pt, addr);
		spin_unlock(&vma->mm->table_lock);
		*vec++ = page_in_memory(vma, addr, pte);
	}
}

/* A page's worth of answers; the lock is not held while they are handed over. */
static int mincore_part(struct mm *mm, u64 start, u64 end, u8 *vec)
{
	int err;

	down_read(&mm->lock);
	err = vma_covers(mm, start, end) ? 0 : -ENOMEM;
	for (u64 addr = start, stop; !err && addr < end; addr = stop) {
		struct vma *vma = find_vma(mm, addr);

		stop = MIN(end, vma->end);
		look(vma, addr, stop, vec + ((addr - start) >> PAGE_SHIFT));
	}
	up_read(&mm->lock);
	return err;
}

int do_mincore(struct mm *mm, u64 addr, u64 len, u64 vec)
{
	u8 *part;
	int err = 0;

	if (!IS_ALIGNED(addr, PAGE_SIZE))
		return -EINVAL;
	if (!len)
		return 0;
	if (!page_range(addr, &len))
		return -ENOMEM;
	part = kmalloc(PAGE_SIZE);
	if (!part)
		return -ENOMEM;
	for (u64 left = len >> PAGE_SHIFT, n; left && !err; left -= n) {
		n = MIN(left, PAGE_SIZE);
		err = mincore_part(mm, addr, addr + (n << PAGE_SHIFT), part);
		if (!err && copy_to_user(vec, part, n))
			err = -EFAULT;
		addr += n << PAGE_SHIFT;
		vec += n;
	}
	kfree(part);
	return err;
}

/* --- msync ----------------------------------------------------------------------------------- */

static int sync_mapping(struct vma *vma, u64 start, u64 end, int flags)
{
	(void)start, (void)end;
	if ((flags & MS_INVALIDATE) && (vma->flags & VM_LOCKED))
		return -EBUSY;
	return (flags & MS_SYNC) && vma->inode && vma->inode->sb && (vma->flags & VM_SHARED)
		   ? file_sync(vma->inode)
		   : 0;
}

int do_msync(struct mm *mm, u64 addr, u64 len, int flags)
{
	int err;

	if ((flags & ~(MS_ASYNC | MS_SYNC | MS_INVALIDATE)) ||
	    ((flags & MS_ASYNC) && (flags & MS_SYNC)) || !IS_ALIGNED(addr, PAGE_SIZE))
		return -EINVAL;
	if (!ALIGN_UP(len, PAGE_SIZE)) /* one that wraps, too */
		return 0;
	if (!page_range(addr, &len))
		return -ENOMEM;
	down_read(&mm->lock);
	err = for_each_mapped(mm, addr, addr + len, sync_mapping, flags);
	up_read(&mm->lock);
	return err;
}
