/*
 * Memory of each kind, that is written and looked at as who types asks: anonymous memory,
 * persistent memory, a table of the kernel's own, `pages=N` (64) of each, `file=N` of the second.
 * What is written is a nonce of the digit typed, the kind and the page.
 *
 *   hD  write D's to half of the pages, read a quarter, leave a quarter alone
 *   wD  write D's to all
 *   eD  all is as hD left it
 *   aD  all is as wD left it
 *   i   say the VM generation ID
 *   t   start the local APIC's timer, which interrupts nobody: counts down for minutes by 128 ns
 *   n   say what it counts now
 *   q   end with status 7
 *
 * Says "ready", and "done" for each that found what it should.
 */
#include "tests/kvm/guests/lib/guest.h"

#define MEMORY		(16UL << 20)
#define TABLE_PAGES	64
#define KINDS		3

#define LAPIC_LVT_TIMER (FOAL_LAPIC_BASE + 0x320)
#define LAPIC_INITIAL	(FOAL_LAPIC_BASE + 0x380)
#define LAPIC_CURRENT	(FOAL_LAPIC_BASE + 0x390)
#define LAPIC_DIVIDE	(FOAL_LAPIC_BASE + 0x3e0)
#define MASKED		0x10000
#define DIVIDE_BY_128	0xa

static volatile uint64_t table[TABLE_PAGES][PAGE / 8]
    __attribute__((aligned(4096))) = {[0 ... TABLE_PAGES - 1] = {0x7ab1e}};

static uint64_t pages, file, pmem;

static uint64_t address(unsigned kind, uint64_t n)
{
	return kind == 0 ? MEMORY + n * PAGE : kind == 1 ? pmem + n * PAGE : (uint64_t)table[n];
}

static uint64_t original(unsigned kind, uint64_t n)
{
	return kind == 0 ? 0 : kind == 1 ? FILE_PATTERN(n) : 0x7ab1e;
}

static uint64_t nonce(unsigned digit, unsigned kind, uint64_t n)
{
	return GUEST_PATTERN(n) ^ (uint64_t)digit << 32 ^ (uint64_t)kind << 24;
}

static void write_page(unsigned kind, uint64_t n, unsigned digit)
{
	poke(address(kind, n), nonce(digit, kind, n));
	poke(address(kind, n) + PAGE - 8, nonce(digit, kind, n));
}

static void expect_value(unsigned kind, uint64_t n, uint64_t value)
{
	uint64_t found = peek(address(kind, n));

	if (found == value)
		return;
	say("wrong: kind ");
	say_hex(kind);
	say(" page ");
	say_hex(n);
	say(" has ");
	say_hex(found);
	say(" not ");
	say_hex(value);
	say("\n");
	finish(GUEST_BAD_VALUE);
}

static void one_page(char command, unsigned digit, unsigned kind, uint64_t n)
{
	bool written = n % 4 < 2;

	if (command == 'w' || (command == 'h' && written))
		write_page(kind, n, digit);
	else if (command == 'h' && n % 4 == 2)
		expect_value(kind, n, original(kind, n));
	else if (command == 'a' || (command == 'e' && written))
		expect_value(kind, n, nonce(digit, kind, n));
	else if (command == 'e')
		expect_value(kind, n, original(kind, n));
}

static int typed(void)
{
	int c;

	do
		c = heard();
	while (c < 0);
	return c;
}

static void start_timer(void)
{
	poke32(LAPIC_DIVIDE, DIVIDE_BY_128);
	poke32(LAPIC_LVT_TIMER, MASKED | 0x40);
	poke32(LAPIC_INITIAL, ~0U);
	say("done\n");
}

/* False: it asks for something else. */
static bool serve_no_digit(char command)
{
	if (command == 't') {
		start_timer();
	} else if (command == 'i') {
		say_hex(peek(FOAL_VMGENID));
		say_hex(peek(FOAL_VMGENID + 8));
		say("\n");
	} else if (command == 'n') {
		say_hex(peek32(LAPIC_CURRENT));
		say("\n");
	} else {
		return false;
	}
	return true;
}

static void serve(char command)
{
	unsigned digit = 0;

	if (serve_no_digit(command))
		return;
	digit = (unsigned)typed() - '0';
	for (unsigned kind = 0; kind < KINDS; kind++)
		for (uint64_t n = 0; n < (kind == 1 ? file : pages); n++)
			one_page(command, digit, kind, n);
	say("done\n");
}

unsigned guest_main(const struct start_info *info)
{
	(void)info;
	pages = param("pages", TABLE_PAGES);
	file = param("file", pages);
	pmem = pmem_range(0).gpa;
	out8(FOAL_PORT_COM1 + 4, 0x0b); /* DTR, RTS, OUT2: input is welcome */
	say("ready\n");
	for (;;) {
		int c = typed();
		if (c == 'q')
			return 7;
		serve((char)c);
	}
}
