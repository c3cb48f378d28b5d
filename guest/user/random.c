/* random: for each line typed, 32 random bytes, in hexadecimal: what copies of a VM are told by. */
#include "guest/user/lib/user.h"

int main(int argc, char **argv)
{
	uint64_t r[4];
	char line[64];

	(void)argc, (void)argv;
	print("random: ready\n");
	while (sys_read(0, line, sizeof(line)) > 0) {
		if (sys_getrandom(r, sizeof(r), 0) != sizeof(r))
			return 1;
		print("%016lx%016lx%016lx%016lx\n", r[0], r[1], r[2], r[3]);
	}
	return 0;
}
