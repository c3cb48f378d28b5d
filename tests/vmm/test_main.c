/* vmm/ without /dev/kvm. Run from the top of the tree: docs/ is read. */
#include <stdlib.h>

#include "tests/vmm/suites.h"

int main(void)
{
	SRunner *runner = srunner_create(docs_suite());
	int failed;

	srunner_add_suite(runner, image_suite());
	srunner_add_suite(runner, options_suite());
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
