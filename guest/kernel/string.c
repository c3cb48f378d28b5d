/* Memory and string functions. Whole words at a time: an emulated ring 0 pays by instruction. */
#include "guest/include/string.h"
#include "guest/include/page.h"

/* Unaligned words may alias anything. */
typedef u64 word __attribute__((may_alias, aligned(1)));

void *memset(void *dst, int byte, size_t n)
{
	u8 *d = dst;
	u64 w = (u8)byte * 0x0101010101010101UL;

	for (; n >= 32; n -= 32, d += 32) {
		((word *)d)[0] = w;
		((word *)d)[1] = w;
		((word *)d)[2] = w;
		((word *)d)[3] = w;
	}
	for (; n >= 8; n -= 8, d += 8)
		*(word *)d = w;
	while (n--)
		*d++ = (u8)byte;
	return dst;
}

void *memcpy(void *dst, const void *src, size_t n)
{
	u8 *d = dst;
	const u8 *s = src;

	for (; n >= 32; n -= 32, d += 32, s += 32) {
		u64 a = ((const word *)s)[0], b = ((const word *)s)[1];
		u64 c = ((const word *)s)[2], e = ((const word *)s)[3];

		((word *)d)[0] = a;
		((word *)d)[1] = b;
		((word *)d)[2] = c;
		((word *)d)[3] = e;
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

/* Unrolled by hand: the compiler does not, and the loop's own instructions cost as much. */
#define ZERO4(d)  (d)[0] = (d)[1] = (d)[2] = (d)[3] = 0
#define ZERO16(d) ZERO4(d), ZERO4((d) + 4), ZERO4((d) + 8), ZERO4((d) + 12)

void clear_page(void *page)
{
	u64 *d = page;

	for (u64 *end = d + PAGE_SIZE / 8; d < end; d += 32)
		ZERO16(d), ZERO16(d + 16);
}

static inline void move4(u64 *d, const u64 *s)
{
	u64 a = s[0], b = s[1], c = s[2], e = s[3];

	d[0] = a;
	d[1] = b;
	d[2] = c;
	d[3] = e;
}

void copy_page(void *dst, const void *src)
{
	u64 *d = dst;
	const u64 *s = src;

	for (u64 *end = d + PAGE_SIZE / 8; d < end; d += 16, s += 16) {
		move4(d, s);
		move4(d + 4, s + 4);
		move4(d + 8, s + 8);
		move4(d + 12, s + 12);
	}
}
