/* Own memory by 2 MiB: had at once, shared by a fork, and taken apart where less is meant. */
#include "guest/user/check/check.h"

enum { HUGE = 2 << 20, PAGES = HUGE / PAGE_SIZE, SOME = 32 };
enum { MADV_HUGEPAGE = 14, MADV_NOHUGEPAGE = 15, MADV_COLLAPSE = 25 };
enum { SYS_MEMORY_LIMIT = 1000 };

static long vmstat(const char *name)
{
	return proc_value("/proc/vmstat", name);
}

static int advise(volatile uint8_t *p, size_t len, int advice)
{
	return (int)syscall3(SYS_MADVISE, (long)p, (long)len, advice);
}

/* 2 MiB that may be one page, alone in their 6 MiB. */
static volatile uint8_t *region(void)
{
	static uintptr_t next = 0x11000000000;
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
	long p = sys_mmap((void *)next, HUGE, RW, flags, -1, 0);

	next += 3 * HUGE;
	return p > 0 && !advise((volatile uint8_t *)p, HUGE, MADV_HUGEPAGE) ? (volatile uint8_t *)p
									    : NULL;
}

static uint8_t mark(size_t page)
{
	return (uint8_t)(page + 1);
}

/* Marks the first of its pages, every eighth of the others; the number of faults. */
static long fill(volatile uint8_t *p)
{
	long before = minor_faults();

	for (size_t i = 0; i < PAGES; i += i < SOME ? 1 : 8)
		p[i * PAGE_SIZE] = mark(i);
	return minor_faults() - before;
}

static bool filled(volatile uint8_t *p, size_t from, size_t to)
{
	for (size_t i = 0; i < PAGES; i += i < SOME ? 1 : 8)
		if (i >= from && i < to && p[i * PAGE_SIZE] != mark(i))
			return false;
	return true;
}

static int huge_write(void)
{
	volatile uint8_t *p = region();
	long made = vmstat("thp_fault_alloc");

	EXPECT(p && made >= 0);
	EXPECT(fill(p) == 1 && filled(p, 0, PAGES));
	EXPECT(!p[1] && !p[HUGE - 1]);
	EXPECT(vmstat("thp_fault_alloc") == made + 1);
	return 0;
}

static int huge_read_then_write(void)
{
	volatile uint8_t *p = region();
	long before;

	EXPECT(p);
	before = minor_faults();
	EXPECT(!p[0] && !p[HUGE - 1] && !p[HUGE / 2]);
	EXPECT(minor_faults() == before + 1);
	EXPECT(fill(p) == 1 && filled(p, 0, PAGES));
	return 0;
}

/* Less than 2 MiB, not aligned, or not wanted: by single pages. */
static int huge_not_here(void)
{
	volatile uint8_t *p = region(), *q = region();

	EXPECT(p && q);
	EXPECT(!sys_munmap((void *)(p + HUGE - PAGE_SIZE), PAGE_SIZE));
	p[0] = 1;
	p[PAGE_SIZE] = 1;
	EXPECT(!advise(q, HUGE, MADV_NOHUGEPAGE));
	long before = minor_faults();
	p[2 * PAGE_SIZE] = q[0] = q[PAGE_SIZE] = 1;
	EXPECT(minor_faults() == before + 3);
	return 0;
}

static volatile uint8_t *inherited;

static int writes_inherited(void)
{
	long before = minor_faults();

	EXPECT(filled(inherited, 0, PAGES) && minor_faults() == before);
	inherited[5] = 77;
	EXPECT(minor_faults() == before + 1);
	for (size_t i = 1; i < SOME; i++)
		inherited[i * PAGE_SIZE] = 99;
	EXPECT(minor_faults() == before + SOME);
	EXPECT(filled(inherited, SOME, PAGES) && inherited[0] == mark(0) && !inherited[6]);
	return 0;
}

static int huge_fork(void)
{
	inherited = region();
	EXPECT(inherited && fill(inherited) == 1);
	EXPECT(!in_child(writes_inherited));
	EXPECT(filled(inherited, 0, PAGES) && !inherited[5]);
	/* Alone with it again: the whole at once. */
	EXPECT(fill(inherited) == 1);
	return 0;
}

