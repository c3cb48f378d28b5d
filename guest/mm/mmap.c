/* mmap and its company: what the system calls do to mappings. */
#include "guest/include/errno.h"
#include "guest/include/mm.h"
#include "guest/include/vma.h"

/* Bytes rounded up to pages; false if that, or the range, leaves the user half. */
static bool page_range(u64 addr, u64 *len)
{
	if (!*len || *len > USER_END || !IS_ALIGNED(addr, PAGE_SIZE))
		return false;
	*len = ALIGN_UP(*len, PAGE_SIZE);
	return addr <= USER_END && *len <= USER_END - addr;
}

static bool is_free(struct mm *mm, u64 addr, u64 len)
{
	const struct vma *vma = find_vma(mm, addr);

	return !vma || vma->start >= addr + len;
}

/* Where the mapping goes: *addr as asked for or chosen. */
static int place(struct mm *mm, u64 *addr, u64 len, unsigned flags)
{
	if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) {
		if (*addr < MMAP_MIN_ADDR)
			return -EPERM;
		if (flags & MAP_FIXED_NOREPLACE)
			return is_free(mm, *addr, len) ? 0 : -EEXIST;
		return unmap_range(mm, *addr, *addr + len);
	}
	if (*addr >= MMAP_MIN_ADDR && *addr <= USER_END - len && is_free(mm, *addr, len))
		return 0;
	*addr = vma_find_gap(mm, len);
	return *addr ? 0 : -ENOMEM;
}

static int populate(struct mm *mm, struct vma *vma)
{
	unsigned flags = vma->flags & VM_WRITE ? FAULT_WRITE : 0;

	if (!(vma->flags & VM_ACCESS))
		return -EFAULT;
	for (u64 addr = vma->start; addr < vma->end; addr += PAGE_SIZE) {
		bool major = false;

		if (pte_find(&mm->pt, addr) && pte_present(*pte_find(&mm->pt, addr)))
			continue;
		if (handle_mm_fault(vma, addr, flags, &major) != FAULT_RESOLVED)
			return -EFAULT;
		count_fault(major, true);
		reclaim_if_low();
	}
	return 0;
}

static s64 map(struct mm *mm, u64 addr, u64 len, unsigned prot, unsigned flags, struct inode *inode,
	       u64 pgoff, bool may_write)
{
	unsigned vm_flags = prot & VM_ACCESS;
	struct vma *vma;
	int err;

	if ((flags & MAP_TYPE) == MAP_SHARED)
		vm_flags |= VM_SHARED;
	if (!(vm_flags & VM_SHARED) || may_write)
		vm_flags |= VM_MAYWRITE;
	/* Of a file, what would lie below the offset? */
	if ((flags & MAP_GROWSDOWN) && !inode)
		vm_flags |= VM_GROWSDOWN;
	err = place(mm, &addr, len, flags);
	if (err)
		return err;
	vma = vma_create(mm, addr, addr + len, vm_flags, inode, pgoff);
	if (!vma)
		return -ENOMEM;
	err = vma_insert(mm, vma);
	if (err) {
		vma_free(vma);
		return err;
	}
	if (flags & MAP_POPULATE)
		populate(mm, vma);
	return (s64)addr;
}

s64 do_mmap(struct mm *mm, u64 addr, u64 len, unsigned prot, unsigned flags, struct inode *inode,
	    u64 pgoff, bool may_write)
{
	bool fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
	unsigned type = flags & MAP_TYPE;
	s64 ret;

	if (type != MAP_PRIVATE && type != MAP_SHARED)
		return -EINVAL;
	if (!len || (fixed && !IS_ALIGNED(addr, PAGE_SIZE)))
		return -EINVAL;
	/* An address that is only wished for may be anything. */
	if (!fixed)
		addr = addr < USER_END ? addr & PAGE_MASK : 0;
	if (!page_range(fixed ? addr : 0, &len))
		return -ENOMEM;
	if (pgoff + (len >> PAGE_SHIFT) < pgoff)
		return -EOVERFLOW;
	if (inode && !S_ISREG(inode->mode))
		return -ENODEV;
	if (!inode && type == MAP_SHARED)
		return -ENODEV; /* needs an object of its own */
	if (type == MAP_SHARED && (prot & PROT_WRITE) && !may_write)
		return -EACCES;
	mutex_lock(&mm->lock);
	ret = map(mm, addr, len, prot, flags, inode, pgoff, may_write);
	mutex_unlock(&mm->lock);
	return ret;
}

int do_munmap(struct mm *mm, u64 addr, u64 len)
{
	int err;

	if (!page_range(addr, &len))
		return -EINVAL;
	mutex_lock(&mm->lock);
	err = unmap_range(mm, addr, addr + len);
	mutex_unlock(&mm->lock);
	return err;
}

/* Whether mappings cover [start, end) without a gap. */
static bool is_covered(struct mm *mm, u64 start, u64 end)
{
	while (start < end) {
		const struct vma *vma = find_vma(mm, start);

		if (!vma || vma->start > start)
			return false;
		start = vma->end;
	}
	return true;
}

