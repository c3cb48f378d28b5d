/*
 * files DIR SEED COUNT [v]: a random sequence of calls on files, in a new folder of DIR, the same
 * for the same seed. Prints what the calls returned and read, in sums, and the tree they left. On
 * Linux the output is the same: what differs there is the kernel's mistake. With v each call has
 * a line of its own.
 */
#include "guest/user/files/files.h"

uint64_t sum = 1;

static uint64_t state;

unsigned roll(unsigned n)
{
	state = state * 6364136223846793005U + 1442695040888963407U;
	return (unsigned)(state >> 33) % n;
}

void note(long result)
{
	sum = (sum ^ (uint64_t)result) * 0x100000001b3U;
}

void note_bytes(const void *data, size_t len)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < len; i++)
		note(p[i]);
}

int main(int argc, char **argv)
{
	uint64_t seed, count;
	char dir[32];

	if (argc < 4 || !parse_number(argv[2], ~0U, &seed) || !parse_number(argv[3], ~0U, &count)) {
		print("files DIR SEED COUNT [v]\n");
		return 2;
	}
	state = seed * 2 + 1;
	syscall3(SYS_UMASK, 022, 0, 0);
	format(dir, sizeof(dir), "files-%lu", seed);
	if (syscall3(SYS_CHDIR, (long)argv[1], 0, 0) || syscall3(SYS_MKDIR, (long)dir, 0755, 0) ||
	    syscall3(SYS_CHDIR, (long)dir, 0, 0)) {
		print("files: %s/%s cannot be made\n", argv[1], dir);
		return 1;
	}
	for (uint64_t i = 0; i < count; i++) {
		const char *name;
		long result = one_call(&name);

		note(result);
		if (argc > 4)
			print("%lu %s %ld %016lx\n", i, name, result, sum);
		else if (i % 50 == 49)
			print("%lu %016lx\n", i + 1, sum);
	}
	close_all();
	print_tree(".");
	print("files: ok\n");
	return 0;
}
