/* Calls on mappings: moved, split and joined, kept in memory, shared, advised. */
#include "guest/user/check/check.h"

static long remap(volatile void *p, size_t old_pages, size_t new_pages, int flags, long to)
{
	return syscall6(SYS_MREMAP, (long)p, (long)(old_pages * PAGE_SIZE),
			(long)(new_pages * PAGE_SIZE), flags, to, 0);
}

static int advise(volatile void *p, size_t pages, int advice)
{
	return (int)syscall3(SYS_MADVISE, (long)p, (long)(pages * PAGE_SIZE), advice);
}

static int unmap_pages(volatile uint8_t *p, size_t pages)
{
	return sys_munmap((void *)p, pages * PAGE_SIZE);
}

static volatile uint8_t *shared_anon(size_t pages)
{
	long p = sys_mmap(NULL, pages * PAGE_SIZE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p > 0 ? (volatile uint8_t *)p : NULL;
}

static void fill(volatile uint8_t *p, size_t pages)
{
	for (size_t i = 0; i < pages; i++)
		p[i * PAGE_SIZE] = (uint8_t)(i + 1);
}

static bool filled(volatile uint8_t *p, size_t pages)
{
	for (size_t i = 0; i < pages; i++)
		if (p[i * PAGE_SIZE] != (uint8_t)(i + 1))
			return false;
	return true;
}

static int mremap_shrinks_and_grows(void)
{
	volatile uint8_t *p = anon(8);

	EXPECT(p);
	fill(p, 8);
	EXPECT(remap(p, 8, 3, 0, 0) == (long)p);
	EXPECT(filled(p, 3));
	EXPECT(remap(p, 3, 8, 0, 0) == (long)p); /* where it was before */
	EXPECT(filled(p, 3) && !p[3 * PAGE_SIZE] && !p[7 * PAGE_SIZE]);
	/* No room: what is behind stays. */
	EXPECT(remap(p, 4, 6, 0, 0) == -ENOMEM);
	EXPECT(filled(p, 3));
	return 0;
}

static int mremap_moves(void)
{
	volatile uint8_t *p = anon(8), *area = anon(600), *q;
	long before;

	EXPECT(p && area);
	/* Across the end of a page table at one place and not at the other. */
	q = (volatile uint8_t *)((((uintptr_t)area + (1 << 21) - 1) & ~((1UL << 21) - 1)) -
				 3 * PAGE_SIZE);
	if (q < area)
		q += 300 * PAGE_SIZE;
	fill(p, 6);
	before = minor_faults();
	EXPECT(remap(p, 8, 8, MREMAP_MAYMOVE | MREMAP_FIXED, (long)q) == (long)q);
	EXPECT(filled(q, 6));
	q[0] = 1;
	EXPECT(minor_faults() == before);
	EXPECT(!q[7 * PAGE_SIZE]);
	EXPECT(minor_faults() == before + 1);
	/* Nothing is left behind. */
	EXPECT(sys_mmap((void *)p, PAGE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
			-1, 0) == (long)p);
	return 0;
}

static int mremap_old_place(void)
{
	volatile uint8_t *p = anon(2);

	EXPECT(p);
	p[0] = 1;
	EXPECT(remap(p, 2, 40, MREMAP_MAYMOVE, 0) > 0);
	p = anon(2);
	EXPECT(remap(p, 2, 2, MREMAP_MAYMOVE | MREMAP_FIXED, (long)(p - 64 * PAGE_SIZE)) > 0);
	return p[0]; /* must not return */
}

static int mremap_dontunmap(void)
{
	volatile uint8_t *p = anon(4);
	long q;

	EXPECT(p);
	fill(p, 4);
	q = remap(p, 4, 4, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
	EXPECT(q > 0 && q != (long)p);
	EXPECT(filled((volatile uint8_t *)q, 4));
	EXPECT(!p[0] && !p[3 * PAGE_SIZE]);
	return 0;
}

static int mremap_refused(void)
{
	volatile uint8_t *p = anon(4);
	const int fixed = MREMAP_MAYMOVE | MREMAP_FIXED;

	EXPECT(p);
	EXPECT(remap(p, 4, 4, 8, 0) == -EINVAL);
	EXPECT(remap(p, 4, 4, MREMAP_FIXED, (long)(p - 64 * PAGE_SIZE)) == -EINVAL);
	EXPECT(remap(p, 4, 0, MREMAP_MAYMOVE, 0) == -EINVAL);
	EXPECT(remap(p + 1, 4, 4, MREMAP_MAYMOVE, 0) == -EINVAL);
	EXPECT(remap(p, 4, 4, fixed, (long)(p + PAGE_SIZE)) == -EINVAL); /* overlap */
	EXPECT(remap(p, 4, 4, fixed, (long)(p + 1)) == -EINVAL);
	EXPECT(remap(p, 4, 4, fixed, (long)0xffff800000000000) == -EINVAL);
	EXPECT(remap(p, 4, 8, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0) == -EINVAL);
	EXPECT(!unmap_pages(p + PAGE_SIZE, 1));
	EXPECT(remap(p, 4, 8, MREMAP_MAYMOVE, 0) == -EFAULT);
	EXPECT(remap(p + PAGE_SIZE, 1, 2, MREMAP_MAYMOVE, 0) == -EFAULT);
	return 0;
}

/* What was split for a while is one mapping again: mremap takes no more than one. */
static int merged(void)
{
	volatile uint8_t *p = anon(8);

	EXPECT(p);
	fill(p, 8);
	EXPECT(!protect(p + 2 * PAGE_SIZE, 2, PROT_READ));
	EXPECT(remap(p, 8, 9, MREMAP_MAYMOVE, 0) == -EFAULT);
	EXPECT(!protect(p + 2 * PAGE_SIZE, 2, RW));
	long q = remap(p, 8, 16, MREMAP_MAYMOVE, 0);
	EXPECT(q > 0 && filled((volatile uint8_t *)q, 8));
	return 0;
}

static int mincore_tells(void)
{
	volatile uint8_t *p = anon(4);
	uint8_t vec[4] = {9, 9, 9, 9};

	EXPECT(p);
	p[PAGE_SIZE] = 1;
	EXPECT(!syscall3(SYS_MINCORE, (long)p, 4 * PAGE_SIZE, (long)vec));
	EXPECT(!vec[0] && vec[1] == 1 && !vec[2] && !vec[3]);
	EXPECT(syscall3(SYS_MINCORE, (long)p + 1, PAGE_SIZE, (long)vec) == -EINVAL);
	EXPECT(syscall3(SYS_MINCORE, (long)p, PAGE_SIZE, 1) == -EFAULT);
	EXPECT(!unmap_pages(p + PAGE_SIZE, 1));
	EXPECT(syscall3(SYS_MINCORE, (long)p, 4 * PAGE_SIZE, (long)vec) == -ENOMEM);
	return 0;
}

static int mlock_keeps(void)
{
	volatile uint8_t *p = anon(4);
	long before = minor_faults();

	EXPECT(p);
	EXPECT(!syscall3(SYS_MLOCK, (long)p + 5, 2 * PAGE_SIZE - 5, 0));
	EXPECT(minor_faults() - before == 2);
	p[0] = p[PAGE_SIZE] = 1;
	EXPECT(minor_faults() - before == 2);
	EXPECT(advise(p, 1, MADV_DONTNEED) == -EINVAL);
	EXPECT(sys_msync((void *)p, PAGE_SIZE, MS_INVALIDATE) == -EBUSY);
	EXPECT(!syscall3(SYS_MUNLOCK, (long)p, 2 * PAGE_SIZE, 0));
	EXPECT(!advise(p, 1, MADV_DONTNEED) && !p[0]);
	EXPECT(!unmap_pages(p + PAGE_SIZE, 1));
	EXPECT(syscall3(SYS_MLOCK, (long)p, 4 * PAGE_SIZE, 0) == -ENOMEM);
	EXPECT(syscall3(SYS_MLOCKALL, 0, 0, 0) == -EINVAL && syscall3(SYS_MLOCKALL, 4, 0, 0) < 0);
	EXPECT(!syscall3(SYS_MLOCKALL, 2, 0, 0));
	p = anon(2);
	before = minor_faults();
	p[0] = p[PAGE_SIZE] = 1;
	EXPECT(minor_faults() == before);
	EXPECT(!syscall3(SYS_MUNLOCKALL, 0, 0, 0));
	return 0;
}

static int advised(void)
{
	volatile uint8_t *p = anon(8);
	long before;

	EXPECT(p);
	EXPECT(!advise(p, 4, MADV_POPULATE_READ));
	EXPECT(!advise(p + 4 * PAGE_SIZE, 4, MADV_POPULATE_WRITE));
	before = minor_faults();
	fill(p + 4 * PAGE_SIZE, 4);
	EXPECT(minor_faults() == before);
	EXPECT(!p[0] && !p[3 * PAGE_SIZE]);
	EXPECT(minor_faults() == before);
	EXPECT(!advise(p + 4 * PAGE_SIZE, 4, MADV_COLD));
	EXPECT(filled(p + 4 * PAGE_SIZE, 4));
	EXPECT(!advise(p, 8, MADV_PAGEOUT));
	EXPECT(filled(p + 4 * PAGE_SIZE, 4));
	EXPECT(!advise(p, 8, MADV_FREE));
	p[0] = 3;
	EXPECT(p[0] == 3);
	EXPECT(advise(p, 1, 7) == -EINVAL && advise(p, 1, 1000) == -EINVAL);
	EXPECT(!protect(p, 1, PROT_NONE));
	EXPECT(advise(p, 1, MADV_POPULATE_READ) < 0);
	return 0;
}

static volatile uint8_t *handed_down;

static int touch_handed_down(void)
{
	return handed_down[0];
}

static int dont_fork(void)
{
	handed_down = anon(3) + PAGE_SIZE;
	handed_down[0] = 0;
	EXPECT(!advise(handed_down, 1, MADV_DONTFORK));
	EXPECT(in_child(touch_handed_down) == SIGSEGV);
	EXPECT(!advise(handed_down, 1, MADV_DOFORK));
	EXPECT(in_child(touch_handed_down) == 0);
	return 0;
}

static int write_handed_down(void)
{
	long before = minor_faults();

	EXPECT(filled(handed_down, 64));
	EXPECT(minor_faults() - before <= 64 / 16 + 1);
	before = minor_faults();
	for (size_t i = 0; i < 64; i++)
		handed_down[i * PAGE_SIZE] ^= 0xff;
	EXPECT(minor_faults() == before);
	return 0;
}

/* One object for both sides of a fork; holes are zero; it ends where it ended when made. */
static int shared_memory(void)
{
	long before;

	handed_down = shared_anon(64);
	EXPECT(handed_down);
	before = minor_faults();
	for (size_t i = 0; i < 64; i++)
		EXPECT(!handed_down[i * PAGE_SIZE]);
	EXPECT(minor_faults() - before == 64);
	fill(handed_down, 64);
	EXPECT(minor_faults() - before == 64);
	EXPECT(!in_child(write_handed_down));
	/* It is in no filesystem whose number it could have. */
	EXPECT(proc_value("/proc/self/maps", "no such line") == -1);
	for (size_t i = 0; i < 64; i++)
		EXPECT(handed_down[i * PAGE_SIZE] == ((i + 1) ^ 0xff));
	EXPECT(!advise(handed_down, 64, MADV_DONTNEED));
	EXPECT(handed_down[PAGE_SIZE] == (2 ^ 0xff));
	EXPECT(!sys_msync((void *)handed_down, PAGE_SIZE, MS_SYNC));
	return 0;
}

static int shared_memory_ends(void)
{
	volatile uint8_t *p = shared_anon(2);
	long q;

	EXPECT(p);
	q = remap(p, 2, 4, MREMAP_MAYMOVE, 0);
	EXPECT(q > 0);
	p = (volatile uint8_t *)q;
	p[PAGE_SIZE] = 1;
	return p[2 * PAGE_SIZE]; /* must not return */
}

/* More than there is of everything is refused, unless nobody reserves for it. */
static int overcommit(void)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS;

	EXPECT(sys_mmap(NULL, 1UL << 46, RW, flags, -1, 0) == -ENOMEM);
	EXPECT(sys_mmap(NULL, 1UL << 46, PROT_READ, flags, -1, 0) > 0);
	EXPECT(sys_mmap(NULL, 1UL << 45, RW, flags | MAP_NORESERVE, -1, 0) > 0);
	return 0;
}

static int guard_gap(int pages)
{
	const uintptr_t top = 0x20000000000;
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
	volatile uint8_t *stack = (volatile uint8_t *)top;

	EXPECT(sys_mmap((void *)top, PAGE_SIZE, RW, flags | MAP_GROWSDOWN, -1, 0) > 0);
	EXPECT(sys_mmap((void *)(top - ((size_t)pages + 2) * PAGE_SIZE), PAGE_SIZE, RW, flags, -1,
			0) > 0);
	stack[-1] = 1;
	return 0;
}

static int guard_gap_wide(void)
{
	return guard_gap(256);
}

static int guard_gap_narrow(void)
{
	return guard_gap(255);
}

const struct check mapping_checks[] = {
    {"mremap_shrinks_and_grows", mremap_shrinks_and_grows, 0},
    {"mremap_moves", mremap_moves, 0},
    {"mremap_old_place", mremap_old_place, SIGSEGV},
    {"mremap_dontunmap", mremap_dontunmap, 0},
    {"mremap_refused", mremap_refused, 0},
    {"merged", merged, 0},
    {"mincore_tells", mincore_tells, 0},
    {"mlock_keeps", mlock_keeps, 0},
    {"advised", advised, 0},
    {"dont_fork", dont_fork, 0},
    {"shared_memory", shared_memory, 0},
    {"shared_memory_ends", shared_memory_ends, SIGBUS},
    {"overcommit", overcommit, 0},
    {"guard_gap_wide", guard_gap_wide, 0},
    {"guard_gap_narrow", guard_gap_narrow, SIGSEGV},
    {0},
};
