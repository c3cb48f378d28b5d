/*
 * Goes back to its reset point by its bell, `rounds=N` (100) times, each time having changed
 * memory (`pages=`, `stride=` pages apart, from 32 MiB on), registers, model specific
 * registers, the local APIC, serial line, clock and interrupt controller, and page tables;
 * and finds all as it was. `say=1`: a line a round. `same=1`: with the same VM
 * generation ID, `tables=1`: saying that no page table was written, `controls=1`: nor debug
 * registers (which are: they stay as they were changed). `wait=1`: it rings no bell, but
 * waits to be reset. `bare=1`: memory alone; with `move=1` the pages behind those of the round
 * before.
 */
#include "tests/kvm/guests/lib/guest.h"

#define MEMORY		 (32UL << 20)
#define VIRTUAL		 (15UL << 30) /* a gigabyte of addresses that this guest maps itself */
#define SCRATCH		 (FOAL_PORT_COM1 + 7)
#define CMOS_BYTE	 0x70
#define LSTAR		 0xc0000082
#define LAPIC_TPR	 (FOAL_LAPIC_BASE + 0x80)
#define LAPIC_LINT0	 (FOAL_LAPIC_BASE + 0x350)
#define LAPIC_SVR	 (FOAL_LAPIC_BASE + 0xf0)
#define MASKED		 (1U << 16)
#define IOAPIC_INDEX	 FOAL_IOAPIC_BASE
#define IOAPIC_WINDOW	 (FOAL_IOAPIC_BASE + 0x10)
#define PRESENT_WRITABLE 3UL

static uint64_t pages, stride;
static uint64_t directory[512] __attribute__((aligned(4096)));
static uint64_t table[512] __attribute__((aligned(4096)));
static uint64_t frames[2][512] __attribute__((aligned(4096)));

static uint32_t in32(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static uint64_t read_msr(uint32_t msr)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return (uint64_t)high << 32 | low;
}

static void write_msr(uint32_t msr, uint64_t value)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

static void write_cmos(uint8_t value)
{
	out8(FOAL_PORT_RTC, CMOS_BYTE);
	out8(FOAL_PORT_RTC + 1, value);
}

static uint8_t read_cmos(void)
{
	out8(FOAL_PORT_RTC, CMOS_BYTE);
	return in8(FOAL_PORT_RTC + 1);
}

static uint64_t page_of(uint64_t n)
{
	return MEMORY + n * stride * PAGE;
}

/* --- a page that is mapped elsewhere --------------------------------------------------- */

static uint64_t *entry_of(uint64_t *level, uint64_t address, unsigned shift)
{
	return &level[address >> shift & 511];
}

static void load_cr3(void)
{
	uint64_t cr3;

	__asm__ volatile("mov %%cr3, %0; mov %0, %%cr3" : "=r"(cr3) : : "memory");
}

static void map_frame(unsigned n)
{
	*entry_of(table, VIRTUAL, 12) = (uint64_t)frames[n] | PRESENT_WRITABLE;
}

/* Below the start-up code's third level. */
static void set_up_mapping(void)
{
	uint64_t cr3, *level;

	__asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
	level = (uint64_t *)(cr3 & ~0xfffUL);
	level = (uint64_t *)(*entry_of(level, VIRTUAL, 39) & 0xffffffffff000UL);
	*entry_of(directory, VIRTUAL, 21) = (uint64_t)table | PRESENT_WRITABLE;
	*entry_of(level, VIRTUAL, 30) = (uint64_t)directory | PRESENT_WRITABLE;
	frames[0][0] = 0xf0;
	frames[1][0] = 0xf1;
	map_frame(0);
	load_cr3();
	expect(peek(VIRTUAL) == 0xf0, 70);
}

/* --- all that is changed ------------------------------------------------------------------ */

static void set_all(void)
{
	for (uint64_t n = 0; n < pages; n += 2) /* every other is not there yet */
		poke(page_of(n), GUEST_PATTERN(n));
	write_msr(LSTAR, 0x7123456789ab);
	__asm__ volatile("mov %0, %%dr0" : : "r"(0x1000UL));
	poke32(LAPIC_SVR, 0x1ff);
	poke32(LAPIC_TPR, 0x50);
	poke32(LAPIC_LINT0, MASKED | 0x77);
	poke32(IOAPIC_INDEX, 0x12);
	poke32(IOAPIC_WINDOW, MASKED | 0x61);
	out8(SCRATCH, 0xa5);
	write_cmos(0x5a);
	set_up_mapping();
}

