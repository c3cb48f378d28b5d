/*
 * What the host kernel has of memory that it backs by itself: read from its own
 * tables, nothing is touched or brought in.
 */
#ifndef FOAL_EPT_HOST_PAGES_H
#define FOAL_EPT_HOST_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Does the host give huge pages to memory that asks for them? Opens a file of /sys. */
bool ept_host_gives_huge(void);

/* One byte a page into @vec, bit 0: something is mapped there. mincore(2)'s errors. */
int ept_host_present(void *hva, size_t len, unsigned char *vec);

/*
 * How many of @pages pages from @hva on are somebody's: present, and not the shared
 * zero page. @pagemap: /proc/self/pagemap, or negative: 0.
 */
uint64_t ept_host_own_pages(int pagemap, const void *hva, uint64_t pages);

/* Faults that this process ever had without reading a disk: all its threads, KVM_RUN too. */
uint64_t ept_host_minor_faults(void);

#endif
