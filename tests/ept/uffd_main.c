/* ept/ on the real userfaultfd: this process touches the memory as a guest would. */
#include "tests/ept/uffd_suites.h"
#include "tests/ept/util.h"
#include "tests/run_suites.h"

#include <stdio.h>

#define SKIPPED 77

/* Children of forked spaces have threads of their own. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "die_after_fork=0";
}

int main(int argc, char **argv)
{
	static Suite *(*const suites[])(void) = {
	    suite_uffd_cases,  suite_uffd_areas,    suite_uffd_files,  suite_uffd_sync,
	    suite_uffd_races,  suite_kernel_engine, suite_uffd_huge,   suite_uffd_poison,
	    suite_uffd_stress, suite_uffd_reclaim,  suite_uffd_fork,   suite_uffd_snapshot,
	    suite_uffd_hold,   suite_uffd_damage,   suite_uffd_chain,  suite_uffd_working_set,
	    suite_uffd_reset,  suite_uffd_rest,	    suite_uffd_direct,
	};
	struct ept_host host;

	ept_host_probe(&host);
	if (!host.usable) {
		printf("skipped: no usable userfaultfd here (%s)\n",
		       host.userfaultfd_error ? strerror(-host.userfaultfd_error)
					      : "a feature is missing");
		return SKIPPED;
	}
	return run_suites(suites, sizeof(suites) / sizeof(*suites), argc ? argv + 1 : argv);
}
