/* Anonymous memory, mappings and protections. */
#include "guest/user/check/check.h"

static int anon_zero_then_own(void)
{
	volatile uint8_t *p = anon(2);
	long before = minor_faults();

	EXPECT(p);
	EXPECT(p[0] == 0 && p[PAGE_SIZE] == 0);
	p[0] = 1;
	EXPECT(p[0] == 1 && p[1] == 0 && p[PAGE_SIZE] == 0);
	EXPECT(minor_faults() - before == 3);
	return 0;
}

static int dontneed(void)
{
	volatile uint8_t *p = anon(4);
	struct mapping m;

	EXPECT(p);
	p[PAGE_SIZE] = 7;
	EXPECT(!syscall3(SYS_MADVISE, (long)p, 4 * PAGE_SIZE, MADV_DONTNEED));
	EXPECT(p[PAGE_SIZE] == 0);
	EXPECT(!map_file(FILE_PATH, true, MAP_PRIVATE, &m));
	uint8_t old = m.data[5];
	m.data[5] = (uint8_t)~old;
	EXPECT(!syscall3(SYS_MADVISE, (long)m.data, PAGE_SIZE, MADV_DONTNEED));
	EXPECT(m.data[5] == old);
	return 0;
}

static int unmap_middle(void)
{
	volatile uint8_t *p = anon(3);

	EXPECT(p);
	p[0] = 1;
	p[2 * PAGE_SIZE] = 3;
	EXPECT(!sys_munmap((void *)(p + PAGE_SIZE), PAGE_SIZE));
	EXPECT(p[0] == 1 && p[2 * PAGE_SIZE] == 3);
	return p[PAGE_SIZE]; /* must not return */
}

static int map_fixed_replaces(void)
{
	volatile uint8_t *p = anon(2);
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

	EXPECT(p);
	p[0] = p[PAGE_SIZE] = 9;
	EXPECT(sys_mmap((void *)p, PAGE_SIZE, RW, flags, -1, 0) == (long)p);
	EXPECT(p[0] == 0 && p[PAGE_SIZE] == 9);
	return 0;
}

static int brk_moves(void)
{
	long start = syscall3(SYS_BRK, 0, 0, 0);
	volatile uint8_t *p = (volatile uint8_t *)start;

	EXPECT(syscall3(SYS_BRK, start + 3 * PAGE_SIZE, 0, 0) == start + 3 * PAGE_SIZE);
	p[0] = p[2 * PAGE_SIZE] = 5;
	EXPECT(syscall3(SYS_BRK, start, 0, 0) == start);
	EXPECT(syscall3(SYS_BRK, start + PAGE_SIZE, 0, 0) == start + PAGE_SIZE);
	EXPECT(p[0] == 0);
	return 0;
}

static int write_read_only(void)
{
	volatile uint8_t *p = anon(1);

	EXPECT(p);
	p[0] = 1;
	EXPECT(!protect(p, 1, PROT_READ));
	EXPECT(p[0] == 1);
	p[0] = 2;
	return 0;
}

static int protect_back(void)
{
	volatile uint8_t *p = anon(3);

	EXPECT(p);
	p[PAGE_SIZE] = 4;
	EXPECT(!protect(p + PAGE_SIZE, 1, PROT_NONE));
	EXPECT(!protect(p + PAGE_SIZE, 1, RW));
	EXPECT(p[PAGE_SIZE] == 4);
	p[PAGE_SIZE] = 6;
	EXPECT(p[PAGE_SIZE] == 6);
	return 0;
}

static int read_none(void)
{
	volatile uint8_t *p = anon(1);

	EXPECT(p);
	p[0] = 1;
	EXPECT(!protect(p, 1, PROT_NONE));
	return p[0];
}

static int fetch_no_exec(void)
{
	volatile uint8_t *p = anon(1);

	EXPECT(p);
	p[0] = 0xc3; /* ret */
	((void (*)(void))(uintptr_t)p)();
	return 0;
}

static int null_read(void)
{
	volatile int *nowhere = NULL;

	__asm__("" : "+r"(nowhere));
	return *nowhere;
}

static int kernel_read(void)
{
	return *(volatile int *)0xffffffff80100000UL;
}

static int non_canonical(void)
{
	return *(volatile int *)0x8000000000000000UL;
}

static int past_end_of_file(void)
{
	struct mapping m;
	int fd = sys_open(FILE_PATH, O_RDONLY);

	EXPECT(!map_file(FILE_PATH, false, MAP_PRIVATE, &m) && fd >= 0);
	long p = sys_mmap(NULL, m.len + PAGE_SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
	EXPECT(p > 0);
	return ((volatile uint8_t *)p)[m.len];
}

static uint64_t deep(unsigned levels)
{
	volatile uint64_t frame[512];

	frame[0] = levels;
	return levels ? deep(levels - 1) + frame[0] : 0;
}

static int stack_grows(void)
{
	EXPECT(deep(500) == 500 * 501 / 2);
	return 0;
}

static int stack_overflows(void)
{
	return (int)deep(4000);
}

/* What user mode may not read, the kernel does not read for it. */
static int copy_none(void)
{
	volatile uint8_t *p = anon(1);

	EXPECT(p);
	p[0] = 'x';
	EXPECT(!protect(p, 1, PROT_NONE));
	EXPECT(sys_write(1, (void *)p, 1) == -EFAULT);
	return 0;
}

static int populate_none(void)
{
	long p =
	    sys_mmap(NULL, PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	EXPECT(p > 0);
	return *(volatile uint8_t *)p; /* must not return */
}

/* Half the address space with a page at each end: the hole costs nothing to go through. */
static int sparse(void)
{
	size_t len = 1UL << 46;
	long p = sys_mmap(NULL, len, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	volatile uint8_t *start = (volatile uint8_t *)p;
	uint64_t began = now_ns();

	EXPECT(p > 0);
	start[0] = start[len - 1] = 1;
	EXPECT(!protect(start, len / PAGE_SIZE, PROT_READ));
	EXPECT(sys_fork() >= 0);
	EXPECT(start[0] == 1 && start[len - 1] == 1);
	EXPECT(!sys_munmap((void *)p, len));
	/* A walk page by page would take hours. */
	EXPECT(now_ns() - began < 60000000000);
	return 0;
}

static int hint_ignored(void)
{
	long p = sys_mmap((void *)0xffff800000000000UL, PAGE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	EXPECT(p > 0);
	*(volatile uint8_t *)p = 1;
	return 0;
}

const struct check memory_checks[] = {
    {"anon_zero_then_own", anon_zero_then_own, 0},
    {"dontneed", dontneed, 0},
    {"unmap_middle", unmap_middle, SIGSEGV},
    {"map_fixed_replaces", map_fixed_replaces, 0},
    {"brk_moves", brk_moves, 0},
    {"write_read_only", write_read_only, SIGSEGV},
    {"protect_back", protect_back, 0},
    {"read_none", read_none, SIGSEGV},
    {"fetch_no_exec", fetch_no_exec, SIGSEGV},
    {"null_read", null_read, SIGSEGV},
    {"kernel_read", kernel_read, SIGSEGV},
    {"non_canonical", non_canonical, SIGSEGV},
    {"past_end_of_file", past_end_of_file, SIGBUS},
    {"stack_grows", stack_grows, 0},
    {"stack_overflows", stack_overflows, SIGSEGV},
    {"copy_none", copy_none, 0},
    {"populate_none", populate_none, SIGSEGV},
    {"sparse", sparse, 0},
    {"hint_ignored", hint_ignored, 0},
    {0},
};
