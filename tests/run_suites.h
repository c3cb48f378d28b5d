/* How each of the test programs ends: its suites run, a status for `make test`. */
#ifndef FOAL_TESTS_RUN_SUITES_H
#define FOAL_TESTS_RUN_SUITES_H

#include <check.h>
#include <stddef.h>

/*
 * Seconds until a test that says no limit of its own (tcase_set_timeout) counts as hung,
 * and by how much those limits grow. They are there for tests that never end: none may
 * fail because its machine is slow, or has other work.
 */
#define HANG_LIMIT   "60"
#define LIMITS_TIMES "4"

/*
 * Run the suites that @n functions of @make make, each test in a process of its own unless
 * CK_FORK says otherwise; of the suites that @names says alone, if it is not empty (it ends with
 * NULL, as argv does). main's status.
 */
int run_suites(Suite *(*const make[])(void), size_t n, char *const names[]);

#endif
