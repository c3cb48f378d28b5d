/* Says whether a file's pages are mapped from its storage: is-dax FILE; status 0 if so. */
#include <fcntl.h>
#include <linux/stat.h>
#include <stdio.h>
#include <sys/stat.h>

int main(int argc, char **argv)
{
	struct statx st;

	if (argc != 2 || statx(AT_FDCWD, argv[1], 0, STATX_BASIC_STATS, &st)) {
		perror("is-dax");
		return 2;
	}
	return !(st.stx_attributes & STATX_ATTR_DAX);
}
