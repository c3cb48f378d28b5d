/* mmap and its company: what the system calls do to mappings. */
#include "guest/include/errno.h"
#include "guest/include/mm.h"
#include "guest/include/swap.h"
#include "guest/include/vma.h"

bool page_range(u64 addr, u64 *len)
{
	if (!*len || *len > USER_END || !IS_ALIGNED(addr, PAGE_SIZE))
		return false;
	*len = ALIGN_UP(*len, PAGE_SIZE);
	return addr <= USER_END && *len <= USER_END - addr;
}

bool wraps(u64 addr, u64 len)
{
	len = ALIGN_UP(len, PAGE_SIZE);
	return !len || addr + len < addr;
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

int populate_range(struct mm *mm, u64 start, u64 end, bool write, bool asked)
{
	for (u64 addr = start; addr < end; addr += PAGE_SIZE) {
		struct vma *vma = find_vma(mm, addr);
		const pte_t *ptep;
		bool major = false, wr;
		enum fault_result ret;

		if (!vma || vma->start > addr)
			return -ENOMEM;
		wr = write && (vma->flags & VM_WRITE) && (asked || !(vma->flags & VM_SHARED));
		if (!(vma->flags & VM_ACCESS) || (asked && wr != write))
			return asked ? -EINVAL : -EFAULT;
		ptep = pte_find(&mm->pt, addr);
		if (ptep && pte_present(*ptep) && (!wr || (*ptep & PTE_WRITE)))
			continue;
		ret = handle_mm_fault(vma, addr, wr ? FAULT_WRITE : 0, &major);
		if (ret != FAULT_RESOLVED)
			return ret == FAULT_OOM ? -ENOMEM : -EFAULT;
		count_fault(major, true);
		reclaim_if_low();
	}
	return 0;
}

/*
 * Linux's heuristic: a single mapping that memory and swap together could never hold is refused,
 * if it is one that will need them.
 */
static bool overcommits(u64 len, unsigned vm_flags, unsigned flags)
{
	bool accountable =
	    !(flags & MAP_NORESERVE) && (vm_flags & VM_WRITE) && !(vm_flags & VM_SHARED);

	return accountable && len >> PAGE_SHIFT > nr_total_pages() + nr_swap_slots();
}

static s64 map(struct mm *mm, u64 addr, u64 len, unsigned prot, unsigned flags, struct inode *inode,
	       u64 pgoff, bool may_write)
{
	unsigned vm_flags = (prot & VM_ACCESS) | mm->def_flags;
	struct vma *vma;
	int err;

	if ((flags & MAP_TYPE) == MAP_SHARED)
		vm_flags |= VM_SHARED;
	if (!(vm_flags & VM_SHARED) || may_write)
		vm_flags |= VM_MAYWRITE;
	/* Of a file, what would lie below the offset? */
	if ((flags & MAP_GROWSDOWN) && !inode)
		vm_flags |= VM_GROWSDOWN;
	if (overcommits(len, vm_flags, flags))
		return -ENOMEM;
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
	vma_merge_range(mm, addr, addr + len);
	if ((flags & MAP_POPULATE) || (vm_flags & VM_LOCKED))
		populate_range(mm, addr, addr + len, true, false);
	return (s64)addr;
}

s64 do_mmap(struct mm *mm, u64 addr, u64 len, unsigned prot, unsigned flags, struct inode *inode,
	    u64 pgoff, bool may_write)
{
	bool fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
	unsigned type = flags & MAP_TYPE;
	struct inode *shared = NULL;
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
	if (type == MAP_SHARED && (prot & PROT_WRITE) && !may_write)
		return -EACCES;
	if (!inode && type == MAP_SHARED) {
		shared = inode = shmem_create(len);
		pgoff = 0;
		if (!inode)
			return -ENOMEM;
	}
	down_write(&mm->lock);
	ret = map(mm, addr, len, prot, flags, inode, pgoff, may_write);
	up_write(&mm->lock);
	if (shared)
		inode_put(shared);
	return ret;
}

int do_munmap(struct mm *mm, u64 addr, u64 len)
{
	int err;

	if (!page_range(addr, &len))
		return -EINVAL;
	down_write(&mm->lock);
	err = unmap_range(mm, addr, addr + len);
	up_write(&mm->lock);
	return err;
}

/* As far as it goes: what lies before a gap, or before a mapping that may not, is changed. */
static int protect(struct mm *mm, u64 start, u64 end, unsigned prot)
{
	int err = 0;

	for (u64 addr = start, stop; addr < end; addr = stop) {
		struct vma *vma = find_vma(mm, addr);

		err = !vma || vma->start > addr				 ? -ENOMEM
		      : prot & PROT_WRITE && !(vma->flags & VM_MAYWRITE) ? -EACCES
									 : 0;
		if (err)
			break;
		stop = MIN(end, vma->end);
		err = vma_split_range(mm, addr, stop);
		if (err)
			break;
		vma = find_vma(mm, addr);
		vma->flags = (vma->flags & ~(unsigned)VM_ACCESS) | (prot & VM_ACCESS);
		spin_lock(&mm->table_lock);
		protect_range(vma, vma->start, vma->end);
		spin_unlock(&mm->table_lock);
	}
	vma_merge_range(mm, start, end);
	return err;
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
	down_write(&mm->lock);
	err = protect(mm, addr, addr + len, prot);
	up_write(&mm->lock);
	return err;
}

u64 do_brk(struct mm *mm, u64 brk)
{
	u64 old, new;

	down_write(&mm->lock);
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
	up_write(&mm->lock);
	return brk;
}