/* Both sides have it apart; then one is left with parts. */
static int huge_fork_both_write(void)
{
	int pid, status = -1;
	long pages = vmstat("nr_anon_transparent_hugepages");

	inherited = region();
	EXPECT(inherited && fill(inherited) == 1);
	pid = sys_fork();
	if (!pid) {
		inherited[3 * PAGE_SIZE] = 1;
		sleep_ms(50);
		EXPECT(inherited[0] == mark(0) && inherited[PAGE_SIZE] == mark(1));
		EXPECT(!sys_munmap((void *)inherited, HUGE / 2));
		EXPECT(filled(inherited, PAGES / 2, PAGES));
		sys_exit(0);
	}
	inherited[0] = 111;
	EXPECT(sys_wait4(pid, &status) == pid && !status);
	EXPECT(inherited[0] == 111 && filled(inherited, 1, PAGES));
	EXPECT(fill(inherited) > SOME / 2 && filled(inherited, 0, PAGES));
	EXPECT(!sys_munmap((void *)inherited, HUGE));
	EXPECT(vmstat("nr_anon_transparent_hugepages") == pages);
	return 0;
}

static int huge_unmap_part(void)
{
	volatile uint8_t *p = region();
	long split = vmstat("thp_split_page"), before;

	EXPECT(p && fill(p) == 1);
	before = minor_faults();
	EXPECT(!sys_munmap((void *)(p + 8 * PAGE_SIZE), PAGE_SIZE));
	EXPECT(filled(p, 0, 8) && filled(p, 9, PAGES));
	p[0] = p[HUGE - 1] = 9;
	EXPECT(minor_faults() == before);
	EXPECT(vmstat("thp_split_page") == split + 1);
	return p[8 * PAGE_SIZE]; /* must not return */
}

static int huge_dontneed_part(void)
{
	volatile uint8_t *p = region();

	EXPECT(p && fill(p) == 1);
	EXPECT(!advise(p + PAGE_SIZE, 2 * PAGE_SIZE, MADV_DONTNEED));
	EXPECT(filled(p, 0, 1) && !p[PAGE_SIZE] && !p[2 * PAGE_SIZE] && filled(p, 3, PAGES));
	EXPECT(!advise(p, HUGE, MADV_DONTNEED));
	EXPECT(!p[0] && !p[HUGE - 1]);
	return 0;
}

static int huge_protect(void)
{
	volatile uint8_t *p = region();
	long split = vmstat("thp_split_pmd"), before;

	EXPECT(p && fill(p) == 1);
	before = minor_faults();
	EXPECT(!protect(p, PAGES, PROT_READ) && !protect(p, PAGES, RW));
	EXPECT(!protect(p, PAGES, PROT_NONE) && !protect(p, PAGES, RW));
	p[0] = 5;
	EXPECT(minor_faults() == before && vmstat("thp_split_pmd") == split);
	EXPECT(!protect(p + PAGE_SIZE, 1, PROT_READ));
	EXPECT(vmstat("thp_split_pmd") == split + 1);
	EXPECT(filled(p, 1, PAGES));
	p[2 * PAGE_SIZE] = 1;
	EXPECT(minor_faults() == before);
	p[PAGE_SIZE] = 1; /* must not return */
	return 0;
}

static int huge_moved(void)
{
	volatile uint8_t *p = region(), *to = p - 16 * PAGE_SIZE;
	long before;

	EXPECT(p && fill(p) == 1);
	before = minor_faults();
	EXPECT(syscall6(SYS_MREMAP, (long)p, HUGE, HUGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			(long)(to - HUGE), 0) == (long)(to - HUGE));
	EXPECT(filled(to - HUGE, 0, PAGES) && minor_faults() == before);
	/* Where it was there is room for a new one. */
	EXPECT(sys_mmap((void *)p, HUGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
			0) == (long)p);
	EXPECT(!advise(p, HUGE, MADV_HUGEPAGE) && fill(p) == 1);
	return 0;
}

static int huge_in_core(void)
{
	volatile uint8_t *p = region();
	uint8_t vec[3] = {0, 0, 0};
	long before;

	EXPECT(p);
	before = minor_faults();
	EXPECT(!advise(p, HUGE, MADV_POPULATE_WRITE) && minor_faults() == before + 1);
	EXPECT(!syscall3(SYS_MINCORE, (long)p + PAGE_SIZE, 3 * PAGE_SIZE, (long)vec));
	EXPECT(vec[0] == 1 && vec[1] == 1 && vec[2] == 1);
	EXPECT(!syscall3(SYS_MLOCK, (long)p, HUGE, 0) && minor_faults() == before + 1);
	return 0;
}

static int huge_collapse(void)
{
	volatile uint8_t *p = region();
	long before;

	EXPECT(p && !advise(p, HUGE, MADV_NOHUGEPAGE));
	EXPECT(advise(p, HUGE, MADV_COLLAPSE) == -EINVAL);
	EXPECT(!advise(p, HUGE, MADV_HUGEPAGE));
	EXPECT(advise(p, HUGE, MADV_COLLAPSE) == -EINVAL); /* nothing is there */
	EXPECT(!advise(p, HUGE, MADV_NOHUGEPAGE));
	for (size_t i = 0; i < SOME; i++)
		p[i * PAGE_SIZE] = mark(i);
	EXPECT(!advise(p, HUGE, MADV_HUGEPAGE) && !advise(p, HUGE, MADV_COLLAPSE));
	before = minor_faults();
	EXPECT(filled(p, 0, SOME) && !p[SOME * PAGE_SIZE] && !p[HUGE - 1]);
	EXPECT(fill(p) == 0 && minor_faults() == before);
	EXPECT(!advise(p, HUGE, MADV_COLLAPSE)); /* it is one already */
	return 0;
}