static int protect(struct mm *mm, u64 start, u64 end, unsigned prot)
{
	struct vma *vma;
	u64 addr;
	int err;

	if (!is_covered(mm, start, end))
		return -ENOMEM;
	for (addr = start; addr < end; addr = vma->end) {
		vma = find_vma(mm, addr);
		if ((prot & PROT_WRITE) && !(vma->flags & VM_MAYWRITE))
			return -EACCES;
	}
	err = vma_split_range(mm, start, end);
	if (err)
		return err;
	for (addr = start; addr < end; addr = vma->end) {
		vma = find_vma(mm, addr);
		vma->flags = (vma->flags & ~(unsigned)VM_ACCESS) | (prot & VM_ACCESS);
		spin_lock(&mm->table_lock);
		protect_range(vma, vma->start, vma->end);
		spin_unlock(&mm->table_lock);
	}
	return 0;
}

int do_mprotect(struct mm *mm, u64 addr, u64 len, unsigned prot)
{
	int err;

	if (!IS_ALIGNED(addr, PAGE_SIZE) || (prot & ~(unsigned)VM_ACCESS))
		return -EINVAL;
	if (!len)
		return 0;
	if (!page_range(addr, &len))
		return -ENOMEM;
	mutex_lock(&mm->lock);
	err = protect(mm, addr, addr + len, prot);
	mutex_unlock(&mm->lock);
	return err;
}

/* What is done to [start, end) of a mapping. 0 or negative errno. */
typedef int (*vma_fn)(struct vma *vma, u64 start, u64 end, int arg);

/* Calls fn for what is mapped of the range; -ENOMEM in the end if not all of it was. */
static int for_each_mapped(struct mm *mm, u64 start, u64 end, vma_fn fn, int arg)
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

static int advise(struct vma *vma, u64 start, u64 end, int advice)
{
	const unsigned reading = VM_RAND_READ | VM_SEQ_READ;

	switch (advice) {
	case MADV_NORMAL:
		vma->flags &= ~reading;
		return 0;
	case MADV_RANDOM:
		vma->flags = (vma->flags & ~reading) | VM_RAND_READ;
		return 0;
	case MADV_SEQUENTIAL:
		vma->flags = (vma->flags & ~reading) | VM_SEQ_READ;
		return 0;
	case MADV_WILLNEED:
		if (vma->inode && !vma->inode->dax)
			start_read(&vma->inode->mapping,
				   vma->pgoff + ((start - vma->start) >> PAGE_SHIFT),
				   (end - start) >> PAGE_SHIFT, ~0UL);
		return 0;
	default: /* MADV_DONTNEED */
		spin_lock(&vma->mm->table_lock);
		zap_range(vma, start, end);
		spin_unlock(&vma->mm->table_lock);
		return 0;
	}
}

int do_madvise(struct mm *mm, u64 addr, u64 len, int advice)
{
	int err = 0;

	if (!IS_ALIGNED(addr, PAGE_SIZE) || advice < MADV_NORMAL || advice > MADV_DONTNEED)
		return -EINVAL;
	if (!len)
		return 0;
	if (!page_range(addr, &len))
		return -ENOMEM;
	mutex_lock(&mm->lock);
	/* What is said of how it is read is said of this range alone. */
	if (advice <= MADV_SEQUENTIAL)
		err = vma_split_range(mm, addr, addr + len);
	if (!err)
		err = for_each_mapped(mm, addr, addr + len, advise, advice);
	mutex_unlock(&mm->lock);
	return err;
}

static int sync_mapping(struct vma *vma, u64 start, u64 end, int flags)
{
	(void)start, (void)end;
	return (flags & MS_SYNC) && vma->inode && (vma->flags & VM_SHARED) ? file_sync(vma->inode)
									   : 0;
}

int do_msync(struct mm *mm, u64 addr, u64 len, int flags)
{
	int err;

	if ((flags & ~(MS_ASYNC | MS_SYNC | MS_INVALIDATE)) ||
	    ((flags & MS_ASYNC) && (flags & MS_SYNC)) || !IS_ALIGNED(addr, PAGE_SIZE))
		return -EINVAL;
	if (!len)
		return 0;
	if (!page_range(addr, &len))
		return -ENOMEM;
	mutex_lock(&mm->lock);
	err = for_each_mapped(mm, addr, addr + len, sync_mapping, flags);
	mutex_unlock(&mm->lock);
	return err;
}

u64 do_brk(struct mm *mm, u64 brk)
{
	u64 old, new;

	mutex_lock(&mm->lock);
	old = ALIGN_UP(mm->brk, PAGE_SIZE);
	if (brk < mm->brk_start || brk > USER_END - PAGE_SIZE)
		goto out;
	new = ALIGN_UP(brk, PAGE_SIZE);
	if (new < old && unmap_range(mm, new, old))
		goto out;
	if (new > old) {
		const unsigned flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

		if (!is_free(mm, old, new - old + STACK_GUARD_GAP))
			goto out;
		if (map(mm, old, new - old, PROT_READ | PROT_WRITE, flags, NULL, 0, true) < 0)
			goto out;
	}
	mm->brk = brk;
out:
	brk = mm->brk;
	mutex_unlock(&mm->lock);
	return brk;
}
