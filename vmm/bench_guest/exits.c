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

static void take_faults(uint32_t first, uint32_t count)
{
	for (uint32_t i = first; i < first + count; i++)
		(void)*(volatile uint32_t *)(BENCH_FAULTS_AT + i * PAGE);
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

/* What start, end and stamps are of. */
static uint64_t clock(enum bench_exit how, uint64_t halted)
{
	return how == BENCH_HALT ? halted : read_tsc();
}

struct leaver {
	enum bench_exit how;
	int vmmcall;
	uint64_t halted;  /* clock of BENCH_HALT */
	uint64_t refused; /* hypercalls */
};

static void leave(struct leaver *l, uint32_t first, uint32_t count)
{
	switch (l->how) {
	case BENCH_NO_EXIT:
		break;
	case BENCH_LOOP:
		for (uint32_t i = 0; i < count; i++)
			__asm__ volatile("" : : : "memory");
		break;
	case BENCH_GUEST_FAULT:
		take_faults(first, count);
		break;
	case BENCH_PIO:
		for (uint32_t i = 0; i < count; i++)
			out8(BENCH_PORT_EXIT, 0);
		break;
	case BENCH_MMIO:
		for (uint32_t i = 0; i < count; i++)
			write_at(BENCH_MMIO_GPA, i);
		break;
	case BENCH_HYPERCALL:
		l->refused += call_host(count, l->vmmcall);
		break;
	case BENCH_HALT:
		l->halted += halt(count);
		break;
	}
}

static void leave_stamped(struct leaver *l)
{
	volatile uint64_t *stamp = (volatile uint64_t *)BENCH_STAMPS_GPA;
	uint32_t count = bench_job.touches;

	for (uint32_t first = 0; first < count; first += BENCH_CHUNK) {
		*stamp++ = clock(l->how, l->halted);
		leave(l, first, count - first < BENCH_CHUNK ? count - first : BENCH_CHUNK);
	}
	*stamp = clock(l->how, l->halted);
}

static void prepare(struct leaver *l)
{
	if (l->how == BENCH_GUEST_FAULT)
		prepare_faults();
	if (l->how == BENCH_HALT)
		write_at(TIMER, BENCH_WAKE_VECTOR);
	l->vmmcall = l->how == BENCH_HYPERCALL && has_vmmcall();
}

/* `sum`: page faults that it served, and hypercalls that were refused. */
_Noreturn void bench_exits(uint32_t cpu)
{
	struct leaver l = {.how = (enum bench_exit)bench_job.exit};

	prepare(&l);
	out8(BENCH_PORT_READY, (uint8_t)cpu);
	bench_job.cpu[cpu].start = clock(l.how, l.halted);
	leave_stamped(&l);
	bench_job.cpu[cpu].end = clock(l.how, l.halted);
	out8(BENCH_PORT_DONE, (uint8_t)cpu);
	bench_job.cpu[cpu].sum = bench_faults + l.refused;
	out8(BENCH_PORT_DONE, (uint8_t)cpu);
	for (;;)
		__asm__ volatile("pause");
}
