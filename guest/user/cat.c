/* cat [PATH ...]: writes files, or the console's input, to the console. */
#include "guest/user/lib/user.h"

static int copy(int fd, const char *name)
{
	static char buf[4 * PAGE_SIZE];
	long n;

	while ((n = sys_read(fd, buf, sizeof(buf))) > 0) {
		for (long done = 0; done < n;) {
			long w = sys_write(1, buf + done, (size_t)(n - done));

			if (w <= 0)
				return 1;
			done += w;
		}
	}
	if (n < 0)
		print("cat: %s: error %ld\n", name, n);
	return n < 0;
}

int main(int argc, char **argv)
{
	int status = 0;

	if (argc < 2)
		return copy(0, "console");
	for (int i = 1; i < argc; i++) {
		int fd = sys_open(argv[i], O_RDONLY);

		if (fd < 0) {
			print("cat: %s: error %d\n", argv[i], fd);
			status = 1;
			continue;
		}
		status |= copy(fd, argv[i]);
		sys_close(fd);
	}
	return status;
}
