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

#define EPT_HOST_THERE 1 /* something is mapped there */
#define EPT_HOST_COPY  2 /* and it is no page of a file */

/* Of anonymous memory, one byte a page into @vec: EPT_HOST_THERE. mincore(2)'s errors. */
int ept_host_present(void *hva, size_t len, unsigned char *vec);

/*
 * Of any memory, both bits. @pagemap: /proc/self/pagemap. 0 or -errno: -EBADF without it.
 * mincore(2) would tell of a file what its page cache has.
 */
int ept_host_pages(int pagemap, const void *hva, size_t pages, unsigned char *vec);

/*
 * Of any memory, 1 for each page that is no page of a file and holds something, be it in the
 * host's swap. @pagemap, errors: as above.
 */
int ept_host_copies(int pagemap, const void *hva, size_t pages, unsigned char *vec);

/*
 * How many of @pages pages from @hva on are somebody's: present, and not the shared
 * zero page. @pagemap: /proc/self/pagemap, or negative: 0.
 */
uint64_t ept_host_own_pages(int pagemap, const void *hva, uint64_t pages);

/*
 * Is there, for sure, none that is somebody's among them, nor one that the host has swapped out?
 * Not sure without @pagemap.
 */
bool ept_host_nothing(int pagemap, const void *hva, uint64_t pages);

/* Is there, for sure, nothing at all at @hva: no page, nor one that the host has swapped out? */
bool ept_host_empty(int pagemap, const void *hva);

/* Is there a @pagemap to ask? */
bool ept_host_tells(int pagemap);

/* Faults that this process ever had: all its threads, KVM_RUN too. */
uint64_t ept_host_faults(void);

#endif
