/* The guest's filesystem, drivers and checksum, on the build machine. */
#include "tests/guest/fs_test.h"
#include <stdlib.h>

int main(void)
{
	SRunner *runner = srunner_create(sha256_suite());

	srunner_add_suite(runner, virtio_suite());
	srunner_add_suite(runner, ext2_suite());
	srunner_add_suite(runner, hostile_suite());
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
