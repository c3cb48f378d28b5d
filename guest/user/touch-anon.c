/*
 * touch-anon MiB [r|w] [STRIDE]: touches anonymous memory, a word every STRIDE
 * bytes (a page if not given), and says what that took.
 */
#include "guest/user/lib/user.h"

enum { MIB_SHIFT = 20 };

/* What was read, or'ed together: zero, or memory was not. */
static uint64_t touch(volatile uint8_t *mem, size_t len, size_t stride, bool write)
{
	uint64_t seen = 0;

	for (size_t at = 0; at < len; at += stride) {
		if (write)
			mem[at] = 1;
		else
			seen |= mem[at];
	}
	return seen;
}

int main(int argc, char **argv)
{
	uint64_t mib, stride = PAGE_SIZE;
	bool write = argc < 3 || !strcmp(argv[2], "w");
	struct rusage before = {0}, after = {0};

	if (argc < 2 || argc > 4 || !parse_number(argv[1], 1 << 20, &mib) || !mib ||
	    (!write && strcmp(argv[2], "r") != 0) ||
	    (argc > 3 && (!parse_number(argv[3], 1UL << 40, &stride) || !stride))) {
		print("usage: touch-anon MiB [r|w] [STRIDE]\n");
		return 2;
	}
	size_t len = mib << MIB_SHIFT;
	long addr = sys_mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (addr < 0) {
		print("touch-anon: mmap: error %ld\n", addr);
		return 1;
	}
	sys_getrusage(&before);
	uint64_t start = now_ns();
	uint64_t seen = touch((volatile uint8_t *)addr, len, stride, write);
	uint64_t us = (now_ns() - start) / 1000;
	sys_getrusage(&after);
	print("touch-anon: %s %zu touches in %lu us, faults: minor %ld, major %ld\n",
	      write ? "write" : "read", (len + stride - 1) / stride, us,
	      after.ru_minflt - before.ru_minflt, after.ru_majflt - before.ru_majflt);
	return seen != 0;
}
