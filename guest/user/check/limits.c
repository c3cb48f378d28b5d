/* Resource limits on memory: each met exactly, by the call or the access that would go past it. */
#include "guest/user/check/check.h"

struct rlimit {
	uint64_t cur, max;
};

enum { RLIMIT_DATA = 2, RLIMIT_STACK = 3, RLIMIT_AS = 9, NO_RESOURCE = 16 };
enum { SYS_GETRLIMIT = 97, SYS_SETRLIMIT = 160, SYS_PRLIMIT64 = 302, ESRCH = 3 };

static int get_limit(int resource, struct rlimit *limit)
{
	return (int)syscall3(SYS_GETRLIMIT, resource, (long)limit, 0);
}

/* The soft one. */
static int set_limit(int resource, uint64_t bytes)
{
	struct rlimit limit;

	if (get_limit(resource, &limit))
		return -1;
	limit.cur = bytes;
	return (int)syscall3(SYS_SETRLIMIT, resource, (long)&limit, 0);
}

static long map_mib(size_t mib, int prot, int flags)
{
	return sys_mmap(NULL, mib << 20, prot, flags | MAP_ANONYMOUS, -1, 0);
}

static int limit_calls(void)
{
	struct rlimit limit = {2, 1}, old;

	EXPECT(get_limit(NO_RESOURCE, &limit) == -EINVAL);
	EXPECT(syscall3(SYS_SETRLIMIT, NO_RESOURCE, (long)&limit, 0) == -EINVAL);
	EXPECT(syscall3(SYS_SETRLIMIT, RLIMIT_AS, (long)&limit, 0) == -EINVAL);
	EXPECT(syscall3(SYS_SETRLIMIT, RLIMIT_AS, 1, 0) == -EFAULT);
	EXPECT(syscall3(SYS_GETRLIMIT, RLIMIT_AS, 1, 0) == -EFAULT);
	EXPECT(syscall4(SYS_PRLIMIT64, 99999999, RLIMIT_AS, 0, (long)&old) == -ESRCH);
	EXPECT(!set_limit(RLIMIT_AS, 1UL << 40));
	limit.max = 1UL << 41;
	limit.cur = 1UL << 39;
	EXPECT(!syscall4(SYS_PRLIMIT64, 0, RLIMIT_AS, (long)&limit, (long)&old));
	EXPECT(old.cur == 1UL << 40);
	EXPECT(!get_limit(RLIMIT_AS, &old) && old.cur == limit.cur && old.max == limit.max);
	return 0;
}

static int limit_address_space(void)
{
	const int private = MAP_PRIVATE | MAP_NORESERVE;
	long p, q;

	EXPECT(!set_limit(RLIMIT_AS, 64 << 20));
	EXPECT(map_mib(64, PROT_READ, private) == -ENOMEM);
	p = map_mib(40, PROT_READ, private);
	EXPECT(p > 0);
	EXPECT(map_mib(30, PROT_READ, private) == -ENOMEM);
	/* In the place of what is there, it is no more. */
	EXPECT(sys_mmap((void *)p, 40 << 20, PROT_READ, private | MAP_ANONYMOUS | MAP_FIXED, -1,
			0) == p);
	EXPECT(syscall6(SYS_MREMAP, p, 40 << 20, 80 << 20, MREMAP_MAYMOVE, 0, 0) == -ENOMEM);
	q = syscall3(SYS_BRK, 0, 0, 0);
	EXPECT(syscall3(SYS_BRK, q + (30 << 20), 0, 0) == q);
	EXPECT(!sys_munmap((void *)p, 40 << 20));
	EXPECT(map_mib(40, PROT_READ, private) > 0);
	return 0;
}

static int limit_data(void)
{
	long p, brk = syscall3(SYS_BRK, 0, 0, 0);

	EXPECT(!set_limit(RLIMIT_DATA, 4 << 20));
	EXPECT(map_mib(4, RW, MAP_PRIVATE) == -ENOMEM);
	EXPECT(map_mib(2, RW, MAP_PRIVATE) > 0);
	EXPECT(map_mib(8, RW, MAP_SHARED) > 0);
	p = map_mib(8, PROT_READ, MAP_PRIVATE);
	EXPECT(p > 0);
	EXPECT(syscall3(SYS_MPROTECT, p, 8 << 20, RW) == -ENOMEM);
	EXPECT(!syscall3(SYS_MPROTECT, p, PAGE_SIZE, RW));
	EXPECT(syscall3(SYS_BRK, brk + (4 << 20), 0, 0) == brk);
	EXPECT(syscall3(SYS_BRK, brk + PAGE_SIZE, 0, 0) == brk + PAGE_SIZE);
	return 0;
}

/* A stack of one page, under that limit. */
static volatile uint8_t *stack_of(uint64_t limit)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN;
	long p = sys_mmap((void *)0x20000000000, PAGE_SIZE, RW, flags, -1, 0);

	return p > 0 && !set_limit(RLIMIT_STACK, limit) ? (volatile uint8_t *)p + PAGE_SIZE : NULL;
}

static int limit_stack_reached(void)
{
	volatile uint8_t *top = stack_of(32 << 20);

	EXPECT(top);
	top[-16 * PAGE_SIZE] = 1;
	top[-(32 << 20)] = 1;
	return 0;
}

static int limit_stack_passed(void)
{
	volatile uint8_t *top = stack_of(16 * PAGE_SIZE);

	EXPECT(top);
	top[-16 * PAGE_SIZE] = 1;
	top[-16 * PAGE_SIZE - 1] = 1; /* must not return */
	return 0;
}

static int stack_in_address_space(void)
{
	volatile uint8_t *top = stack_of(32 << 20);

	EXPECT(top && !set_limit(RLIMIT_AS, 16 << 20));
	top[-(16 << 20)] = 1; /* must not return */
	return 0;
}

static int has_limit(void)
{
	struct rlimit limit;

	EXPECT(!get_limit(RLIMIT_DATA, &limit) && limit.cur == 5 << 20);
	return 0;
}

static int limit_inherited(void)
{
	EXPECT(!set_limit(RLIMIT_DATA, 5 << 20));
	EXPECT(!in_child(has_limit));
	return 0;
}

const struct check limit_checks[] = {
    {"limit_calls", limit_calls, 0},
    {"limit_address_space", limit_address_space, 0},
    {"limit_data", limit_data, 0},
    {"limit_stack_reached", limit_stack_reached, 0},
    {"limit_stack_passed", limit_stack_passed, SIGSEGV},
    {"stack_in_address_space", stack_in_address_space, SIGSEGV},
    {"limit_inherited", limit_inherited, 0},
    {0},
};
