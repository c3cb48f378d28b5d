/* The guest's filesystem, drivers and checksum, on the build machine. */
#include "tests/guest/fs_test.h"
#include "tests/run_suites.h"

int main(int argc, char **argv)
{
	static Suite *(*const suites[])(void) = {
	    sha256_suite, virtio_suite, ext2_suite, ext2_write_suite, hostile_suite,
	};

	return run_suites(suites, sizeof(suites) / sizeof(*suites), argc ? argv + 1 : argv);
}
