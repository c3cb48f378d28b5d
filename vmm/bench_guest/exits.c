/*
 * The guest's program of `foal bench exits`: it leaves the guest in one way, again and again, and
 * takes the time. In ring 3, or in ring 0 where the job says so; there a host may emulate each
 * instruction, and lacks the fences that touch.c has around rdtsc.
 */
#include "guest/abi.h"
#include "vmm/bench_guest/job.h"

#define PAGE	      4096UL
#define TIMER	      (FOAL_LAPIC_BASE + 0x320) /* LVT; one-shot without TIMER_PERIODIC */
#define COUNT	      (FOAL_LAPIC_BASE + 0x380)
/* One that does nothing and gives 0 (include/uapi/linux/kvm_para.h: KVM_HC_VAPIC_POLL_IRQ). */
#define POLL_IRQ      1
/* CPUID leaf 0, EBX of who has VMMCALL. */
#define AUTHENTIC_AMD 0x68747541
#define HYGON_GENUINE 0x6f677948

extern struct bench_job bench_job;
extern volatile uint32_t bench_faults;
extern volatile uint64_t bench_woken;

_Noreturn void bench_exits(uint32_t cpu);
uint32_t bench_stays(void);

static inline void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint64_t read_tsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return low | (uint64_t)high << 32;
}

static inline void write_at(uint64_t at, uint32_t value)
{
	*(volatile uint32_t *)at = value;
}

/* To be served in ring 0, before bench_user()? */
uint32_t bench_stays(void)
{
	return bench_job.ring0;
}

static int has_vmmcall(void)
{
	uint32_t a = 0, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return b == AUTHENTIC_AMD || b == HYGON_GENUINE;
}

/* All that the faults will need is there: the tables' own pages, and the one they will show. */
static void prepare_faults(void)
{
	for (uint64_t i = 0; i <= BENCH_TABLES; i++) {
		uint64_t table = BENCH_TABLES_GPA + (i + 1) * PAGE;

		write_at(table, 0); /* the last one is BENCH_FRAME_GPA */
		if (i < BENCH_TABLES)
			((volatile uint64_t *)BENCH_TABLES_GPA)[i] = table + BENCH_TABLE;
	}
}

/* The number of pages whose fault was served. */
static uint64_t take_faults(uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		(void)*(volatile uint32_t *)(BENCH_FAULTS_AT + i * PAGE);
	return bench_faults;
}

/* The number of calls that were not answered. */
static uint64_t call_host(uint32_t count, int vmmcall)
{
	uint64_t refused = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t number = POLL_IRQ;
		if (vmmcall)
			__asm__ volatile("vmmcall" : "+a"(number) : "b"(0L), "c"(0L) : "memory");
		else
			__asm__ volatile("vmcall" : "+a"(number) : "b"(0L), "c"(0L) : "memory");
		refused += number != 0;
	}
	return refused;
}

/* The sum of the times from where the timer was set to where it was served. */
static uint64_t halt(uint32_t count)
{
	uint64_t all = 0;

	write_at(TIMER, BENCH_WAKE_VECTOR);
	for (uint32_t i = 0; i < count; i++) {
		__asm__ volatile("cli" : : : "memory");
		bench_woken = 0;
		write_at(COUNT, BENCH_HALT_NS);
		uint64_t set = read_tsc();
		while (!bench_woken) /* what comes behind sti is taken in hlt */
			__asm__ volatile("sti; hlt; cli" : : : "memory");
		all += bench_woken - set;
	}
	return all;
}

static uint64_t leave(enum bench_exit how, uint32_t count, int vmmcall)
{
	switch (how) {
	case BENCH_NO_EXIT:
	case BENCH_HALT:
		break;
	case BENCH_LOOP:
		for (uint32_t i = 0; i < count; i++)
			__asm__ volatile("" : : : "memory");
		break;
	case BENCH_GUEST_FAULT:
		return take_faults(count);
	case BENCH_PIO:
		for (uint32_t i = 0; i < count; i++)
			out8(BENCH_PORT_EXIT, 0);
		break;
	case BENCH_MMIO:
		for (uint32_t i = 0; i < count; i++)
			write_at(BENCH_MMIO_GPA, i);
		break;
	case BENCH_HYPERCALL:
		return call_host(count, vmmcall);
	}
	return 0;
}

/* `sum`: page faults that it served, hypercalls that were refused; else 0. */
_Noreturn void bench_exits(uint32_t cpu)
{
	enum bench_exit how = (enum bench_exit)bench_job.exit;
	int vmmcall = how == BENCH_HYPERCALL && has_vmmcall();
	uint64_t start, sum = 0;

	if (how == BENCH_GUEST_FAULT)
		prepare_faults();
	out8(BENCH_PORT_READY, (uint8_t)cpu);
	start = read_tsc();
	if (how == BENCH_HALT) {
		bench_job.cpu[cpu].start = 0;
		bench_job.cpu[cpu].end = halt(bench_job.touches);
	} else {
		sum = leave(how, bench_job.touches, vmmcall);
		bench_job.cpu[cpu].end = read_tsc();
		bench_job.cpu[cpu].start = start;
	}
	out8(BENCH_PORT_DONE, (uint8_t)cpu);
	bench_job.cpu[cpu].sum = sum;
	out8(BENCH_PORT_DONE, (uint8_t)cpu);
	for (;;)
		__asm__ volatile("pause");
}
