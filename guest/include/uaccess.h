/*
 * User memory from the kernel. A bad address is no accident of the kernel's: the access ends short
 * and the call returns -EFAULT. May sleep (the page is faulted in), so: process context, no
 * spinlock held, mm.lock not held.
 */
#ifndef GUEST_UACCESS_H
#define GUEST_UACCESS_H

#include "guest/include/types.h"

/* Is all of it below the kernel, mapped or not, or the task's own_buffer? */
bool user_range(u64 addr, size_t n);

/* Bytes that could not be copied: 0 is success. */
size_t copy_to_user(u64 dst, const void *src, size_t n);
size_t copy_from_user(void *dst, u64 src, size_t n);
size_t clear_user(u64 dst, size_t n);

/* A terminated string: its length, -EFAULT, or -ENAMETOOLONG if size is too small. */
s64 strncpy_from_user(char *dst, u64 src, size_t size);

#endif
