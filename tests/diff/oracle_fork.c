/* What the sides of a fork share and copy, 10 to 12; memory by 2 MiB, 21; of four threads, 22. */
#include "oracle.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>

#define RW   (PROT_READ | PROT_WRITE)
#define LEN  (PAGES * PAGE)
#define HUGE (2UL << 20)

static char *region;
static unsigned sum;

static void child_reads(void)
{
	COUNT("child reads", sum = read_pages(region, PAGES));
	say("child's sum", sum);
}

static void child_reads_and_writes(void)
{
	child_reads();
	COUNT("child writes", write_pages(region, PAGES, 9));
	COUNT("child writes again", write_pages(region, PAGES, 8));
}

static void anonymous(void)
{
	region = own_region();
	write_pages(region, PAGES, 1);
	in_child("10 own pages", child_reads_and_writes);
	COUNT("10 parent reads", sum = read_pages(region, PAGES));
	say("10 sum", sum);
	COUNT("10 parent writes", write_pages(region, PAGES, 2));
	COUNT("10 parent writes again", write_pages(region, PAGES, 3));
	region = own_region();
	read_pages(region, PAGES);
	in_child("11 zero pages", child_reads_and_writes);
}

static void file(void)
{
	region = file_region(RW, MAP_PRIVATE);
	read_pages(region, PAGES);
	in_child("11 a file's pages", child_reads);
	region[0] = 1;
	in_child("11 a file's and one own", child_reads);
}

static void shared(void)
{
	region = mmap(place(LEN), LEN, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	must(region != MAP_FAILED, "shared memory");
	madvise(region, LEN, MADV_NOHUGEPAGE);
	write_pages(region, PAGES, 4);
	in_child("12 shared memory", child_reads_and_writes);
	COUNT("12 parent reads", sum = read_pages(region, PAGES));
	say("12 sum", sum);
}

/* Neither sees what the other does; the grandchild has what its parent had by then. */
static void grandchild(void)
{
	say("grandchild's sum", read_pages(region, PAGES));
	write_pages(region, PAGES, 30);
}

static void child_with_child(void)
{
	write_pages(region, PAGES / 2, 20);
	in_child("10 a grandchild", grandchild);
	say("child's sum", read_pages(region, PAGES));
}

static void generations(void)
{
	region = own_region();
	write_pages(region, PAGES, 10);
	in_child("10 a child", child_with_child);
	say("10 parent's sum", read_pages(region, PAGES));
}

void fork_programs(void)
{
	anonymous();
	file();
	shared();
	generations();
}

/* --- 2 MiB ----------------------------------------------------------------------------------- */

static char *huge_region(void)
{
	char *p = mmap(place(HUGE), HUGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	must(p != MAP_FAILED, "own memory");
	must(!madvise(p, HUGE, MADV_HUGEPAGE), "MADV_HUGEPAGE");
	return p;
}

static void child_writes_huge(void)
{
	COUNT("child reads", sum = read_pages(region, HUGE / PAGE));
	say("child's sum", sum);
	COUNT("child writes one", region[0] = 2);
	COUNT("child writes all", write_pages(region, HUGE / PAGE, 3));
}

void huge_programs(void)
{
	region = huge_region();
	COUNT("21 write", write_pages(region, HUGE / PAGE, 1));
	in_child("21 fork", child_writes_huge);
	COUNT("21 parent writes", write_pages(region, HUGE / PAGE, 4));
	region = huge_region();
	COUNT("21 read", sum = read_pages(region, HUGE / PAGE));
	COUNT("21 then write", write_pages(region, HUGE / PAGE, 1));
	must(!mprotect(region + HUGE / 2, PAGE, PROT_READ), "mprotect");
	COUNT("21 read behind a split", sum = read_pages(region, HUGE / PAGE));
	say("21 sum", sum);
}

/* --- threads -----------------------------------------------------------------------------------
 */

enum { THREADS = 4 };

static void *add_to_all(void *arg)
{
	char *p = arg;

	for (size_t i = 0; i < PAGES; i++)
		__atomic_fetch_add(&p[i * PAGE], 1, __ATOMIC_RELAXED);
	return NULL;
}

/* Who comes second counts, too: so many at least, and at most each thread's one. */
void thread_programs(void)
{
	pthread_t threads[THREADS];
	char *p = own_region();
	struct faults before = faults();

	for (int i = 0; i < THREADS; i++)
		must(!pthread_create(&threads[i], NULL, add_to_all, p), "a thread");
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	/* A stack has pages of its own. */
	long took = faults().minor - before.minor;
	say("22 faults within bounds",
	    took >= (long)PAGES && took <= (long)(THREADS * (PAGES + 16)));
	say("22 sum", read_pages(p, PAGES));
}
