#include "tests/kvm/guests/lib/guest.h"

static const struct start_info *boot;

void finish(unsigned status)
{
	for (;;)
		out8(FOAL_PORT_EXIT, (uint8_t)status);
}

void guest_start(const struct start_info *info)
{
	boot = info;
	expect(info->magic == FOAL_PVH_MAGIC && info->version >= 1, GUEST_BAD_INFO);
	finish(guest_main(info));
}

void say_char(char c)
{
	while (!(in8(FOAL_PORT_COM1 + 5) & 0x20)) /* transmitter empty */
		;
	out8(FOAL_PORT_COM1, (uint8_t)c);
}

void say(const char *text)
{
	while (*text)
		say_char(*text++);
}

void say_hex(uint64_t value)
{
	for (int shift = 60; shift >= 0; shift -= 4)
		say_char("0123456789abcdef"[value >> shift & 15]);
}

int heard(void)
{
	if (!(in8(FOAL_PORT_COM1 + 5) & 1)) /* data ready */
		return -1;
	return in8(FOAL_PORT_COM1);
}

const char *command_line(void)
{
	return (const char *)boot->cmdline;
}

/* What follows `key=` at the start of a word, or NULL. */
static const char *find_param(const char *key)
{
	const char *at = command_line();

	while (*at) {
		size_t n = 0;
		while (key[n] && at[n] == key[n])
			n++;
		if (!key[n] && at[n] == '=')
			return at + n + 1;
		while (*at && *at != ' ')
			at++;
		while (*at == ' ')
			at++;
	}
	return NULL;
}

uint64_t param(const char *key, uint64_t fallback)
{
	const char *at = find_param(key);
	uint64_t base = 10, value = 0;

	if (!at)
		return fallback;
	if (at[0] == '0' && at[1] == 'x') {
		base = 16;
		at += 2;
	}
	for (; *at && *at != ' '; at++) {
		uint64_t digit = *at >= 'a' ? (uint64_t)(*at - 'a') + 10 : (uint64_t)(*at - '0');
		expect(digit < base, GUEST_BAD_PARAM);
		value = value * base + digit;
	}
	return value;
}

bool param_is(const char *key, const char *value)
{
	const char *at = find_param(key);

	if (!at)
		return false;
	while (*value && *at == *value) {
		at++;
		value++;
	}
	return !*value && (!*at || *at == ' ');
}

struct memmap_entry memory_range(uint32_t type, unsigned index)
{
	const struct memmap_entry *map = (const struct memmap_entry *)boot->memmap;

	for (uint32_t i = 0; i < boot->memmap_count; i++) {
		if (map[i].type == type && index-- == 0)
			return map[i];
	}
	return (struct memmap_entry){0};
}

static uint64_t ticks(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

static void rest_for(uint64_t count)
{
	for (uint64_t end = ticks() + count; count && ticks() < end;)
		;
}

static void read_pages(uint64_t base, uint64_t first, uint64_t pages, uint64_t stride, bool is_file)
{
	uint64_t rest = param("rest", 0);

	for (uint64_t i = 0, n = first; i < pages; i++, n += stride) {
		expect(peek(base + n * PAGE) == (is_file ? FILE_PATTERN(n) : 0), GUEST_BAD_VALUE);
		rest_for(rest);
	}
}

static void write_pages(uint64_t base, uint64_t first, uint64_t pages, uint64_t stride)
{
	for (uint64_t i = 0, n = first; i < pages; i++, n += stride)
		poke(base + n * PAGE, GUEST_PATTERN(n));
	for (uint64_t i = 0, n = first; i < pages; i++, n += stride)
		expect(peek(base + n * PAGE) == GUEST_PATTERN(n), GUEST_BAD_VALUE);
}

void sweep(uint64_t base, bool is_file)
{
	uint64_t first = param("first", 0), pages = param("pages", 64), stride = param("stride", 1);
	bool both = param_is("mode", "rw");

	expect(both || param_is("mode", "r") || param_is("mode", "w"), GUEST_BAD_PARAM);
	if (both || param_is("mode", "r"))
		read_pages(base, first, pages, stride, is_file);
	if (both || param_is("mode", "w"))
		write_pages(base, first, pages, stride);
}