static void change_all(uint32_t round)
{
	for (uint64_t n = 0; n < pages; n++)
		poke(page_of(n), ~GUEST_PATTERN(n) + round);
	write_msr(LSTAR, 0x7000 + round);
	__asm__ volatile("mov %0, %%dr0" : : "r"(0x2000UL));
	poke32(LAPIC_TPR, 0x60);
	poke32(LAPIC_LINT0, MASKED | 0x78);
	poke32(IOAPIC_INDEX, 0x12);
	poke32(IOAPIC_WINDOW, MASKED | 0x62);
	out8(SCRATCH, 0x5a);
	write_cmos(0xa5);
	map_frame(1);
	load_cr3();
	expect(peek(VIRTUAL) == 0xf1, 71);
}

/* But for what was said not to have been written, which stays. */
static void check_all(bool kept)
{
	uint64_t dr0;

	expect(peek(VIRTUAL) == 0xf0, 72);
	for (uint64_t n = 0; n < pages; n++)
		expect(peek(page_of(n)) == (n % 2 ? 0 : GUEST_PATTERN(n)), 60);
	expect(read_msr(LSTAR) == 0x7123456789ab, 61);
	__asm__ volatile("mov %%dr0, %0" : "=r"(dr0));
	expect(dr0 == (kept ? 0x2000 : 0x1000), 62);
	expect(peek32(LAPIC_TPR) == 0x50, 63);
	expect(peek32(LAPIC_LINT0) == (MASKED | 0x77), 64);
	poke32(IOAPIC_INDEX, 0x12);
	expect(peek32(IOAPIC_WINDOW) == (MASKED | 0x61), 65);
	expect(in8(SCRATCH) == 0xa5, 66);
	expect(read_cmos() == 0x5a, 67);
}

/* Registers that the compiler keeps for itself over the bell. */
static uint32_t ring(uint8_t what)
{
	uint64_t a = 0x0123456789abcdef, b = ~a, c, d;

	__asm__ volatile("mov %[a], %%r12; mov %[b], %%r13; outb %%al, %%dx;"
			 "mov %%r12, %[c]; mov %%r13, %[d]; xor %%r12, %%r12; xor %%r13, %%r13"
			 : [c] "=&r"(c), [d] "=&r"(d)
			 : [a] "r"(a), [b] "r"(b), "a"(what), "d"(FOAL_PORT_RESET_BELL)
			 : "r12", "r13", "memory", "cc");
	expect(c == a && d == b, 20);
	return in32(FOAL_PORT_RESET_BELL);
}

/* Nothing but the pages and the bell: how long a reset takes. */
static void only_ring(uint64_t rounds, uint8_t how)
{
	uint32_t round = ring(FOAL_RESET_POINT);

	if (round >= rounds)
		finish(GUEST_OK);
	for (uint64_t n = 0; n < pages; n++)
		poke(page_of(n) + (param("move", 0) ? round * PAGE : 0), round + 1);
	ring(how);
	finish(22);
}

/* Told of a reset by the port's count, it finds all as it was, and changes it. */
static void wait_for_resets(void)
{
	uint64_t *counter = (uint64_t *)(MEMORY + 8);
	uint32_t count;

	set_all();
	say("ready\n");
	do {
		*counter += 1;
		count = in32(FOAL_PORT_RESET_BELL);
	} while (count == 0 || count == ~0U);
	check_all(false);
	change_all(count);
	say("changed\n");
	for (;;)
		*counter += 1;
}

unsigned guest_main(const struct start_info *info)
{
	uint64_t rounds = param("rounds", 100);
	uint8_t how = (uint8_t)(FOAL_RESET_BACK | (param("same", 0) ? FOAL_RESET_SAME : 0) |
				(param("tables", 0) ? FOAL_RESET_TABLES : 0) |
				(param("controls", 0) ? FOAL_RESET_CONTROLS : 0));
	uint32_t round;

	(void)info;
	pages = param("pages", 64);
	stride = param("stride", 3);
	expect(in32(FOAL_PORT_RESET_BELL) == ~0U, 10);
	ring(how); /* there is no point: nothing happens */
	if (param("bare", 0))
		only_ring(rounds, how);
	if (param("wait", 0))
		wait_for_resets();
	set_all();
	round = ring(FOAL_RESET_POINT);
	check_all(round && how & FOAL_RESET_CONTROLS);
	if (param("say", 0)) {
		say_hex(round);
		say("\n");
	}
	if (round == rounds)
		return GUEST_OK;
	change_all(round);
	ring(how);
	return 21; /* the bell does not come back here */
}
