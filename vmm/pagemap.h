/* The page map of a process that may not open its own. Private to vmm/. */
#ifndef FOAL_VMM_PAGEMAP_H
#define FOAL_VMM_PAGEMAP_H

#include <sys/types.h>

/*
 * Open /proc/@pid/pagemap: a descriptor, or a negative errno. Which host pages it has the map does
 * not say, even if root opens it.
 */
int pagemap_of(pid_t pid);

#endif
