#include "tests/run_suites.h"

#include "tests/scratch.h"

#include <stdio.h>
#include <stdlib.h>

/* Those of @only, if it is not NULL. */
static int run_some(Suite *(*const make[])(void), size_t n, const char *only)
{
	SRunner *runner = srunner_create(NULL);
	int failed;

	for (size_t i = 0; i < n; i++)
		srunner_add_suite(runner, make[i]());
	srunner_run(runner, only, NULL, CK_ENV);
	failed = srunner_ntests_failed(runner);
	if (only && !srunner_ntests_run(runner)) {
		printf("%s: no such suite\n", only);
		failed = 1;
	}
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int run_suites(Suite *(*const make[])(void), size_t n, char *const names[])
{
	int status = EXIT_SUCCESS;

	setenv("CK_DEFAULT_TIMEOUT", HANG_LIMIT, 0);
	setenv("CK_TIMEOUT_MULTIPLIER", LIMITS_TIMES, 0);
	scratch_begin();
	if (!*names)
		status = run_some(make, n, NULL);
	for (; *names; names++)
		if (run_some(make, n, *names))
			status = EXIT_FAILURE;
	scratch_end();
	return status;
}
