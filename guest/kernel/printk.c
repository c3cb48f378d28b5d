/* Formatted messages, and the end that panic makes. */
#include "guest/include/printk.h"
#include "guest/include/boot.h"
#include "guest/include/console.h"
#include "guest/include/cpu.h"
#include "guest/include/smp.h"
#include "guest/include/string.h"
#include "guest/include/trap.h"

#define EXIT_PANIC 70

struct out {
	char *buf;
	size_t size, len;
};

struct spec {
	bool left, zero;
	int width, precision; /* precision -1: none */
};

static void put(struct out *o, char c)
{
	if (o->len + 1 < o->size)
		o->buf[o->len] = c;
	o->len++;
}

static void put_padded(struct out *o, const char *s, int len, const struct spec *sp)
{
	int pad = sp->width - len;

	if (!sp->left)
		for (; pad > 0; pad--)
			put(o, ' ');
	while (len--)
		put(o, *s++);
	for (; pad > 0; pad--)
		put(o, ' ');
}

static void put_number(struct out *o, u64 v, unsigned base, bool negative, const struct spec *sp)
{
	char tmp[64];
	int i = sizeof(tmp);

	do
		tmp[--i] = "0123456789abcdef"[v % base];
	while (v /= base);
	if (sp->zero && !sp->left)
		while ((int)sizeof(tmp) - i < MIN(sp->width - negative, 60))
			tmp[--i] = '0';
	if (negative)
		tmp[--i] = '-';
	put_padded(o, tmp + i, (int)sizeof(tmp) - i, sp);
}

static void put_string(struct out *o, const char *s, const struct spec *sp)
{
	int len = 0;

	if (!s)
		s = "(null)";
	while (s[len] && (sp->precision < 0 || len < sp->precision))
		len++;
	put_padded(o, s, len, sp);
}

static const char *parse_spec(const char *f, struct spec *sp, bool *is_long)
{
	*sp = (struct spec){.precision = -1};
	for (; *f == '0' || *f == '-'; f++)
		*(*f == '0' ? &sp->zero : &sp->left) = true;
	for (; *f >= '0' && *f <= '9'; f++)
		sp->width = sp->width * 10 + *f - '0';
	if (*f == '.')
		for (f++, sp->precision = 0; *f >= '0' && *f <= '9'; f++)
			sp->precision = sp->precision * 10 + *f - '0';
	for (*is_long = false; *f == 'l' || *f == 'z'; f++)
		*is_long = true;
	return f;
}

int vsnprintf(char *buf, size_t size, const char *fmt, va_list ap)
{
	struct out o = {buf, size, 0};

	for (const char *f = fmt; *f; f++) {
		struct spec sp;
		bool is_long;
		s64 v;
		char c;

		if (*f != '%') {
			put(&o, *f);
			continue;
		}
		f = parse_spec(f + 1, &sp, &is_long);
		switch (*f) {
		case 'd':
		case 'i':
			v = is_long ? va_arg(ap, long) : va_arg(ap, int);
			put_number(&o, v < 0 ? -(u64)v : (u64)v, 10, v < 0, &sp);
			break;
		case 'u':
		case 'x':
			put_number(&o, is_long ? va_arg(ap, unsigned long) : va_arg(ap, unsigned),
				   *f == 'u' ? 10 : 16, false, &sp);
			break;
		case 'p':
			put_number(&o, (u64)va_arg(ap, void *), 16, false, &sp);
			break;
		case 's':
			put_string(&o, va_arg(ap, const char *), &sp);
			break;
		case 'c':
			c = (char)va_arg(ap, int);
			put_padded(&o, &c, 1, &sp);
			break;
		default:
			put(&o, *f);
		}
		if (!*f)
			break;
	}
	if (size)
		buf[MIN(o.len, size - 1)] = '\0';
	return (int)o.len;
}

int snprintf(char *buf, size_t size, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(buf, size, fmt, ap);
	va_end(ap);
	return n;
}

static void vprintk(const char *fmt, va_list ap)
{
	char line[512];
	int n = vsnprintf(line, sizeof(line), fmt, ap);

	console_write(line, MIN((size_t)n, sizeof(line) - 1));
}

void printk(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintk(fmt, ap);
	va_end(ap);
}

void pr_info(const char *fmt, ...)
{
	va_list ap;

	if (boot_info.quiet)
		return;
	va_start(ap, fmt);
	vprintk(fmt, ap);
	va_end(ap);
}

void panic(const char *fmt, ...)
{
	va_list ap;

	__asm__ volatile("cli");
	smp_send_stop();
	console_break_lock();
	printk("panic: ");
	va_start(ap, fmt);
	vprintk(fmt, ap);
	va_end(ap);
	printk("\n");
	dump_stack((u64)__builtin_frame_address(0));
	machine_exit(EXIT_PANIC);
}
