/* ept/ against a fake installer: no userfaultfd, no privilege, every error on demand. */
#include "tests/ept/records.h"
#include "tests/ept/unit_suites.h"
#include "tests/ept/util.h"
#include "tests/run_suites.h"

int main(int argc, char **argv)
{
	static Suite *(*const suites[])(void) = {
	    suite_areas,     suite_faults,	   suite_events,     suite_objects,
	    suite_ledger,    suite_streams,	   suite_ahead,	     suite_density,
	    suite_lead,	     suite_huge,	   suite_poison,     suite_watch,
	    suite_stress,    suite_reclaim,	   suite_swap,	     suite_reclaim_race,
	    suite_snapshot,  suite_swap_file,	   suite_fault_log,  suite_fault_log_file,
	    suite_reconcile, suite_reclaim_rounds, suite_new_thread, suite_sample,
	};
	int status;

	remember_cases_with_records();
	status = run_suites(suites, sizeof(suites) / sizeof(*suites), argc ? argv + 1 : argv);
	return status || argc > 1 ? status : cases_without_records();
}
