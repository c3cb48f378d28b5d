/*
 * Free memory of a host that is a VM itself may have been taken back by its own host
 * (free page reporting), which brings it back page by page when it is touched: a cost
 * of neither side, and many times what is measured. So what a sample will take is
 * touched and freed just before it; always, since a look at some of the memory says little of
 * what a sample takes after that. A CPU that frees memory keeps some of it to itself, and another
 * one would be given what nobody touched: so each CPU has its share warmed, too.
 */
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#include "ept/ept.h"
#include "vmm/bench.h"
#include "vmm/vm.h"

#define MIB	   (1UL << 20)
#define CHUNK	   (2 * MIB) /* timed as one */
#define LOOK	   (128 * CHUNK)
#define SMALL	   (128 * MIB) /* by 4 KiB, for what is left of blocks that were broken up */
#define THE_VM	   (64 * MIB)  /* a process, its VM, the kernel's own */
#define OWN	   (320 * MIB) /* what a CPU keeps: seen were up to 300 MiB of 2 MiB pages */
#define FREE_SHARE 3	       /* of 4: more would push files out of the page cache */

static uint64_t clip_to_free(uint64_t bytes)
{
	struct sysinfo info;
	uint64_t most;

	if (sysinfo(&info))
		return 0;
	most = (uint64_t)info.freeram * info.mem_unit / 4 * FREE_SHARE;
	return (bytes < most ? bytes : most) & ~(CHUNK - 1);
}

/* What the kernel clears for it is touched. @us, unless NULL: of each chunk. */
static void touch(char *memory, uint64_t bytes, double *us)
{
	for (uint64_t chunk = 0; chunk < bytes; chunk += CHUNK) {
		uint64_t start = now_ns();

		for (uint64_t at = chunk; at < chunk + CHUNK; at += EPT_PAGE_SIZE)
			((volatile char *)memory)[at] = 1;
		if (us)
			us[chunk / CHUNK] = (double)(now_ns() - start) / 1e3;
	}
}

/* The first @small bytes by 4 KiB, the others in huge pages where the host has them. */
static void take_and_free(uint64_t bytes, uint64_t small, double *us)
{
	char *memory;

	if (!bytes)
		return;
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return; /* not warmed: the spread will show it */
	madvise(memory, bytes, MADV_HUGEPAGE);
	madvise(memory, small < bytes ? small : bytes, MADV_NOHUGEPAGE);
	touch(memory, bytes, us);
	munmap(memory, bytes);
}

/* On each CPU that this thread may run on, at most OWN. */
static void warm_each_cpu(uint64_t bytes)
{
	cpu_set_t all, one;

	if (sched_getaffinity(0, sizeof(all), &all))
		return;
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (sched_setaffinity(0, sizeof(one), &one) == 0)
			take_and_free(bytes < OWN ? bytes : OWN, 0, NULL);
	}
	sched_setaffinity(0, sizeof(all), &all);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* us a page: of four chunks three take no longer. */
static double look_once(uint64_t bytes)
{
	const double pages = (double)CHUNK / EPT_PAGE_SIZE;
	double us[LOOK / CHUNK] = {0};
	size_t count = bytes / CHUNK;

	take_and_free(bytes, 0, us);
	qsort(us, count, sizeof(*us), compare);
	return us[count * 3 / 4] / pages;
}

void bench_warm_look(struct bench_warm *warm)
{
	uint64_t bytes = clip_to_free(LOOK);

	if (warm->on || !bytes)
		return;
	warm->first_us = look_once(bytes);
	warm->again_us = look_once(bytes);
	warm->on = true;
}

void bench_warm_bytes(struct bench_warm *warm, uint64_t bytes)
{
	if (!warm->on)
		return;
	bytes = clip_to_free(bytes + THE_VM);
	warm_each_cpu(bytes);
	take_and_free(bytes, SMALL, NULL);
	if (bytes > warm->most)
		warm->most = bytes;
}

void bench_warm(struct bench_warm *warm, const struct bench_sample *sample)
{
	uint64_t touches = (uint64_t)sample->c->mib << 8;

	if (sample->c->pattern == BENCH_SPARSE && !sample->c->plain_huge)
		touches /= CHUNK / EPT_PAGE_SIZE;
	if (sample->limit && sample->limit < touches)
		touches = sample->limit;
	/* Each page once, and once more in a cache or while it becomes part of a huge one. */
	bench_warm_bytes(warm, 2 * touches * EPT_PAGE_SIZE);
}