/* What is limited to less gets it by single pages; /proc counts that it was wanted. */
static int huge_fallback(void)
{
	volatile uint8_t *p = region();
	long fallbacks = vmstat("thp_fault_fallback"), before;

	EXPECT(p && !syscall3(SYS_MEMORY_LIMIT, 1 << 20, 0, 0));
	before = minor_faults();
	p[0] = p[PAGE_SIZE] = 1;
	EXPECT(minor_faults() == before + 2);
	EXPECT(vmstat("thp_fault_fallback") == fallbacks + 1);
	/* The zeroes are nobody's, until one is written to. */
	p = region();
	EXPECT(p && !p[0] && !p[HUGE - 1]);
	before = minor_faults();
	p[7 * PAGE_SIZE] = 7;
	p[8 * PAGE_SIZE] = 8;
	EXPECT(minor_faults() == before + 2);
	EXPECT(!p[0] && p[7 * PAGE_SIZE] == 7 && !p[9 * PAGE_SIZE]);
	return 0;
}

/* Out to swap and back, if there is any: 512 pages by then. */
static int huge_page_out(void)
{
	volatile uint8_t *p = region();
	long split = vmstat("thp_split_page");

	EXPECT(p && fill(p) == 1);
	EXPECT(!advise(p, HUGE, MADV_PAGEOUT));
	EXPECT(vmstat("thp_split_page") == split + 1);
	EXPECT(filled(p, 0, PAGES) && !p[1]);
	return 0;
}

/* Under a limit, what is not used goes: 2 MiB in parts. */
static int huge_reclaimed(void)
{
	volatile uint8_t *p = region(), *q = anon(700);
	long out = vmstat("pswpout"), split = vmstat("thp_split_page");

	if (proc_value("/proc/meminfo", "SwapTotal:") <= 0)
		return 0;
	EXPECT(p && q && !syscall3(SYS_MEMORY_LIMIT, 4 << 20, 0, 0));
	EXPECT(fill(p) == 1);
	for (size_t i = 0; i < 700; i++)
		q[i * PAGE_SIZE] = 1;
	EXPECT(vmstat("thp_split_page") == split + 1 && vmstat("pswpout") > out);
	EXPECT(filled(p, 0, PAGES) && !p[HUGE - 1]);
	return 0;
}

/* Rights that are taken for a hint come back, and what is there stays. */
static int numa_hints(void)
{
	enum { OWN = 200 };
	volatile uint8_t *p = anon(OWN), *huge = region();
	long taken = vmstat("numa_pte_updates"), hints = vmstat("numa_hint_faults");

	EXPECT(p && huge && fill(huge) == 1);
	for (int round = 1; round <= 3; round++)
		for (size_t i = 0; i < OWN; i++)
			p[i * PAGE_SIZE] = (uint8_t)(i + (size_t)round);
	for (size_t i = 0; i < OWN; i++)
		EXPECT(p[i * PAGE_SIZE] == (uint8_t)(i + 3));
	EXPECT(filled(huge, 0, PAGES) && protect(huge, PAGES, PROT_READ) == 0);
	EXPECT(filled(huge, 0, PAGES));
	/* With numa_balancing=enable; else none. */
	EXPECT((vmstat("numa_pte_updates") > taken) == (vmstat("numa_hint_faults") > hints));
	return 0;
}

const struct check huge_checks[] = {
    {"huge_write", huge_write, 0},
    {"huge_read_then_write", huge_read_then_write, 0},
    {"huge_not_here", huge_not_here, 0},
    {"huge_fork", huge_fork, 0},
    {"huge_fork_both_write", huge_fork_both_write, 0},
    {"huge_unmap_part", huge_unmap_part, SIGSEGV},
    {"huge_dontneed_part", huge_dontneed_part, 0},
    {"huge_protect", huge_protect, SIGSEGV},
    {"huge_moved", huge_moved, 0},
    {"huge_in_core", huge_in_core, 0},
    {"huge_collapse", huge_collapse, 0},
    {"huge_fallback", huge_fallback, 0},
    {"huge_page_out", huge_page_out, 0},
    {"huge_reclaimed", huge_reclaimed, 0},
    {"numa_hints", numa_hints, 0},
    {0},
};
