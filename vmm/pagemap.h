/* The page map of a process that may not open its own. Private to vmm/. */
#ifndef FOAL_VMM_PAGEMAP_H
#define FOAL_VMM_PAGEMAP_H

#include <sys/types.h>

/* Open /proc/@pid/pagemap, as ept_pagemap_open() does. */
int pagemap_of(pid_t pid);

#endif
