/* Mappings, for mmap and fork; mm.lock is held. The fault path's part is in mm.h. */
#ifndef GUEST_VMA_H
#define GUEST_VMA_H

#include "guest/include/mm.h"

/* Nothing is mapped below: a NULL pointer with a small offset must fault. */
#define MMAP_MIN_ADDR 0x10000UL

/* Not yet inserted; takes its own reference of inode (NULL: anonymous). NULL without memory. */
struct vma *vma_create(struct mm *mm, u64 start, u64 end, unsigned flags, struct inode *inode,
		       u64 pgoff);
/* The same mapping for mm (another one, or the same after a split). */
struct vma *vma_clone(struct mm *mm, const struct vma *old);
/* For one that is not inserted. */
void vma_free(struct vma *vma);
/* Adds a mapping that overlaps no other. 0, -ENOMEM. */
int vma_insert(struct mm *mm, struct vma *vma);
/* Splits so that no mapping crosses start or end. 0, -ENOMEM; -EINVAL inside a pool's page. */
int vma_split(struct vma *vma, u64 at);
int vma_split_range(struct mm *mm, u64 start, u64 end);
/*
 * Mappings that touch and differ in nothing become one, from the one below start to the one that
 * ends above end.
 */
void vma_merge_range(struct mm *mm, u64 start, u64 end);
/* Bytes rounded up to pages; false if that, or the range, leaves the user half. */
bool page_range(u64 addr, u64 *len);
/* Do the pages of that many bytes go on behind the last address, or are there none? */
bool wraps(u64 addr, u64 len);
/* Whether mappings cover [start, end) without a gap. */
bool vma_covers(struct mm *mm, u64 start, u64 end);
/*
 * Brings in what is not there of [start, end); write: ready to be written where the mapping allows
 * it, of shared ones only if asked, for just that, too: -EINVAL then where it does not. Or 0,
 * -ENOMEM (also at a gap), -EFAULT.
 */
int populate_range(struct mm *mm, u64 start, u64 end, bool write, bool asked);
/* What is done to [start, end) of a mapping. 0 or negative errno. */
typedef int (*vma_fn)(struct vma *vma, u64 start, u64 end, int arg);
/* Calls fn for what is mapped of the range; -ENOMEM in the end if not all of it was. */
int for_each_mapped(struct mm *mm, u64 start, u64 end, vma_fn fn, int arg);
/*
 * Whether that many pages more are within the task's limits: all there are, and what programs call
 * data (private and writable, no stack).
 */
bool may_expand(const struct mm *mm, unsigned flags, u64 pages);
/* Pages of the mappings that have all of the flags in `mask` as in `want`. */
u64 vma_pages(const struct mm *mm, unsigned mask, unsigned want);
#define VM_DATA_MASK (VM_WRITE | VM_SHARED | VM_GROWSDOWN)
/* The highest gap of len bytes below mm->mmap_base, or 0. */
u64 vma_find_gap(struct mm *mm, u64 len);

#endif
