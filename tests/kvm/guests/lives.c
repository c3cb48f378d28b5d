/*
 * Two processors (one with `cpus=1`) that set what a processor and devices remember and
 * look, `rounds=N` (400) times, whether it is still so: registers, debug and model
 * specific registers, the local APIC and its timer, the IOAPIC, serial line and clock,
 * memory. They take turns by a word that both write. Time never goes back.
 */
#include "tests/kvm/guests/lib/guest.h"

#define LAPIC(reg)	(FOAL_LAPIC_BASE + (reg))
#define LAPIC_TPR	LAPIC(0x80)
#define LAPIC_SVR	LAPIC(0xf0)
#define LAPIC_IRR	LAPIC(0x200)
#define LAPIC_LVT_TIMER LAPIC(0x320)
#define LAPIC_LVT_LINT0 LAPIC(0x350)
#define LAPIC_INITIAL	LAPIC(0x380)
#define LAPIC_DIVIDE	LAPIC(0x3e0)
#define DIVIDE_BY_1	0xb
#define MASKED		(1u << 16)
#define FIRST_VECTOR	0x30
#define LAST_VECTOR	0xef

#define IOAPIC_INDEX	FOAL_IOAPIC_BASE
#define IOAPIC_WINDOW	(FOAL_IOAPIC_BASE + 0x10)
#define SCRATCH		(FOAL_PORT_COM1 + 7)
#define CMOS_BYTE	0x70
#define MEMORY		(16UL << 20)
#define MEMORY_PAGES	64

#define SYSENTER_CS	0x174
#define PAT		0x277
#define STAR		0xc0000081
#define LSTAR		0xc0000082
#define KERNEL_GS_BASE	0xc0000102

static const struct {
	uint32_t index;
	uint64_t value;
} msrs[] = {
    {SYSENTER_CS, 0x1234},
    {PAT, 0x0007040600070406},
    {STAR, 0x1111222233334444},
    {LSTAR, 0x00007123456789ab},
    {KERNEL_GS_BASE, 0x0000543212345678},
};

static uint64_t rounds, cpus;
static volatile uint64_t turn;
static volatile uint32_t ap_done;

static void write_msr(uint32_t msr, uint64_t value)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

static uint64_t read_msr(uint32_t msr)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return (uint64_t)high << 32 | low;
}

