/* Formatted output: a small subset of printf, one write a call. */
#include "guest/user/lib/user.h"

/* Where text goes; what does not fit is dropped. */
struct sink {
	char *at;
	char *end; /* one byte is kept for the ending zero */
};

struct spec {
	unsigned width;
	bool zero;
	bool wide; /* l or z: the argument is 64 bits */
};

static void put(struct sink *out, char c)
{
	if (out->at < out->end)
		*out->at++ = c;
}

static void put_padded(struct sink *out, const struct spec *spec, const char *s, size_t len)
{
	for (size_t n = len; n < spec->width; n++)
		put(out, spec->zero ? '0' : ' ');
	while (len--)
		put(out, *s++);
}

static void put_number(struct sink *out, const struct spec *spec, uint64_t n, unsigned base,
		       bool negative)
{
	char digits[24];
	char *at = digits + sizeof(digits);

	do {
		*--at = "0123456789abcdef"[n % base];
		n /= base;
	} while (n);
	if (negative)
		*--at = '-';
	put_padded(out, spec, at, (size_t)(digits + sizeof(digits) - at));
}

static const char *parse_spec(const char *fmt, struct spec *spec)
{
	*spec = (struct spec){.zero = *fmt == '0'};
	while (*fmt >= '0' && *fmt <= '9')
		spec->width = spec->width * 10 + (unsigned)(*fmt++ - '0');
	while (*fmt == 'l' || *fmt == 'z') {
		spec->wide = true;
		fmt++;
	}
	return fmt;
}

size_t vformat(char *buf, size_t size, const char *fmt, va_list ap)
{
	struct sink out = {.at = buf, .end = buf + size - 1};
	struct spec spec;

	if (!size)
		return 0;
	for (; *fmt; fmt++) {
		if (*fmt != '%') {
			put(&out, *fmt);
			continue;
		}
		fmt = parse_spec(fmt + 1, &spec);
		if (*fmt == 's') {
			const char *s = va_arg(ap, const char *);

			put_padded(&out, &spec, s, strlen(s));
		} else if (*fmt == 'c') {
			put(&out, (char)va_arg(ap, int));
		} else if (*fmt == 'd') {
			int64_t n = spec.wide ? va_arg(ap, int64_t) : va_arg(ap, int);

			put_number(&out, &spec, n < 0 ? -(uint64_t)n : (uint64_t)n, 10, n < 0);
		} else if (*fmt == 'u' || *fmt == 'x') {
			uint64_t n = spec.wide ? va_arg(ap, uint64_t) : va_arg(ap, unsigned);

			put_number(&out, &spec, n, *fmt == 'u' ? 10 : 16, false);
		} else if (*fmt == '%') {
			put(&out, '%');
		} else {
			break; /* unknown, or the format ended early */
		}
	}
	*out.at = 0;
	return (size_t)(out.at - buf);
}

size_t format(char *buf, size_t size, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	size_t len = vformat(buf, size, fmt, ap);
	va_end(ap);
	return len;
}

void print(const char *fmt, ...)
{
	char buf[512];
	va_list ap;

	va_start(ap, fmt);
	size_t len = vformat(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	sys_write(1, buf, len);
}
