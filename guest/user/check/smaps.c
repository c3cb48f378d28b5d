/* What /proc/self/smaps says of a mapping, in kB. */
#include "guest/user/check/check.h"

enum { MADV_HUGEPAGE = 14, HUGE = 2 << 20 };

/* Skips hexadecimal digits; the address they say. */
static const char *parse_hex(const char *s, uintptr_t *value)
{
	for (*value = 0;; s++) {
		if (*s >= '0' && *s <= '9')
			*value = *value * 16 + (uintptr_t)(*s - '0');
		else if (*s >= 'a' && *s <= 'f')
			*value = *value * 16 + (uintptr_t)(*s - 'a' + 10);
		else
			return s;
	}
}

static const char *next_line(const char *s)
{
	while (*s && *s != '\n')
		s++;
	return *s ? s + 1 : s;
}

/* The field of the mapping that begins at p; -1: none does. */
static long smaps(volatile void *p, const char *name)
{
	static char text[1 << 16];
	const size_t len = strlen(name);
	int fd = sys_open("/proc/self/smaps", O_RDONLY);
	uintptr_t start = 0;
	size_t n = 0;
	long part;

	while ((part = sys_read(fd, text + n, sizeof(text) - 1 - n)) > 0)
		n += (size_t)part;
	sys_close(fd);
	text[n] = 0;
	for (const char *line = text; *line; line = next_line(line)) {
		uintptr_t addr;

		if (*parse_hex(line, &addr) == '-')
			start = addr;
		if (start != (uintptr_t)p || memcmp(line, name, len) != 0)
			continue;
		for (line += len; *line == ' '; line++)
			;
		long value = 0;
		for (; *line >= '0' && *line <= '9'; line++)
			value = value * 10 + *line - '0';
		return value;
	}
	return -1;
}

static volatile uint8_t *region(size_t len)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
	long p = sys_mmap((void *)0x12000000000, len, RW, flags, -1, 0);

	return p > 0 ? (volatile uint8_t *)p : NULL;
}

static volatile uint8_t *inherited;

static int smaps_of_child(void)
{
	EXPECT(smaps(inherited, "Rss:") == 40 && smaps(inherited, "Pss:") == 20);
	EXPECT(smaps(inherited, "Shared_Dirty:") == 40 && !smaps(inherited, "Private_Dirty:"));
	inherited[0] = 1;
	EXPECT(smaps(inherited, "Rss:") == 40 && smaps(inherited, "Pss:") == 22);
	EXPECT(smaps(inherited, "Private_Dirty:") == 4 && !smaps(inherited, "Locked:"));
	return 0;
}

static int smaps_own(void)
{
	volatile uint8_t *p = inherited = region(64 * PAGE_SIZE);

	EXPECT(p && smaps(p, "Size:") == 256 && !smaps(p, "Rss:"));
	for (size_t i = 0; i < 10; i++)
		p[i * PAGE_SIZE] = 1;
	for (size_t i = 32; i < 37; i++)
		EXPECT(!p[i * PAGE_SIZE]); /* the zero page is nobody's */
	EXPECT(smaps(p, "Rss:") == 40 && smaps(p, "Pss:") == 40 && smaps(p, "Anonymous:") == 40);
	EXPECT(smaps(p, "Private_Dirty:") == 40 && !smaps(p, "Shared_Dirty:"));
	EXPECT(!smaps(p, "AnonHugePages:") && !smaps(p, "Locked:"));
	EXPECT(!in_child(smaps_of_child));
	EXPECT(!syscall3(SYS_MADVISE, (long)p, PAGE_SIZE, MADV_DONTNEED));
	EXPECT(smaps(p, "Rss:") == 36);
	/* Locked, they are there: all of the first eight, one of them new. */
	EXPECT(!syscall3(SYS_MLOCK, (long)p, 8 * PAGE_SIZE, 0));
	EXPECT(smaps(p, "Size:") == 32 && smaps(p, "Locked:") == 32);
	EXPECT(smaps(p + 8 * PAGE_SIZE, "Size:") == 224 && !smaps(p + 8 * PAGE_SIZE, "Locked:"));
	return 0;
}

static int smaps_huge(void)
{
	volatile uint8_t *p = region(HUGE);

	EXPECT(p && !syscall3(SYS_MADVISE, (long)p, HUGE, MADV_HUGEPAGE));
	EXPECT(smaps(p, "THPeligible:") == 1 && !p[0] && !smaps(p, "Rss:"));
	p[0] = 1;
	EXPECT(smaps(p, "AnonHugePages:") == 2048 && smaps(p, "Rss:") == 2048);
	EXPECT(smaps(p, "Anonymous:") == 2048 && smaps(p, "Private_Dirty:") == 2048);
	EXPECT(!syscall3(SYS_MADVISE, (long)p, PAGE_SIZE, MADV_DONTNEED));
	EXPECT(!smaps(p, "AnonHugePages:") && smaps(p, "Rss:") == 2044);
	EXPECT(proc_value("/proc/meminfo", "AnonHugePages:") == 0);
	return 0;
}

const struct check smaps_checks[] = {
    {"smaps_own", smaps_own, 0},
    {"smaps_huge", smaps_huge, 0},
    {0},
};
