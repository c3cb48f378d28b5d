#ifndef FOAL_TESTS_EPT_UNIT_SUITES_H
#define FOAL_TESTS_EPT_UNIT_SUITES_H

#include <check.h>

Suite *suite_areas(void);
Suite *suite_faults(void);
Suite *suite_events(void);
Suite *suite_objects(void);
Suite *suite_ledger(void);
Suite *suite_reconcile(void);
Suite *suite_poison(void);
Suite *suite_watch(void);
Suite *suite_stress(void);
Suite *suite_streams(void);
Suite *suite_ahead(void);
Suite *suite_density(void);
Suite *suite_lead(void);
Suite *suite_huge(void);
Suite *suite_reclaim(void);
Suite *suite_swap(void);
Suite *suite_reclaim_race(void);
Suite *suite_reclaim_rounds(void);
Suite *suite_snapshot(void);
Suite *suite_swap_file(void);
Suite *suite_fault_log(void);
Suite *suite_fault_log_file(void);
Suite *suite_new_thread(void);
Suite *suite_sample(void);

#endif
