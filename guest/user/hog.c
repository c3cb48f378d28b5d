/*
 * hog MiB [LIMIT_MiB]: has a child that takes that much memory, under a limit if there is one. Ends
 * with 0 if the child was killed for want of it, and one that needs little still runs afterwards.
 */
#include "guest/user/lib/user.h"

enum { SYS_MEMORY_LIMIT = 1000, SYS_KILLED = 9 };

static int take(size_t bytes)
{
	const size_t piece = bytes < 1 << 20 ? bytes : 1 << 20;

	for (size_t done = 0; done < bytes; done += piece) {
		long p = sys_mmap(NULL, piece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				  -1, 0);

		if (p < 0)
			return 1;
		for (size_t i = 0; i < piece; i += PAGE_SIZE)
			((volatile uint8_t *)p)[i] = 1;
	}
	return 0;
}

static int in_child(size_t bytes, uint64_t limit)
{
	int status = -1, pid = sys_fork();

	if (!pid) {
		if (limit && syscall3(SYS_MEMORY_LIMIT, (long)(limit << 20), 0, 0))
			sys_exit(2);
		sys_exit(take(bytes));
	}
	return sys_wait4(pid, &status) == pid ? status : -1;
}

int main(int argc, char **argv)
{
	uint64_t mib, limit = 0;
	int big, small;

	if (argc < 2 || argc > 3 || !parse_number(argv[1], 4096, &mib) ||
	    (argc == 3 && !parse_number(argv[2], 4096, &limit))) {
		print("hog: usage: hog MiB [LIMIT_MiB]\n");
		return 2;
	}
	big = in_child(mib << 20, limit);
	small = in_child(1 << 16, limit);
	print("hog: the big one ended with %x, the small one with %x\n", big, small);
	return big != SYS_KILLED || small;
}
