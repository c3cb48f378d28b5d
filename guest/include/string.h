/* The C library's memory and string functions, with the C library's contracts. */
#ifndef GUEST_STRING_H
#define GUEST_STRING_H

#include "guest/include/types.h"

void *memset(void *dst, int byte, size_t n);
void *memcpy(void *dst, const void *src, size_t n);
void *memmove(void *dst, const void *src, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
char *strchr(const char *s, int c);

/* Not the C library's: whole frames, page-aligned. */
void clear_page(void *page);
void copy_page(void *dst, const void *src);

#endif
