/*
 * The guest's program, all in ring 3: a host may emulate ring 0. Each vCPU
 * touches the first word of each page of its part, timed.
 */
#include "guest/abi.h"
#include "vmm/bench_guest/job.h"

#define PAGE	      4096UL
#define COM1	      0x3f8
#define COM1_MCR      (COM1 + 4)
#define COM1_MCR_RTS  0x02 /* send me something */
#define COM1_LSR      (COM1 + 5)
#define COM1_LSR_IDLE 0x20
#define COM1_LSR_DATA 0x01
#define LOOK_EVERY    64   /* pages written between two looks at COM1 */
#define SCATTER	      7919 /* a prime: pages apart, around the end */

extern struct bench_job bench_job;
extern volatile uint32_t bench_ticks[BENCH_MAX_CPUS];

_Noreturn void bench_user(uint32_t cpu);
_Noreturn void bench_exits(uint32_t cpu); /* exits.c */

/* What a vCPU does to each page of its part. */
enum touch { TOUCH_READ, TOUCH_WRITE, TOUCH_SUM };

struct part {
	uint32_t first, end; /* touches */
};

static inline void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t in8(uint16_t port)
{
	uint8_t value;
	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline uint32_t in32(uint16_t port)
{
	uint32_t value;
	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint64_t read_tsc(void)
{
	uint32_t low, high;
	__asm__ volatile("lfence; rdtsc; lfence" : "=a"(low), "=d"(high) : : "memory");
	return low | (uint64_t)high << 32;
}

static inline uint64_t page_of(uint32_t touch)
{
	return bench_job.ordered ? ((const uint32_t *)BENCH_ORDER_GPA)[touch] : touch;
}

static uint64_t go_over(struct part part, enum touch touch)
{
	uint64_t sum = 0;

	for (uint32_t i = part.first; i < part.end; i++) {
		uint64_t page = page_of(i);
		volatile uint64_t *word = (volatile uint64_t *)(bench_job.base + page * PAGE);
		if (touch == TOUCH_WRITE)
			*word = BENCH_PATTERN(page);
		else
			sum += *word;
	}
	return sum;
}

static void go_over_stamped(struct part part, enum touch touch)
{
	volatile uint64_t *stamp = (volatile uint64_t *)BENCH_STAMPS_GPA;

	for (uint32_t first = part.first; first < part.end; first += BENCH_CHUNK) {
		uint32_t end = first + BENCH_CHUNK < part.end ? first + BENCH_CHUNK : part.end;
		*stamp++ = read_tsc();
		go_over((struct part){first, end}, touch);
	}
	*stamp = read_tsc();
}

/* The list's own pages are not to be faulted in while the time is taken. */
static void look_at_order(struct part part)
{
	for (uint32_t i = part.first; bench_job.ordered && i < part.end; i++)
		(void)((const volatile uint32_t *)BENCH_ORDER_GPA)[i];
}

static void wait_for_others(void)
{
	__atomic_fetch_add(&bench_job.arrived, 1, __ATOMIC_SEQ_CST);
	while (bench_job.arrived < bench_job.cpus)
		__asm__ volatile("pause");
}

static void say(const char *text)
{
	for (; *text; text++) {
		while (!(in8(COM1_LSR) & COM1_LSR_IDLE))
			;
		out8(COM1, (uint8_t)*text);
	}
}

static int byte_came(void)
{
	if (!(in8(COM1_LSR) & COM1_LSR_DATA))
		return 0;
	in8(COM1);
	return 1;
}

static void wait_for_byte(void)
{
	while (!byte_came())
		__asm__ volatile("pause");
}

/* TSC cycles, as sixteen hexadecimal digits and a full stop. */
static void say_cycles(uint64_t cycles)
{
	char text[18];

	for (int i = 0; i < 16; i++)
		text[i] = "0123456789abcdef"[cycles >> (60 - 4 * i) & 15];
	text[16] = '.';
	text[17] = 0;
	say(text);
}

/*
 * A look at COM1 leaves the guest for some microseconds, which is part of what is told. So is the
 * end of the word: whoever hears it may begin, and nothing after it goes unseen.
 */
static void write_all_the_time(void)
{
	uint64_t longest = 0, last;

	say("ready\n");
	wait_for_byte();
	say("on");
	last = read_tsc();
	say("\n");
	for (uint32_t page = 0;; page = (page + 1) % bench_job.touches) {
		*(volatile uint64_t *)(bench_job.base + page * PAGE + 8) = page;
		uint64_t now = read_tsc();
		longest = now - last > longest ? now - last : longest;
		last = now;
		if (page % LOOK_EVERY == 0 && byte_came())
			break;
	}
	say_cycles(longest);
}

static volatile uint64_t *scattered(uint32_t i)
{
	uint64_t page = (uint64_t)i * SCATTER % bench_job.touches;

	return (volatile uint64_t *)(bench_job.base + page * PAGE);
}

/* From the first look at the clock of a clone. */
static _Noreturn void be_cloned(void)
{
	const volatile uint64_t *id = (const volatile uint64_t *)FOAL_VMGENID;
	uint64_t before = *id, start;

	say("ready\n");
	while (*id == before)
		__asm__ volatile("pause");
	start = read_tsc();
	for (uint32_t i = 0; i < bench_job.clone_reads; i++)
		(void)*scattered(i);
	for (uint32_t i = 0; i < bench_job.clone_writes; i++)
		*scattered(bench_job.clone_reads + i) = i;
	say_cycles(read_tsc() - start);
	for (;;)
		__asm__ volatile("hlt"); /* ring 0 rests instead */
}

/* From the bell's second sound on it goes on behind the first. */
static void write_and_go_back(struct part again)
{
	out8(FOAL_PORT_RESET_BELL, FOAL_RESET_POINT);
	if (in32(FOAL_PORT_RESET_BELL) >= bench_job.bell)
		return;
	go_over(again, TOUCH_WRITE);
	out8(FOAL_PORT_RESET_BELL, (uint8_t)bench_job.ring);
}

static _Noreturn void end_on_request(void)
{
	struct part again = {0, bench_job.again};

	out8(COM1_MCR, COM1_MCR_RTS);
	if (bench_job.clone)
		be_cloned();
	if (bench_job.gap)
		write_all_the_time();
	else
		say("ready\n");
	if (bench_job.again) {
		wait_for_byte();
		if (bench_job.bell)
			write_and_go_back(again);
		else
			go_over(again, TOUCH_WRITE);
		say("done\n");
	}
	wait_for_byte();
	for (;;)
		out8(FOAL_PORT_EXIT, 0);
}

void bench_user(uint32_t cpu)
{
	uint32_t share = bench_job.touches / bench_job.cpus;
	struct part part = {cpu * share,
			    cpu + 1 == bench_job.cpus ? bench_job.touches : (cpu + 1) * share};

	if (bench_job.exit)
		bench_exits(cpu);
	look_at_order(part);
	if (bench_job.read_before)
		go_over(part, TOUCH_READ);
	if (!bench_job.serial)
		out8(BENCH_PORT_READY, (uint8_t)cpu);
	wait_for_others();
	uint32_t ticks = bench_ticks[cpu];
	enum touch how = bench_job.write ? TOUCH_WRITE : TOUCH_READ;
	struct part once = {part.first, part.first + bench_job.first}, then = {once.end, part.end};
	bench_job.cpu[cpu].start = read_tsc();
	go_over(once, how);
	bench_job.cpu[cpu].mid = read_tsc();
	if (bench_job.stamped)
		go_over_stamped(then, how);
	else
		go_over(then, how);
	bench_job.cpu[cpu].end = read_tsc();
	bench_job.cpu[cpu].ticks = bench_ticks[cpu] - ticks;
	if (bench_job.serial)
		end_on_request();
	out8(BENCH_PORT_DONE, (uint8_t)cpu);
	bench_job.cpu[cpu].sum = go_over(bench_job.first ? once : part, TOUCH_SUM);
	out8(BENCH_PORT_DONE, (uint8_t)cpu);
	for (;;)
		__asm__ volatile("pause");
}
