/*
 * A program's memory from outside of it: what /proc/PID/mem reads and writes. Pages come in through
 * the fault path, and no right of the mapping counts but that of a shared one to be written:
 * breakpoints are set in code that is read-only, on a copy of its page.
 */
#include "guest/include/mm.h"
#include "guest/include/oom.h"
#include "guest/include/string.h"
#include "guest/include/swap.h"
#include "guest/include/trap.h"

#define TRIES 8	 /* without memory */
#define ROOM  64 /* pages wanted then, as a fault wants */

/* Could the program's mapping have such pages of its own, or be written as it is? */
static bool may_access(const struct vma *vma, bool write)
{
	if (!write || (vma->flags & VM_WRITE))
		return true;
	return !(vma->flags & (VM_SHARED | VM_HUGETLB));
}

/* What is mapped read-only is written where it is an own page, and nobody else's. */
static bool is_ready(const struct vma *vma, pte_t pte, bool write)
{
	struct page *page = vm_normal_page(pte);

	if (!pte_present(pte) || !write || (pte & PTE_WRITE))
		return pte_present(pte);
	return !(vma->flags & VM_WRITE) && page && (compound_head(page)->flags & PG_ANON) &&
	       page_is_sole(page);
}

/* The entry of the address, of 4 KiB or 2 MiB; NULL: there is none. mm.table_lock held. */
static pte_t *entry_of(const struct mm *mm, u64 addr)
{
	pte_t *ptep = pte_find(&mm->pt, addr);

	return ptep || !mm->pt.nr_huge ? ptep : pmd_find(&mm->pt, addr);
}

static void *frame_of(pte_t pte, u64 addr)
{
	u64 mask = pmd_is_huge(pte) ? PMD_MASK : PAGE_MASK;

	return phys_to_virt((pte_phys(pte) & mask) + (addr & ~mask));
}

/*
 * Under the lock of the entry: until it is given up nobody takes the page away, and who cleans it
 * has not begun. False: the entry is not ready.
 */
static bool copy_under_lock(const struct vma *vma, u64 addr, void *buf, size_t n, bool write)
{
	struct mm *mm = vma->mm;
	bool ready;
	pte_t *ptep;

	spin_lock(&mm->table_lock);
	ptep = entry_of(mm, addr);
	ready = ptep && is_ready(vma, *ptep, write);
	if (ready && write) {
		set_pte(ptep, *ptep | PTE_DIRTY | PTE_ACCESSED);
		memcpy(frame_of(*ptep, addr), buf, n);
	} else if (ready) {
		memcpy(buf, frame_of(*ptep, addr), n);
	}
	spin_unlock(&mm->table_lock);
	return ready;
}

/* Within a page. mm.lock held for reading; it may be given up meanwhile. */
static enum fault_result copy_page_part(struct mm *mm, u64 addr, void *buf, size_t n, bool write)
{
	struct vma *vma = vma_at(mm, addr);
	enum fault_result ret;

	if (!vma || !may_access(vma, write))
		return FAULT_SIGSEGV;
	while (!copy_under_lock(vma, addr, buf, n, write)) {
		bool major = false;

		ret = handle_mm_fault(vma, addr, write ? FAULT_WRITE : 0, &major);
		if (ret != FAULT_RESOLVED)
			return ret;
		count_fault(major, true);
	}
	return FAULT_RESOLVED;
}

static bool access_page(struct mm *mm, u64 addr, void *buf, size_t n, bool write)
{
	enum fault_result ret;
	unsigned tries = 0;

	do {
		reclaim_if_low();
		down_read(&mm->lock);
		ret = copy_page_part(mm, addr, buf, n, write);
		up_read(&mm->lock);
	} while (ret == FAULT_OOM && tries++ < TRIES && reclaim_pages(ROOM));
	return ret == FAULT_RESOLVED;
}

size_t access_remote_vm(struct mm *mm, u64 addr, void *buf, size_t n, bool write)
{
	size_t done = 0, part;

	for (; done < n && addr < USER_END; done += part, addr += part) {
		part = MIN(n - done, PAGE_SIZE - (addr & ~PAGE_MASK));
		if (!access_page(mm, addr, (char *)buf + done, part, write))
			break;
	}
	return done;
}
