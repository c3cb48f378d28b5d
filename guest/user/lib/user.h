/*
 * The whole runtime of the guest's user programs: no libc, no allocation, no
 * state. Functions that can fail return a negative errno, as the kernel does.
 */
#ifndef FOAL_USER_H
#define FOAL_USER_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/user/lib/syscall.h"

enum { PAGE_SIZE = 4096 };

int main(int argc, char **argv);

void *memcpy(void *restrict dst, const void *restrict src, size_t len);
void *memset(void *dst, int byte, size_t len);
int memcmp(const void *a, const void *b, size_t len);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);

/*
 * A decimal number, all of `s`, no larger than `max`. False, and *value as it
 * was, if it is anything else.
 */
bool parse_number(const char *s, uint64_t max, uint64_t *value);

/*
 * Understands %s %c %d %u %x %%, with l or z and a width, zero-filled if it
 * starts with 0. Never writes more than `size` bytes, the ending zero included;
 * returns the length it wrote.
 */
size_t vformat(char *buf, size_t size, const char *fmt, va_list ap);
size_t format(char *buf, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Formats up to 511 bytes and writes them with one system call, so lines stay whole. */
void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A whole file, mapped. The descriptor is closed again; the mapping holds the file. */
struct mapping {
	uint8_t *data;
	size_t len; /* bytes of the file; the mapping is rounded up to pages */
};

/* Maps all of `path`: MAP_PRIVATE or MAP_SHARED, for writing too if `writable`. */
int map_file(const char *path, bool writable, int map_flags, struct mapping *map);
void unmap(struct mapping *map);

/* Nanoseconds since some fixed moment. */
uint64_t now_ns(void);
void sleep_ms(unsigned ms);

#endif
