#ifndef FOAL_TESTS_EPT_UFFD_SUITES_H
#define FOAL_TESTS_EPT_UFFD_SUITES_H

#include <check.h>

Suite *suite_uffd_cases(void);
Suite *suite_uffd_areas(void);
Suite *suite_uffd_files(void);
Suite *suite_uffd_direct(void);
Suite *suite_uffd_sync(void);
Suite *suite_uffd_races(void);
Suite *suite_uffd_poison(void);
Suite *suite_uffd_stress(void);
Suite *suite_kernel_engine(void);
Suite *suite_uffd_huge(void);
Suite *suite_uffd_reclaim(void);
Suite *suite_uffd_fork(void);
Suite *suite_uffd_hold(void);
Suite *suite_uffd_snapshot(void);
Suite *suite_uffd_chain(void);
Suite *suite_uffd_damage(void);
Suite *suite_uffd_working_set(void);
Suite *suite_uffd_reset(void);
Suite *suite_uffd_rest(void);

#endif
