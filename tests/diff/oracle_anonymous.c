/* Memory of no file: 1 to 5, 9, 18, 19. */
#include "oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define RW  (PROT_READ | PROT_WRITE)
#define LEN (PAGES * PAGE)

/* KiB of the mapping that begins at @p, as smaps has it; -1: none does. */
static long resident(const char *p)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	char line[512], start[32];
	bool here = false;
	long value = -1;

	must(f != NULL, "/proc/self/smaps");
	snprintf(start, sizeof(start), "%lx-", (unsigned long)p);
	while (value < 0 && fgets(line, sizeof(line), f)) {
		here = here || !strncmp(line, start, strlen(start));
		if (here && !strncmp(line, "Rss:", 4))
			value = strtol(line + 4, NULL, 10);
	}
	fclose(f);
	return value;
}

static void zero_then_own(void)
{
	char *p = own_region();

	COUNT("1 read", read_pages(p, PAGES));
	say("1 Rss of zero pages", resident(p));
	COUNT("1 write", write_pages(p, PAGES, 1));
	say("1 Rss of own pages", resident(p));
	p = own_region();
	COUNT("2 write", write_pages(p, PAGES, 2));
	COUNT("2 again", write_pages(p, PAGES, 3));
	must(!madvise(p, LEN, MADV_DONTNEED), "MADV_DONTNEED");
	unsigned sum = 1;
	COUNT("3 read behind DONTNEED", sum = read_pages(p, PAGES));
	say("3 sum", sum);
}

static void protected(void)
{
	char *p = own_region(), *zero = own_region();

	write_pages(p, PAGES, 1);
	must(!mprotect(p, LEN, PROT_READ) && !mprotect(p, LEN, RW), "mprotect");
	COUNT("4 write own", write_pages(p, PAGES, 2));
	must(!mprotect(p, LEN, PROT_NONE) && !mprotect(p, LEN, RW), "mprotect");
	COUNT("4 write own behind NONE", write_pages(p, PAGES, 2));
	read_pages(zero, PAGES);
	must(!mprotect(zero, LEN, PROT_READ) && !mprotect(zero, LEN, RW), "mprotect");
	COUNT("4 write zero", write_pages(zero, PAGES, 2));
}

static void moved(void)
{
	char *p = own_region(), *to = place(2 * LEN), *q = NULL;

	write_pages(p, PAGES, 5);
	COUNT("5 mremap", q = mremap(p, LEN, 2 * LEN, MREMAP_MAYMOVE | MREMAP_FIXED, to));
	must(q == to, "mremap");
	unsigned sum = 0;
	COUNT("5 read what was there", sum = read_pages(q, PAGES));
	say("5 sum", sum);
	COUNT("5 write what was there", write_pages(q, PAGES, 6));
	COUNT("5 write what it grew by", write_pages(q + LEN, PAGES, 6));
	attempt("5 read the old place", READ, p, p);
}

static void shared(void)
{
	char *p = mmap(place(LEN), LEN, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	must(p != MAP_FAILED, "shared memory");
	madvise(p, LEN, MADV_NOHUGEPAGE);
	COUNT("9 read", read_pages(p, PAGES));
	COUNT("9 write", write_pages(p, PAGES, 1));
}

/* Memory is locked in one call, so its faults are of the call; a file's, window by window. */
static void populated(void)
{
	const int flags = MAP_PRIVATE | MAP_FIXED | MAP_POPULATE;
	char *at = place(LEN), *p = NULL;

	COUNT("18 populate", p = mmap(at, LEN, RW, flags | MAP_ANONYMOUS, -1, 0));
	must(p == at, "MAP_POPULATE");
	COUNT("18 write", write_pages(p, PAGES, 1));
	int fd = scratch_file();
	at = place(LEN);
	COUNT("18 populate from a file", p = mmap(at, LEN, PROT_READ, flags, fd, 0));
	must(p == at, "MAP_POPULATE");
	COUNT("18 read", read_pages(p, PAGES));
	p = own_region();
	COUNT("18 mlock", must(!mlock(p, LEN), "mlock"));
	COUNT("18 write locked", write_pages(p, PAGES, 1));
	must(!munlock(p, LEN), "munlock");
	p = file_region(PROT_READ, MAP_PRIVATE);
	COUNT("18 mlock a file", must(!mlock(p, LEN), "mlock"));
	COUNT("18 read locked", read_pages(p, PAGES));
	must(!munlock(p, LEN), "munlock");
}

/* --- stacks -------------------------------------------------------------------------------- */

static char *growing(size_t room)
{
	char *top = place(room + LEN) + room;
	char *p =
	    mmap(top, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN, -1, 0);

	must(p == top, "MAP_GROWSDOWN");
	madvise(p, PAGE, MADV_NOHUGEPAGE);
	return p;
}

/* A mapping so many pages below; the next page of the stack then. */
static void with_gap(const char *what, size_t pages, int protection)
{
	char *p = growing(4UL << 20), *below = p - (pages + 2) * PAGE;

	must(mmap(below, PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == below,
	     "a neighbour");
	attempt(what, WRITE, p - 8, p);
}

static void down_to_the_limit(void)
{
	const struct rlimit limit = {32 * PAGE, RLIM_INFINITY};
	char *p = growing(4UL << 20);

	must(!setrlimit(RLIMIT_STACK, &limit), "setrlimit");
	attempt("19 the limit's last page", WRITE, p - 31 * PAGE, p);
	attempt("19 one more", WRITE, p - 32 * PAGE, p);
}

/* Any distance below the stack pointer is the stack's. */
static void far_below(void)
{
	volatile char *far = (volatile char *)__builtin_frame_address(0);

	__asm__("" : "+r"(far)); /* the compiler knows that nothing is there */
	COUNT("19 a MiB below the stack pointer", far[-(1L << 20)] = 1);
}

static void growing_stacks(void)
{
	volatile char *p = growing(4UL << 20);

	COUNT("19 down page by page", for (size_t i = 1; i <= PAGES; i++) p[-(i * PAGE)] = 1);
	with_gap("19 a gap of 256 pages", 256, RW);
	with_gap("19 a gap of 255 pages", 255, RW);
	with_gap("19 a gap of 255 pages to PROT_NONE", 255, PROT_NONE);
	in_child("19 limit", down_to_the_limit);
	in_child("19 far below", far_below);
}

void anonymous_programs(void)
{
	zero_then_own();
	protected();
	moved();
	shared();
	populated();
	growing_stacks();
}
