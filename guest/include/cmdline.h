/* The part of the command line that is init's. */
#ifndef GUEST_CMDLINE_H
#define GUEST_CMDLINE_H

#include "guest/include/types.h"

/*
 * The words after "--", copied terminated into buf and pointed to by argv; those that do not fit
 * size or max are left out. Returns their number. Device words (virtio_mmio.device=), which
 * monitors append to the whole line, are not init's.
 */
unsigned cmdline_init_args(char *buf, size_t size, const char **argv, unsigned max);

#endif
