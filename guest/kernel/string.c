/* Memory and string functions. Whole words at a time: an emulated ring 0 pays by instruction. */
#include "guest/include/string.h"
#include "guest/include/page.h"

/* Unaligned words may alias anything. */
typedef u64 word __attribute__((may_alias, aligned(1)));

/*
 * String instructions from here on: short runs do not pay for their start, long ones are the
 * processor's fastest, and cost an emulated ring 0 less than half of what single moves do.
 */
#define REP_MIN 64

static inline void rep_stos(void *dst, u64 w, size_t words)
{
	__asm__ volatile("rep stosq" : "+D"(dst), "+c"(words) : "a"(w) : "memory");
}

static inline void rep_movs(void *dst, const void *src, size_t words)
{
	__asm__ volatile("rep movsq" : "+D"(dst), "+S"(src), "+c"(words)::"memory");
}

void *memset(void *dst, int byte, size_t n)
{
	u64 w = (u8)byte * 0x0101010101010101UL;
	u8 *d = dst;

	if (n >= REP_MIN) {
		rep_stos(d, w, n / 8);
		d += n & ~7UL;
		n &= 7;
	}
	for (; n >= 8; n -= 8, d += 8)
		*(word *)d = w;
	while (n--)
		*d++ = (u8)byte;
	return dst;
}

void *memcpy(void *dst, const void *src, size_t n)
{
	const u8 *s = src;
	u8 *d = dst;

	if (n >= REP_MIN) {
		rep_movs(d, s, n / 8);
		d += n & ~7UL;
		s += n & ~7UL;
		n &= 7;
	}
	for (; n >= 8; n -= 8, d += 8, s += 8)
		*(word *)d = *(const word *)s;
	while (n--)
		*d++ = *s++;
	return dst;
}

void *memmove(void *dst, const void *src, size_t n)
{
	u8 *d = dst;
	const u8 *s = src;

	if (d <= s || d >= s + n)
		return d == s ? dst : memcpy(dst, src, n);
	for (; n >= 8; n -= 8)
		*(word *)(d + n - 8) = *(const word *)(s + n - 8);
	while (n--)
		d[n] = s[n];
	return dst;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const u8 *x = a, *y = b;

	for (; n; n--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

size_t strlen(const char *s)
{
	const char *p = s;

	while (*p)
		p++;
	return (size_t)(p - s);
}

int strcmp(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return (u8)*a - (u8)*b;
}

int strncmp(const char *a, const char *b, size_t n)
{
	for (; n; n--, a++, b++)
		if (*a != *b || !*a)
			return (u8)*a - (u8)*b;
	return 0;
}

char *strchr(const char *s, int c)
{
	for (;; s++) {
		if (*s == (char)c)
			return (char *)s;
		if (!*s)
			return NULL;
	}
}

void clear_page(void *page)
{
	rep_stos(page, 0, PAGE_SIZE / 8);
}

void copy_page(void *dst, const void *src)
{
	rep_movs(dst, src, PAGE_SIZE / 8);
}
