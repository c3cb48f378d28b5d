/* How each of the test programs ends: its suites run, a status for `make test`. */
#ifndef FOAL_TESTS_RUN_SUITES_H
#define FOAL_TESTS_RUN_SUITES_H

#include <check.h>
#include <stddef.h>
#include <stdlib.h>

/*
 * Run what the @n functions of @make make, each test in a process of its own
 * unless CK_FORK says otherwise; of suite @only alone if it is not NULL. main's status.
 */
static inline int run_suites(Suite *(*const make[])(void), size_t n, const char *only)
{
	SRunner *runner = srunner_create(NULL);
	int failed;

	for (size_t i = 0; i < n; i++)
		srunner_add_suite(runner, make[i]());
	srunner_run(runner, only, NULL, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
