/*
 * swap MiB [LIMIT_MiB [fork]]: writes that much memory and reads it back, twice. Under a limit of
 * its own, if there is one; it may go on as two programs that share the memory copy-on-write, and
 * then have twice that much in the end. Ends with 0 if every page had what was written and minor
 * and major faults together are at least the pages.
 */
#include "guest/user/lib/user.h"

enum { SYS_MEMORY_LIMIT = 1000, MIB_PAGES = 256, ROUNDS = 2 };

static volatile uint64_t *memory;
static size_t pages;

static volatile uint64_t *word(size_t page)
{
	return memory + page * (PAGE_SIZE / sizeof(*memory)) + page % 511;
}

static uint64_t value(size_t page, uint64_t round)
{
	return (page + 1) * 0x9e3779b97f4a7c15UL + round;
}

static void write_all(uint64_t round)
{
	for (size_t i = 0; i < pages; i++)
		*word(i) = value(i, round);
}

static size_t wrong(uint64_t round)
{
	size_t bad = 0;

	for (size_t i = 0; i < pages; i++)
		bad += *word(i) != value(i, round);
	return bad;
}

static size_t faults(void)
{
	struct rusage ru;

	return sys_getrusage(&ru) ? 0 : (size_t)(ru.ru_minflt + ru.ru_majflt);
}

/* Each side writes a half of what both see, and sees the other half as it was. */
static size_t forked(void)
{
	int status = -1, pid = sys_fork();
	size_t half = pages / 2, all = pages, bad;

	pages = half;
	if (!pid) {
		bad = wrong(ROUNDS - 1);
		write_all(ROUNDS);
		bad += wrong(ROUNDS);
		sys_exit(bad != 0);
	}
	/* Where no value of the other half lies. */
	for (size_t i = half; i < all; i++)
		memory[i * (PAGE_SIZE / sizeof(*memory)) + 511] = i;
	bad = pid < 0 || sys_wait4(pid, &status) != pid || status;
	pages = all;
	return bad + wrong(ROUNDS - 1);
}

int main(int argc, char **argv)
{
	uint64_t mib, limit = 0;
	size_t bad = 0;
	long p;

	if (argc < 2 || argc > 4 || (argc == 4 && strcmp(argv[3], "fork") != 0) ||
	    !parse_number(argv[1], 4096, &mib) ||
	    (argc > 2 && !parse_number(argv[2], 4096, &limit))) {
		print("swap: usage: swap MiB [LIMIT_MiB [fork]]\n");
		return 2;
	}
	if (limit && syscall3(SYS_MEMORY_LIMIT, (long)(limit << 20), 0, 0)) {
		print("swap: no group of its own\n");
		return 2;
	}
	pages = mib * MIB_PAGES;
	p = sys_mmap(NULL, pages * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		     -1, 0);
	if (p < 0) {
		print("swap: mmap: %d\n", (int)p);
		return 2;
	}
	memory = (volatile uint64_t *)p;
	for (uint64_t round = 0; round < ROUNDS; round++) {
		write_all(round);
		bad += wrong(round);
	}
	if (faults() < pages)
		bad++;
	if (argc == 4)
		bad += forked();
	print("swap: %zu pages, %zu faults, %zu wrong\n", pages, faults(), bad);
	return bad != 0;
}
