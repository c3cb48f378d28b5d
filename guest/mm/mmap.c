/* mmap and its company: what the system calls do to mappings. */
#include "guest/include/errno.h"
#include "guest/include/hugetlb.h"
#include "guest/include/mm.h"
#include "guest/include/rlimit.h"
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
	const u64 align = flags & MAP_HUGETLB ? PMD_SIZE : PAGE_SIZE;

	if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) {
		if (*addr < MMAP_MIN_ADDR)
			return -EPERM;
		if (flags & MAP_FIXED_NOREPLACE)
			return is_free(mm, *addr, len) ? 0 : -EEXIST;
		return unmap_range(mm, *addr, *addr + len);
	}
	*addr = ALIGN_UP(*addr, align);
	if (*addr >= MMAP_MIN_ADDR && *addr <= USER_END - len && is_free(mm, *addr, len))
		return 0;
	*addr = vma_find_gap(mm, len + align - PAGE_SIZE);
	if (!*addr)
		return -ENOMEM;
	*addr = ALIGN_UP(*addr, align);
	return 0;
}

int populate_range(struct mm *mm, u64 start, u64 end, bool write, bool asked)
{
	for (u64 addr = start; addr < end; addr += PAGE_SIZE) {
		struct vma *vma = find_vma(mm, addr);
		pte_t pte;
		bool major = false, wr;
		enum fault_result ret;

		if (!vma || vma->start > addr)
			return -ENOMEM;
		wr = write && (vma->flags & VM_WRITE) && (asked || !(vma->flags & VM_SHARED));
		if (!(vma->flags & VM_ACCESS) || (asked && wr != write))
			return asked ? -EINVAL : -EFAULT;
		pte = pte_get(&mm->pt, addr);
		if (pte_present(pte) && (!wr || (pte & PTE_WRITE)))
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
	bool accountable = !(flags & (MAP_NORESERVE | MAP_HUGETLB)) && (vm_flags & VM_WRITE) &&
			   !(vm_flags & VM_SHARED);

	return accountable && len >> PAGE_SHIFT > nr_total_pages() + nr_swap_slots();
}

/* What a fixed mapping takes the place of does not count beside it. */
static bool within_limits(struct mm *mm, u64 addr, u64 len, unsigned vm_flags, unsigned flags)
{
	u64 pages = len >> PAGE_SHIFT, replaced = 0;

	if (may_expand(mm, vm_flags, pages))
		return true;
	for (u64 at = addr; (flags & MAP_FIXED) && at < addr + len;) {
		const struct vma *vma = find_vma(mm, at);

		if (!vma || vma->start >= addr + len)
			break;
		at = MIN(vma->end, addr + len);
		replaced += (at - MAX(vma->start, addr)) >> PAGE_SHIFT;
	}
	return replaced && may_expand(mm, vm_flags, pages - replaced);
}

/* The flags of a mapping to come, without what has to be found out first. */
static unsigned vma_flags_of(const struct mm *mm, unsigned prot, unsigned flags,
			     const struct inode *inode, bool may_write)
{
	unsigned vm_flags = (prot & VM_ACCESS) | mm->def_flags;

	if ((flags & MAP_TYPE) == MAP_SHARED)
		vm_flags |= VM_SHARED;
	if (!(vm_flags & VM_SHARED) || may_write)
		vm_flags |= VM_MAYWRITE;
	if (flags & MAP_HUGETLB)
		return vm_flags | VM_HUGETLB | (flags & MAP_NORESERVE ? VM_NORESERVE : 0);
	/* Of a file, what would lie below the offset? */
	return (flags & MAP_GROWSDOWN) && !inode ? vm_flags | VM_GROWSDOWN : vm_flags;
}

/* An object's pages are reserved with it, a private mapping's here; none: 0. */
static u64 to_reserve(u64 len, unsigned vm_flags)
{
	return (vm_flags & VM_HUGETLB) && !(vm_flags & (VM_SHARED | VM_NORESERVE))
		   ? len >> PMD_SHIFT
		   : 0;
}

static s64 map(struct mm *mm, u64 addr, u64 len, unsigned prot, unsigned flags, struct inode *inode,
	       u64 pgoff, bool may_write)
{
	unsigned vm_flags = vma_flags_of(mm, prot, flags, inode, may_write);
	struct vma *vma = NULL;
	int err;

	if (overcommits(len, vm_flags, flags) || !within_limits(mm, addr, len, vm_flags, flags))
		return -ENOMEM;
	if (!hugetlb_reserve(to_reserve(len, vm_flags)))
		return -ENOMEM;
	err = place(mm, &addr, len, flags);
	if (!err) {
		vma = vma_create(mm, addr, addr + len, vm_flags, inode, pgoff);
		err = vma ? vma_insert(mm, vma) : -ENOMEM;
	}
	if (err) {
		if (vma)
			vma_free(vma);
		hugetlb_unreserve(to_reserve(len, vm_flags));
		return err;
	}
	vma_merge_range(mm, addr, addr + len);
	if ((flags & MAP_POPULATE) || (vm_flags & VM_LOCKED))
		populate_range(mm, addr, addr + len, true, false);
	return (s64)addr;
}

/* What a shared mapping of no file maps; NULL without memory for it. */
static struct inode *create_object(u64 len, unsigned flags)
{
	u64 reserve = (flags & (MAP_HUGETLB | MAP_NORESERVE)) == MAP_HUGETLB ? len >> PMD_SHIFT : 0;
	struct inode *inode;

	if (!hugetlb_reserve(reserve))
		return NULL;
	inode = shmem_create(len);
	if (inode)
		inode->private = (void *)reserve;
	else
		hugetlb_unreserve(reserve);
	return inode;
}

s64 do_mmap(struct mm *mm, u64 addr, u64 len, unsigned prot, unsigned flags, struct inode *inode,
	    u64 pgoff, bool may_write)
{
	bool fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
	unsigned type = flags & MAP_TYPE, size = flags >> MAP_HUGE_SHIFT & MAP_HUGE_MASK;
	struct inode *shared = NULL;
	s64 ret;

	if (type != MAP_PRIVATE && type != MAP_SHARED)
		return -EINVAL;
	if (flags & MAP_HUGETLB)
		len = ALIGN_UP(len, PMD_SIZE);
	if (!len || (fixed && !IS_ALIGNED(addr, PAGE_SIZE)))
		return -EINVAL;
	/* An address that is only wished for may be anything. */
	if (!fixed)
		addr = addr < USER_END ? addr & PAGE_MASK : 0;
	if (!page_range(fixed ? addr : 0, &len))
		return -ENOMEM;
	/* No file here is made of pages of a pool. */
	if ((flags & MAP_HUGETLB) &&
	    (inode || (size && size != PMD_SHIFT) || (fixed && !IS_ALIGNED(addr, PMD_SIZE))))
		return -EINVAL;
	if (pgoff + (len >> PAGE_SHIFT) < pgoff)
		return -EOVERFLOW;
	if (inode && !S_ISREG(inode->mode))
		return -ENODEV;
	if (type == MAP_SHARED && (prot & PROT_WRITE) && !may_write)
		return -EACCES;
	if (!inode && type == MAP_SHARED) {
		shared = inode = create_object(len, flags);
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

static bool becomes_data(const struct vma *vma, unsigned flags)
{
	return (flags & VM_DATA_MASK) == VM_WRITE && !(vma->flags & VM_WRITE);
}

/* As far as it goes: what lies before a gap, or before a mapping that may not, is changed. */
static int protect(struct mm *mm, u64 start, u64 end, unsigned prot)
{
	int err = 0;

	for (u64 addr = start, stop; addr < end; addr = stop) {
		struct vma *vma = find_vma(mm, addr);
		unsigned flags;

		err = !vma || vma->start > addr				 ? -ENOMEM
		      : prot & PROT_WRITE && !(vma->flags & VM_MAYWRITE) ? -EACCES
									 : 0;
		if (err)
			break;
		stop = MIN(end, vma->end);
		flags = (vma->flags & ~(unsigned)VM_ACCESS) | (prot & VM_ACCESS);
		err =
		    becomes_data(vma, flags) && !may_expand(mm, flags, (stop - addr) >> PAGE_SHIFT)
			? -ENOMEM
			: vma_split_range(mm, addr, stop);
		if (err)
			break;
		vma = find_vma(mm, addr);
		vma->flags = flags;
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
	if (brk - mm->brk_start > rlimit(RLIMIT_DATA))
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
