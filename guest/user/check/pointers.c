/* What system calls make of addresses and arguments that no honest program passes. */
#include "guest/user/check/check.h"

static int bad_pointers(void)
{
	volatile uint8_t *p = anon(2);
	int fd = sys_open(FILE_PATH, O_RDONLY);

	EXPECT(p && fd >= 0);
	EXPECT(!sys_munmap((void *)(p + PAGE_SIZE), PAGE_SIZE));
	EXPECT(sys_write(1, (void *)(p + PAGE_SIZE), 1) == -EFAULT);
	EXPECT(sys_pread(fd, NULL, 1, 0) == -EFAULT);
	EXPECT(sys_pread(fd, (void *)0xffffffff80100000UL, 1, 0) == -EFAULT);
	EXPECT(sys_pread(fd, (void *)0x8000000000000000UL, 1, 0) == -EFAULT);
	EXPECT(sys_open((char *)p + PAGE_SIZE, O_RDONLY) == -EFAULT);
	/* Up to the last good byte, and not one more. */
	EXPECT(sys_pread(fd, (void *)(p + PAGE_SIZE - 13), 100, 0) == 13);
	EXPECT(!protect(p, 1, PROT_READ));
	EXPECT(sys_pread(fd, (void *)p, 16, 0) == -EFAULT);
	return 0;
}

static int bad_arguments(void)
{
	EXPECT(sys_mmap(NULL, 0, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == -EINVAL);
	EXPECT(sys_mmap((void *)1, 1, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) < 0);
	EXPECT(sys_mmap(NULL, ~0UL, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) < 0);
	EXPECT(sys_munmap((void *)0x7ffffffff000UL, ~0UL) < 0);
	EXPECT(sys_mmap((void *)0x7fffffffe000, 2 * PAGE_SIZE, RW,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == -ENOMEM);
	EXPECT(syscall3(100000, 0, 0, 0) == -38);
	EXPECT(syscall3(-1, 0, 0, 0) == -38);
	return 0;
}

/* What of a range is not mapped is an error only after the rest was done. */
static int bad_ranges(void)
{
	volatile uint8_t *p = anon(3);
	long a = (long)p;

	EXPECT(p);
	EXPECT(!sys_munmap((void *)(p + PAGE_SIZE), PAGE_SIZE));
	p[2 * PAGE_SIZE] = 1;
	EXPECT(syscall3(SYS_MADVISE, a, 3 * PAGE_SIZE, MADV_DONTNEED) == -ENOMEM);
	EXPECT(p[2 * PAGE_SIZE] == 0);
	EXPECT(syscall3(SYS_MADVISE, a, 0, 12345) == -EINVAL);
	EXPECT(syscall3(SYS_MADVISE, a + 1, PAGE_SIZE, MADV_DONTNEED) == -EINVAL);
	EXPECT(sys_msync((void *)p, 3 * PAGE_SIZE, MS_SYNC) == -ENOMEM);
	EXPECT(syscall3(SYS_MPROTECT, a, 3 * PAGE_SIZE, PROT_READ) == -ENOMEM);
	EXPECT(syscall3(SYS_MPROTECT, a, PAGE_SIZE, 0x80) == -EINVAL);
	EXPECT(syscall3(SYS_MPROTECT, a, -PAGE_SIZE, PROT_READ) == -ENOMEM);
	EXPECT(syscall4(SYS_WAIT4, -1, 0, 0x40, 0) == -EINVAL);
	return 0;
}

const struct check pointer_checks[] = {
    {"bad_pointers", bad_pointers, 0},
    {"bad_arguments", bad_arguments, 0},
    {"bad_ranges", bad_ranges, 0},
    {0},
};
