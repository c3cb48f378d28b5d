/*
 * What foal does with guests, seen from outside: exit statuses, messages,
 * files, counts. Needs /dev/kvm; without it every test is skipped.
 *
 *   test_kvm [SUITE]
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

static int no_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd >= 0) {
		close(fd);
		return 0;
	}
	perror("SKIP test_kvm: /dev/kvm");
	return 77;
}

int main(int argc, char **argv)
{
	int skipped = no_kvm();

	if (skipped)
		return skipped;
	scratch_create();
	SRunner *runner = srunner_create(runs_suite());
	srunner_add_suite(runner, cases_suite());
	srunner_add_suite(runner, files_suite());
	srunner_add_suite(runner, options_suite());
	srunner_add_suite(runner, images_suite());
	srunner_add_suite(runner, rights_suite());
	srunner_add_suite(runner, trouble_suite());
	srunner_add_suite(runner, console_suite());
	srunner_add_suite(runner, doctor_suite());
	srunner_add_suite(runner, main_job_suite());
	srunner_add_suite(runner, guest_kernel_suite());
	srunner_set_fork_status(runner, CK_FORK);
	srunner_run(runner, argc > 1 ? argv[1] : NULL, NULL, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	scratch_remove();
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
