/* How each of the test programs ends: its suites run, a status for `make test`. */
#ifndef FOAL_TESTS_RUN_SUITES_H
#define FOAL_TESTS_RUN_SUITES_H

#include <check.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

/*
 * Seconds until a test that says no limit of its own (tcase_set_timeout) counts as hung,
 * and by how much those limits grow. They are there for tests that never end: none may
 * fail because its machine is slow, or has other work.
 */
#define HANG_LIMIT   "60"
#define LIMITS_TIMES "4"

/* Run the suites that @n functions of @make make; of these @only, if it is not NULL. */
static inline int run_some_suites(Suite *(*const make[])(void), size_t n, const char *only)
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

/*
 * Run them, each test in a process of its own unless CK_FORK says otherwise; of the suites
 * that @names says alone, if it is not empty (it ends with NULL, as argv does). main's status.
 */
static inline int run_suites(Suite *(*const make[])(void), size_t n, char *const names[])
{
	int status = EXIT_SUCCESS;

	setenv("CK_DEFAULT_TIMEOUT", HANG_LIMIT, 0);
	setenv("CK_TIMEOUT_MULTIPLIER", LIMITS_TIMES, 0);
	if (!*names)
		return run_some_suites(make, n, NULL);
	for (; *names; names++)
		if (run_some_suites(make, n, *names))
			status = EXIT_FAILURE;
	return status;
}

#endif
