/* A size for people. */
#ifndef FOAL_VMM_SIZE_TEXT_H
#define FOAL_VMM_SIZE_TEXT_H

#include <stdint.h>

/* @n bytes as "3.4 MiB", in one of eight buffers, so that several fit one printf. One thread. */
const char *size_text(uint64_t n);

#endif
