/* The steps of the boot that bring memory up, in the order kernel_main takes them. */
#ifndef GUEST_MM_INIT_H
#define GUEST_MM_INIT_H

#include "guest/include/types.h"

/* What the boot page tables map, from physical address 0. */
#define BOOT_MAPPED (1UL << 30)

/* From head.S, on the boot stack. */
void kernel_main(u64 start_info_phys) __attribute__((noreturn));

/* Fills boot_info from the PVH start info at that physical address. */
void pvh_parse(u64 start_info_phys);

/* Direct map of RAM, kernel mapped W^X, boot mappings gone. */
void paging_init(void);

/* A zeroed page for a page table before there is a page allocator; never freed. */
void *early_alloc_page(void);

/* Ends that: the first physical address behind the early pages. */
u64 early_alloc_end(void);

/* mem_map and the free ranges; after this come no more early pages. */
void page_alloc_init(void);

#endif
