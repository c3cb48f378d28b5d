/* How many faults it takes: the numbers are Linux's for the same accesses. */
#include "guest/user/check/check.h"

enum { PAGES = 64 };

/* The faults that `what` takes; print must not run in between. */
#define FAULTS(what) \
	({ \
		long before_ = minor_faults(); \
		what; \
		minor_faults() - before_; \
	})

static uint8_t read_all(volatile uint8_t *p)
{
	uint8_t all = 0;

	for (size_t i = 0; i < PAGES; i++)
		all |= p[i * PAGE_SIZE];
	return all;
}

static void write_all(volatile uint8_t *p)
{
	for (size_t i = 0; i < PAGES; i++)
		p[i * PAGE_SIZE] = 1;
}

/* At a multiple of 2 MiB, as the numbers of fault-around depend on the address. */
static volatile uint8_t *region(int prot, int flags, int fd, uint64_t offset)
{
	static uintptr_t next = 0x10000000000;
	long p =
	    sys_mmap((void *)next, PAGES * PAGE_SIZE, prot, flags | MAP_FIXED, fd, (long)offset);

	next += 2 << 20;
	return p > 0 ? (volatile uint8_t *)p : NULL;
}

static volatile uint8_t *anon_region(void)
{
	return region(RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* The file's first pages, all of them in the page cache and without a readahead marker. */
static volatile uint8_t *file_region(int prot, int flags)
{
	struct mapping warm;
	int fd = sys_open(FILE_PATH, O_RDWR);

	if (!map_file(FILE_PATH, false, MAP_PRIVATE, &warm))
		for (size_t i = 0; i < warm.len; i += PAGE_SIZE)
			(void)((volatile uint8_t *)warm.data)[i];
	volatile uint8_t *p = region(prot, flags, fd, 0);
	sys_close(fd);
	return p;
}

static int count_anon(void)
{
	volatile uint8_t *p = anon_region();

	EXPECT(FAULTS(read_all(p)) == PAGES);
	EXPECT(FAULTS(write_all(p)) == PAGES);
	EXPECT(FAULTS(write_all(p)) == 0);
	EXPECT(!syscall3(SYS_MADVISE, (long)p, PAGES * PAGE_SIZE, MADV_DONTNEED));
	EXPECT(FAULTS(read_all(p)) == PAGES && !read_all(p));
	return 0;
}

/* Pages of one's own are writable at once when the mapping is again; the zero page is not. */
static int count_mprotect(void)
{
	volatile uint8_t *p = anon_region(), *zero = anon_region();

	write_all(p);
	EXPECT(!protect(p, PAGES, PROT_READ) && !protect(p, PAGES, RW));
	EXPECT(FAULTS(write_all(p)) == 0);
	EXPECT(!protect(p, PAGES, PROT_NONE) && !protect(p, PAGES, RW));
	EXPECT(FAULTS(write_all(p)) == 0);
	read_all(zero);
	EXPECT(!protect(zero, PAGES, PROT_READ) && !protect(zero, PAGES, RW));
	EXPECT(FAULTS(write_all(zero)) == PAGES);
	return 0;
}

static int count_file_read(void)
{
	volatile uint8_t *p = file_region(PROT_READ, MAP_PRIVATE);

	EXPECT(FAULTS(read_all(p)) == PAGES / 16);
	return 0;
}

static int count_file_private(void)
{
	volatile uint8_t *p = file_region(RW, MAP_PRIVATE);

	EXPECT(FAULTS(write_all(p)) == PAGES);
	p = file_region(RW, MAP_PRIVATE);
	read_all(p);
	EXPECT(FAULTS(write_all(p)) == PAGES);
	return 0;
}

static int count_file_shared(void)
{
	volatile uint8_t *p = file_region(RW, MAP_SHARED);
	static uint8_t old[PAGES];

	EXPECT(FAULTS(read_all(p)) == PAGES / 16);
	for (size_t i = 0; i < PAGES; i++)
		old[i] = p[i * PAGE_SIZE];
	EXPECT(FAULTS(write_all(p)) == PAGES);
	EXPECT(!protect(p, PAGES, PROT_READ) && !protect(p, PAGES, RW));
	EXPECT(FAULTS(write_all(p)) == 0);
	EXPECT(!sys_msync((void *)p, PAGES * PAGE_SIZE, MS_SYNC));
	EXPECT(FAULTS(write_all(p)) == PAGES);
	for (size_t i = 0; i < PAGES; i++)
		p[i * PAGE_SIZE] = old[i];
	return 0;
}

/* What a child of a fork is to do, and the faults it must take. */
static volatile uint8_t *inherited;
static long expected_reads, expected_writes;

static int as_child(void)
{
	EXPECT(FAULTS(read_all(inherited)) == expected_reads);
	EXPECT(FAULTS(write_all(inherited)) == expected_writes);
	return 0;
}

static int count_fork(void)
{
	inherited = anon_region();
	write_all(inherited);
	expected_reads = 0, expected_writes = PAGES;
	EXPECT(!in_child(as_child));
	EXPECT(FAULTS(write_all(inherited)) == PAGES);

	/* Without a page of one's own nothing is copied; with one, all of the mapping is. */
	inherited = anon_region();
	read_all(inherited);
	expected_reads = PAGES;
	EXPECT(!in_child(as_child));
	inherited[0] = 1;
	expected_reads = 0;
	EXPECT(!in_child(as_child));

	inherited = file_region(RW, MAP_PRIVATE);
	read_all(inherited);
	expected_reads = PAGES / 16;
	EXPECT(!in_child(as_child));
	inherited[0] = 1;
	expected_reads = 0;
	EXPECT(!in_child(as_child));
	return 0;
}

static int count_populate(void)
{
	volatile uint8_t *p = anon_region(); /* the counter of regions is written by now */

	EXPECT(FAULTS(p = region(RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0)) == PAGES);
	EXPECT(FAULTS(write_all(p)) == 0);
	return 0;
}

static int count_grows_down(void)
{
	volatile uint8_t *p = region(RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0);

	EXPECT(FAULTS(for (int i = 1; i <= 8; i++) p[-i * PAGE_SIZE] = 1) == 8);
	return 0;
}

const struct check count_checks[] = {
    {"count_anon", count_anon, 0},
    {"count_mprotect", count_mprotect, 0},
    {"count_file_read", count_file_read, 0},
    {"count_file_private", count_file_private, 0},
    {"count_file_shared", count_file_shared, 0},
    {"count_fork", count_fork, 0},
    {"count_populate", count_populate, 0},
    {"count_grows_down", count_grows_down, 0},
    {0},
};
