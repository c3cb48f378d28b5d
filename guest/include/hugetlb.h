/*
 * Memory by 2 MiB from a pool that is set aside at boot (MAP_HUGETLB; hugepages= on the command
 * line). What a mapping may need is reserved when it is made, so a fault finds no page only where
 * nothing was: MAP_NORESERVE, a fork's child, memory that a fork shares.
 *
 * A private mapping that reserves has one reservation for each 2 MiB that nothing is mapped in; an
 * object of shared ones, in inode->private, for each that it has no page of.
 */
#ifndef GUEST_HUGETLB_H
#define GUEST_HUGETLB_H

#include "guest/include/mm.h"

extern const struct vm_ops hugetlb_vm_ops;

/* Pages of 2 MiB. */
struct hugetlb_counts {
	u64 total, free, reserved;
};
struct hugetlb_counts hugetlb_counts(void);

/* At boot: sets that many aside, or as many as there are; how many. */
u64 hugetlb_init(u64 pages);

/* False: they are not there. */
bool hugetlb_reserve(u64 pages);
void hugetlb_unreserve(u64 pages);

/* From put_page: nobody has it any more. */
void hugetlb_page_free(struct page *page);

enum fault_result hugetlb_fault(struct fault *f);

/* Under table_lock, both ends multiples of 2 MiB. True: the TLB has to be flushed. */
bool zap_hugetlb_range(struct vma *vma, u64 start, u64 end);
/* The mapping goes, and nothing is mapped there any more. */
void hugetlb_close(const struct vma *vma);

#endif
