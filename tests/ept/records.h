/* The fault log of a space holds what its counters say. A helper that fails the test. */
#ifndef FOAL_TESTS_EPT_RECORDS_H
#define FOAL_TESTS_EPT_RECORDS_H

#include "ept/space.h"

#include <check.h>

/*
 * A record for each fault that was counted, whose fields sum up to the counters of its area and
 * case. The space is stopped, or at rest. Nothing is compared where it keeps no log, or one that
 * has begun to forget.
 */
void expect_records_are_counters(const struct ept_space *space);

/* To be called before the tests, which may be processes of their own. */
void remember_cases_with_records(void);

/*
 * After all of them: EXIT_FAILURE, and a line that names them, if there are cases of which no test
 * compared a record. Of the fake host: what a real one has to offer is not every case.
 */
int cases_without_records(void);

#endif
