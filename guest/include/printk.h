/*
 * Messages to the console. All of these may be called from any context. The format knows
 * %d %i %u %x %p %s %c %%, the flags '0' and '-', width, precision for %s, and the length
 * modifiers l, ll and z.
 */
#ifndef GUEST_PRINTK_H
#define GUEST_PRINTK_H

#include "guest/include/types.h"
#include <stdarg.h>

/* Always printed: errors, and what the run is about. */
void printk(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Left out with `quiet` on the command line: the progress of the boot. */
void pr_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Formats into buf, always terminated; returns the length that was needed, as snprintf. */
int snprintf(char *buf, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int vsnprintf(char *buf, size_t size, const char *fmt, va_list ap);

/* The kernel cannot go on: message, registers, call trace, exit status 70. */
void panic(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

/* For what only a bug of this kernel can bring about; never for input. */
#define BUG_ON(cond) \
	do { \
		if (unlikely(cond)) \
			panic("bug at %s:%d: %s", __FILE__, __LINE__, #cond); \
	} while (0)

#endif
