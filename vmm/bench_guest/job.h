/*
 * What the monitor tells the guest of `foal bench`, and what it is told
 * back: one struct in the guest's memory, filled in before the guest starts.
 * Freestanding.
 */
#ifndef FOAL_BENCH_JOB_H
#define FOAL_BENCH_JOB_H

/* The guest's own memory, always there: program, job, the order of the touches. */
#define BENCH_LOW_SIZE	  0x1000000
#define BENCH_PROGRAM_GPA 0x100000
#define BENCH_JOB_GPA	  0x200000
#define BENCH_ORDER_GPA	  0x400000
#define BENCH_MAX_TOUCHES ((BENCH_LOW_SIZE - BENCH_ORDER_GPA) / 4)

/* What is measured: where a pmem of a VM with BENCH_LOW_SIZE of RAM lies. */
#define BENCH_GPA	  0x100000000

#define BENCH_MAX_CPUS	  2

/* A vCPU stops here, in the program's own VM. */
#define BENCH_PORT_READY  0xf5
#define BENCH_PORT_DONE	  0xf6
/* The vector of an exception that should not be. */
#define BENCH_PORT_BROKEN 0xf7

/* A hundred timer interrupts a second, as a kernel has them. */
#define BENCH_TICK_VECTOR 32
#define BENCH_TICK_NS	  10000000

/*
 * `foal bench exits`. The port and the address, where no memory is, that leave the guest; and what
 * its own page faults are of: a page directory and its tables in low memory, and behind them the
 * page that all of their pages show.
 */
#define BENCH_PORT_EXIT	  0xf8
#define BENCH_MMIO_GPA	  BENCH_GPA
#define BENCH_TABLES_GPA  0x300000
#define BENCH_TABLES	  8
#define BENCH_TABLE	  0x27 /* an entry for one: present, writable, user, accessed */
#define BENCH_FRAME_GPA	  (BENCH_TABLES_GPA + (1 + BENCH_TABLES) * 0x1000)
#define BENCH_FAULTS_AT	  0x40000000
#define BENCH_FAULT_PAGES (BENCH_TABLES * 512)
/* With `stamped`, by vCPU 0: the time before each so many touches or exits, and behind the last. */
#define BENCH_STAMPS_GPA  0x280000
#define BENCH_CHUNK	  16
#define BENCH_STAMPS	  0x4000 /* at most */
/* A halted vCPU is woken by a timer that it sets so far ahead. */
#define BENCH_WAKE_VECTOR 33
#define BENCH_HALT_NS	  1000000

/* The first word of page @n: of a file as it is made, and as a guest writes it. */
#define BENCH_PATTERN(n)  (((n) + 1) * 0x9e3779b97f4a7c15UL)

#ifndef __ASSEMBLER__

#	include <stdint.h>

/* What a guest does instead of touching pages, `touches` times. */
enum bench_exit {
	BENCH_NO_EXIT,	   /* it touches pages */
	BENCH_LOOP,	   /* nothing: what going round costs */
	BENCH_GUEST_FAULT, /* a page fault that it serves itself, in ring 0 */
	BENCH_PIO,
	BENCH_MMIO,
	BENCH_HYPERCALL,
	BENCH_HALT, /* ring 0 only; the clock of start, end and stamps goes from where a timer is
		       set to where it wakes, so BENCH_HALT_NS too long each */
};

struct bench_job {
	/* For the guest. */
	uint32_t cpus;
	uint32_t write;	      /* else read */
	uint32_t read_before; /* read all, before the time is taken */
	uint32_t serial;      /* say "ready" on COM1 when all is done; a byte there ends the VM */
	uint32_t ordered;     /* the pages are listed at BENCH_ORDER_GPA; else 0, 1, 2, ... */
	uint32_t touches;     /* by all vCPUs; each has its part, one behind the other */
	uint32_t first; /* of a vCPU's part, those that are timed apart, too: none of them is of
			   a page touched before, all others are; 0: no such thing */
	uint64_t base;	/* of the pages */
	/* With serial, what it does until a byte comes: */
	uint32_t gap;	/* writes pages all the time; then it says the longest time between two */
	uint32_t again; /* nothing; then it writes so many pages, says "done", waits for one more */
	uint32_t bell;	/* with again: it rings the reset bell behind them, so often */
	uint32_t ring;	/* what it rings: FOAL_RESET_* */
	/*
	 * Or with clone, until its VM has another generation ID: then it reads and writes so many
	 * pages, scattered, none twice; says how long that took, and rests.
	 */
	uint32_t clone, clone_reads, clone_writes;
	uint32_t exit;	/* enum bench_exit */
	uint32_t ring0; /* all of it in ring 0 */
	uint32_t stamped;

	/* From the guest. */
	volatile uint32_t arrived; /* vCPUs */
	struct {
		volatile uint64_t start, end; /* TSC */
		volatile uint64_t mid;	      /* the same, behind `first` */
		volatile uint64_t sum;	 /* of the first words of the pages touched; with `first`,
					    of each page once; of exits, see exits.c */
		volatile uint32_t ticks; /* timer interrupts, start to end */
	} cpu[BENCH_MAX_CPUS];
};

#endif
#endif
