/* Bits of an entry of /proc/self/pagemap (Documentation/admin-guide/mm/pagemap.rst). */
#ifndef FOAL_EPT_PAGEMAP_H
#define FOAL_EPT_PAGEMAP_H

#define PM_PRESENT   (1UL << 63)
#define PM_SWAP	     (1UL << 62)
#define PM_FILE	     (1UL << 61)
#define PM_EXCLUSIVE (1UL << 56)

#endif
