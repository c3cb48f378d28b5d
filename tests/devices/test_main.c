#include <stdlib.h>

#include "tests/devices/rig.h"

int main(void)
{
	SRunner *runner = srunner_create(bus_suite());
	int failed;

	srunner_add_suite(runner, ioapic_suite());
	srunner_add_suite(runner, serial_suite());
	srunner_add_suite(runner, virtio_suite());
	srunner_add_suite(runner, virtqueue_suite());
	srunner_add_suite(runner, blk_suite());
	srunner_add_suite(runner, disk_suite());
	srunner_add_suite(runner, pmem_suite());
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