static uint64_t time_stamp(void)
{
	uint32_t low, high;

	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

static uint32_t ioapic(uint32_t index)
{
	poke32(IOAPIC_INDEX, index);
	return peek32(IOAPIC_WINDOW);
}

static uint8_t cmos(void)
{
	out8(FOAL_PORT_RTC, CMOS_BYTE);
	return in8(FOAL_PORT_RTC + 1);
}

/* --- what is of one processor -------------------------------------------------------- */

/* A class alone: on AMD, KVM takes the priority back from CR8, which has no more of it. */
static uint32_t task_priority(uint64_t cpu)
{
	return 0x50 + 0x10 * (uint32_t)cpu;
}

static void set_processor(uint64_t cpu)
{
	for (unsigned i = 0; i < sizeof(msrs) / sizeof(msrs[0]); i++)
		write_msr(msrs[i].index, msrs[i].value ^ (msrs[i].index == PAT ? 0 : cpu));
	__asm__ volatile("mov %0, %%dr0" : : "r"(0x1000 + cpu));
	__asm__ volatile("mov %0, %%dr3" : : "r"(0x4000 + cpu));
	__asm__ volatile("mov %0, %%cr2" : : "r"(0xcafe0000 + cpu));
	poke32(LAPIC_SVR, 0x1ff);
	poke32(LAPIC_TPR, task_priority(cpu));
	poke32(LAPIC_LVT_LINT0, MASKED | 0x77);
	poke32(LAPIC_DIVIDE, DIVIDE_BY_1);
}

/* General registers over a port and an MMIO access: exits that a stop may come into. */
static void check_registers(uint64_t cpu)
{
	uint64_t a = 0x0123456789abcdef + cpu, b = ~a, c, d;
	uint32_t seen = 0;
	uint8_t scratch = 0;

	__asm__ volatile("mov %[a], %%r12; mov %[b], %%r13; mov %[port], %%edx;"
			 "inb %%dx, %%al; mov %%al, %[scratch];"
			 "movl (%[mmio]), %%eax; movl %%eax, %[seen];"
			 "mov %%r12, %[c]; mov %%r13, %[d]"
			 : [scratch] "=&m"(scratch), [seen] "=&m"(seen), [c] "=&r"(c), [d] "=&r"(d)
			 : [a] "r"(a), [b] "r"(b), [port] "i"(SCRATCH), [mmio] "r"(LAPIC_LVT_LINT0)
			 : "rax", "rdx", "r12", "r13", "memory");
	expect(c == a && d == b, 20);
	expect(scratch == 0xa5, 21);
	expect(seen == (MASKED | 0x77), 22);
}

static void check_processor(uint64_t cpu, uint64_t *time)
{
	uint64_t dr0, dr3, cr2, now = time_stamp();

	for (unsigned i = 0; i < sizeof(msrs) / sizeof(msrs[0]); i++)
		expect(read_msr(msrs[i].index) ==
			   (msrs[i].value ^ (msrs[i].index == PAT ? 0 : cpu)),
		       30 + i);
	__asm__ volatile("mov %%dr0, %0" : "=r"(dr0));
	__asm__ volatile("mov %%dr3, %0" : "=r"(dr3));
	__asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
	expect(dr0 == 0x1000 + cpu && dr3 == 0x4000 + cpu, 40);
	expect(cr2 == 0xcafe0000 + cpu, 41);
	expect(peek32(LAPIC_TPR) == task_priority(cpu), 42);
	expect(now > *time, 43);
	*time = now;
	check_registers(cpu);
}

/* One shot of the timer, a vector that has not come yet; interrupts stay off, so it waits. */
static void check_timer(uint64_t n)
{
	uint32_t vector = FIRST_VECTOR + (uint32_t)n;
	uint64_t word = LAPIC_IRR + vector / 32 * 16;

	if (vector > LAST_VECTOR)
		return;
	expect(!(peek32(word) >> vector % 32 & 1), 50);
	poke32(LAPIC_LVT_TIMER, vector);
	poke32(LAPIC_INITIAL, 3000000); /* 3 ms */
	while (!(peek32(word) >> vector % 32 & 1))
		__asm__ volatile("pause");
}

/* --- what is of the machine ------------------------------------------------------------ */

static void set_machine(void)
{
	for (uint64_t n = 0; n < MEMORY_PAGES; n++)
		poke(MEMORY + n * PAGE, GUEST_PATTERN(n));
	for (uint32_t pin = 1; pin < 8; pin++) {
		poke32(IOAPIC_INDEX, 0x10 + 2 * pin);
		poke32(IOAPIC_WINDOW, MASKED | (0x60 + pin));
	}
	out8(SCRATCH, 0xa5);
	out8(FOAL_PORT_RTC, CMOS_BYTE);
	out8(FOAL_PORT_RTC + 1, 0x5a);
}

static void check_machine(uint64_t round)
{
	uint64_t n = round % MEMORY_PAGES;

	expect(peek(MEMORY + n * PAGE) == GUEST_PATTERN(n) + round / MEMORY_PAGES, 60);
	poke(MEMORY + n * PAGE, GUEST_PATTERN(n) + round / MEMORY_PAGES + 1);
	for (uint32_t pin = 1; pin < 8; pin++)
		expect(ioapic(0x10 + 2 * pin) == (MASKED | (0x60 + pin)), 61);
	expect(cmos() == 0x5a, 62);
}

static void live(uint64_t cpu)
{
	uint64_t time = time_stamp();

	set_processor(cpu);
	for (uint64_t round = 0; round < rounds; round++) {
		while (turn != round * cpus + cpu)
			__asm__ volatile("pause");
		if (cpu == 0)
			check_machine(round);
		turn++;
		check_processor(cpu, &time);
		if (round % 8 == 0)
			check_timer(round / 8);
	}
}

void ap_main(void)
{
	live(1);
	ap_done = 1;
	for (;;)
		__asm__ volatile("cli; hlt");
}

unsigned guest_main(const struct start_info *info)
{
	(void)info;
	rounds = param("rounds", 400);
	cpus = param("cpus", 2);
	set_machine();
	if (cpus > 1)
		start_processor(1);
	live(0);
	while (cpus > 1 && !ap_done)
		__asm__ volatile("pause");
	return GUEST_OK;
}
