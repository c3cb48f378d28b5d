/* Mappings of the pool of 2 MiB pages. All but the first case want one of four (hugepages=4). */
#include "guest/user/check/check.h"

enum { HUGE = 2 << 20, POOL = 4, MAP_HUGETLB = 0x40000, MAP_HUGE_SHIFT = 26 };

static long map_huge(uintptr_t addr, size_t len, int flags)
{
	return sys_mmap((void *)addr, len, RW, flags | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
}

static volatile uint8_t *private_pages(size_t n)
{
	long p = map_huge(0, n * HUGE, MAP_PRIVATE);

	return p > 0 ? (volatile uint8_t *)p : NULL;
}

/* What the pool has, free and of that reserved. */
static bool pool_has(long unused, long reserved)
{
	return proc_value("/proc/meminfo", "HugePages_Free:") == unused &&
	       proc_value("/proc/meminfo", "HugePages_Rsvd:") == reserved;
}

static bool no_pool(void)
{
	return proc_value("/proc/meminfo", "HugePages_Total:") != POOL;
}

static int hugetlb_refused(void)
{
	EXPECT(map_huge(0, 1UL << 40, MAP_PRIVATE) == -ENOMEM);
	EXPECT(map_huge(0, 1UL << 40, MAP_SHARED) == -ENOMEM);
	EXPECT(map_huge(0, ~0UL, MAP_PRIVATE) == -EINVAL);
	EXPECT(map_huge(0, HUGE, MAP_PRIVATE | 25 << MAP_HUGE_SHIFT) == -EINVAL);
	EXPECT(map_huge(0x13000001000, HUGE, MAP_PRIVATE | MAP_FIXED) == -EINVAL);
	return 0;
}

static int hugetlb_private(void)
{
	long p, before;

	if (no_pool())
		return 0;
	p = map_huge(0, 5000, MAP_PRIVATE | 21 << MAP_HUGE_SHIFT);
	EXPECT(p > 0 && p % HUGE == 0 && pool_has(POOL, 1));
	volatile uint8_t *m = (volatile uint8_t *)p;
	before = minor_faults();
	m[HUGE - 1] = 1;
	m[0] = 2;
	EXPECT(minor_faults() == before + 1 && !m[1] && pool_has(POOL - 1, 0));
	EXPECT(map_huge(0, POOL * HUGE, MAP_PRIVATE) == -ENOMEM);
	EXPECT(map_huge(0, (POOL - 1) * HUGE, MAP_PRIVATE) > 0 && pool_has(POOL - 1, POOL - 1));
	EXPECT(!sys_munmap((void *)m, HUGE) && pool_has(POOL, POOL - 1));
	return 0;
}

/* Nothing less than a page of the pool can be unmapped, protected or advised. */
static int hugetlb_parts(void)
{
	volatile uint8_t *p;

	if (no_pool())
		return 0;
	p = private_pages(3);
	EXPECT(p);
	p[0] = p[HUGE] = p[2 * HUGE] = 7;
	EXPECT(sys_munmap((void *)p, PAGE_SIZE) == -EINVAL);
	EXPECT(protect(p + PAGE_SIZE, 1, PROT_READ) == -EINVAL);
	EXPECT(syscall3(SYS_MADVISE, (long)p + PAGE_SIZE, HUGE, MADV_DONTNEED) == -EINVAL);
	EXPECT(syscall3(SYS_MADVISE, (long)p, HUGE, MADV_FREE) == -EINVAL);
	EXPECT(syscall3(SYS_MADVISE, (long)p, HUGE, MADV_COLD) == -EINVAL);
	EXPECT(syscall6(SYS_MREMAP, (long)p, HUGE, 2 * HUGE, MREMAP_MAYMOVE, 0, 0) < 0);
	EXPECT(p[0] == 7 && pool_has(POOL - 3, 0));
	EXPECT(!syscall3(SYS_MADVISE, (long)p, HUGE + PAGE_SIZE, MADV_DONTNEED));
	EXPECT(pool_has(POOL - 2, 1) && p[HUGE] == 7 && !p[0]);
	EXPECT(!protect(p + HUGE, HUGE / PAGE_SIZE, PROT_READ) && p[HUGE] == 7);
	EXPECT(!protect(p + HUGE, HUGE / PAGE_SIZE, RW));
	p[HUGE] = 8;
	EXPECT(!sys_munmap((void *)(p + HUGE), HUGE) && pool_has(POOL - 2, 0));
	EXPECT(!sys_munmap((void *)p, 3 * HUGE) && pool_has(POOL, 0));
	return 0;
}

static volatile uint8_t *inherited, *word;

static int writes_unreserved(void)
{
	long p = map_huge(0, HUGE, MAP_PRIVATE | MAP_NORESERVE);

	EXPECT(p > 0);
	*(volatile uint8_t *)p = 1; /* must not return */
	return 0;
}

static int hugetlb_unreserved(void)
{
	if (no_pool())
		return 0;
	EXPECT(private_pages(POOL));
	EXPECT(in_child(writes_unreserved) == SIGBUS);
	EXPECT(pool_has(POOL, POOL));
	return 0;
}

static int writes_inherited(void)
{
	EXPECT(inherited[5] == 5);
	inherited[5] = 6;
	EXPECT(inherited[5] == 6 && !inherited[6] && pool_has(POOL - 2, 0));
	return 0;
}

static int hugetlb_fork(void)
{
	long before;

	if (no_pool())
		return 0;
	inherited = private_pages(1);
	EXPECT(inherited);
	inherited[5] = 5;
	EXPECT(!in_child(writes_inherited));
	EXPECT(inherited[5] == 5 && pool_has(POOL - 1, 0));
	before = minor_faults();
	inherited[5] = 7;
	EXPECT(minor_faults() == before + 1);
	return 0;
}

/* Who reserved nothing gets nothing; the parent's is as it was. */
static int hugetlb_fork_empty(void)
{
	if (no_pool())
		return 0;
	inherited = private_pages(POOL);
	EXPECT(inherited);
	for (size_t i = 0; i < POOL; i++)
		inherited[i * HUGE + 5] = 5;
	EXPECT(in_child(writes_inherited) == SIGBUS);
	EXPECT(inherited[5] == 5 && pool_has(0, 0));
	return 0;
}

static void wait_for(uint8_t value)
{
	while (*word != value)
		syscall3(SYS_SCHED_YIELD, 0, 0, 0);
}

/* A write of who reserved takes the page from the child. */
static int hugetlb_taken_back(void)
{
	int pid, status = -1;

	if (no_pool())
		return 0;
	inherited = private_pages(POOL);
	word = (volatile uint8_t *)sys_mmap(NULL, PAGE_SIZE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (size_t i = 0; i < POOL; i++)
		inherited[i * HUGE] = 5;
	pid = sys_fork();
	if (!pid) {
		wait_for(1);
		sys_exit(inherited[HUGE] == 5 ? inherited[0] : 99); /* ends before */
	}
	inherited[0] = 6;
	*word = 1;
	EXPECT(sys_wait4(pid, &status) == pid && status == SIGBUS);
	EXPECT(inherited[0] == 6 && inherited[HUGE] == 5);
	EXPECT(!sys_munmap((void *)inherited, POOL * HUGE) && pool_has(POOL, 0));
	return 0;
}

static int writes_shared(void)
{
	/* The third's reservation is the object's, mapped or not. */
	EXPECT(inherited[0] == 1 && !inherited[HUGE] && pool_has(POOL - 2, 1));
	inherited[HUGE] = 2;
	inherited[1] = 3;
	return 0;
}

static int hugetlb_shared(void)
{
	if (no_pool())
		return 0;
	inherited = (volatile uint8_t *)map_huge(0, 3 * HUGE, MAP_SHARED);
	EXPECT((long)inherited > 0 && pool_has(POOL, 3));
	inherited[0] = 1;
	EXPECT(pool_has(POOL - 1, 2));
	EXPECT(private_pages(2) == NULL);
	EXPECT(!sys_munmap((void *)(inherited + 2 * HUGE), HUGE));
	EXPECT(!in_child(writes_shared));
	EXPECT(inherited[1] == 3 && inherited[HUGE] == 2);
	EXPECT(!sys_munmap((void *)inherited, 2 * HUGE) && pool_has(POOL, 0));
	return 0;
}

const struct check hugetlb_checks[] = {
    {"hugetlb_refused", hugetlb_refused, 0},
    {"hugetlb_private", hugetlb_private, 0},
    {"hugetlb_parts", hugetlb_parts, 0},
    {"hugetlb_unreserved", hugetlb_unreserved, 0},
    {"hugetlb_fork", hugetlb_fork, 0},
    {"hugetlb_fork_empty", hugetlb_fork_empty, 0},
    {"hugetlb_taken_back", hugetlb_taken_back, 0},
    {"hugetlb_shared", hugetlb_shared, 0},
    {0},
};
