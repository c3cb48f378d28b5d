/*
 * Own memory by 2 MiB ("transparent huge pages"): one page of 512 frames, mapped by one entry in
 * the table above the lowest. References and the group's charge are counted at its first frame.
 *
 * An entry that has to cover less is taken apart. If it was all that had the page, the page becomes
 * 512 of its own; else the frames behind the first are its tails from then on, and the entries of
 * the lowest table share it (compound_head in page.h).
 */
#ifndef GUEST_HUGE_H
#define GUEST_HUGE_H

#include "guest/include/mm.h"

/* Where 2 MiB are tried: as the command line says, transparent_hugepage=. */
enum thp_mode { THP_MADVISE, THP_ALWAYS, THP_NEVER };
extern enum thp_mode thp_mode;

/* Live pages of 2 MiB, and whether the one all zero is there. */
u64 nr_huge_pages(void);
bool huge_zero_present(void);
/* One more entry maps that one (NULL: there is no memory for it); one less. */
struct page *huge_zero_get(void);
void huge_zero_put(void);
/* Gives the one all zero back if nobody maps it; pages that came free. */
u64 huge_zero_shrink(void);

/* Whether the 2 MiB around addr may be mapped as one. */
bool huge_allowed(const struct vma *vma, u64 addr);

/*
 * A fault where 2 MiB are mapped as one, or may be. FAULT_FALLBACK: it is to be handled in the
 * lowest table.
 */
enum fault_result do_huge_fault(struct fault *f);

/* --- mm.table_lock held ---------------------------------------------------------------------- */

/* No entry of 2 MiB crosses addr; none lies in [start, end), even in part. */
void split_huge_at(struct mm *mm, u64 addr);
void split_huge_range(struct mm *mm, u64 start, u64 end);
/* zap.c's functions, for what [start, end) maps by 2 MiB. True: the TLB has to be flushed. */
bool zap_huge_range(struct vma *vma, u64 start, u64 end);
void protect_huge_range(struct vma *vma, u64 start, u64 end);
int copy_huge_range(struct vma *dst, struct vma *src);

/* The locked page, to which the caller has a reference, becomes 512, if one entry alone maps it. */
bool split_huge_page(struct page *head);

/* A page of 2 MiB for vma at haddr, charged; NULL where single pages have to do. */
struct page *huge_page_alloc(struct vma *vma, u64 haddr, unsigned gfp);
/* From put_page and a split: it is none any more. */
void huge_page_gone(void);
/* The entry is set, and takes over the caller's reference; cleared, with that. table_lock held. */
void huge_set(struct mm *mm, pte_t *pmd, struct page *page, pte_t pte);
void huge_clear(struct mm *mm, pte_t *pmd);
/* The fault on an entry of 2 MiB that grants the access. */
enum fault_result huge_pmd_set_accessed(struct fault *f);
/* rmap.c's, for split_huge_page: whether the entry was all that had the page; it is split then. */
bool split_sole_entry(struct vma *vma, u64 addr, pte_t *entry);

/* MADV_COLLAPSE, mm.lock had for writing: 0, -EINVAL, -ENOMEM, -EAGAIN. */
int collapse_range(struct vma *vma, u64 start, u64 end);

#endif
