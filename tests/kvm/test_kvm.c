/*
 * What foal does with guests, seen from outside: exit statuses, messages,
 * files, counts. Needs /dev/kvm; without it every test is skipped.
 *
 *   test_kvm [SUITE]...
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"
#include "tests/run_suites.h"

static int no_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd >= 0) {
		close(fd);
		return 0;
	}
	perror("SKIP test_kvm: /dev/kvm");
	return 77;
}

int main(int argc, char **argv)
{
	static Suite *(*const suites[])(void) = {
	    runs_suite,		  cases_suite,
	    traced_suite,	  files_suite,
	    firmware_suite,	  options_suite,
	    images_suite,	  rights_suite,
	    trouble_suite,	  console_suite,
	    platform_suite,	  confined_suite,
	    cpus_suite,		  network_suite,
	    doctor_suite,	  main_job_suite,
	    guest_files_suite,	  guest_hostile_suite,
	    guest_oracle_suite,	  guest_threads_suite,
	    guest_time_suite,	  guest_shell_suite,
	    guest_kernel_suite,	  fuzz_suite,
	    bench_suite,	  huge_suite,
	    poison_suite,	  hung_suite,
	    limit_outside_suite,  memory_limit_suite,
	    stress_suite,	  control_suite,
	    pause_suite,	  led_suite,
	    snapshot_suite,	  snapshot_damage_suite,
	    snapshot_diff_suite,  snapshot_faults_suite,
	    fork_suite,		  clone_suite,
	    clone_huge_suite,	  identity_suite,
	    identity_disks_suite, identity_draws_suite,
	    fork_kills_suite,	  reset_suite,
	    bench_exits_suite,	  faults_suite,
	    rip_samples_suite,	  trace_suite,
	    reconcile_suite,	  top_suite,
	    replay_suite,	  trace_kvm_suite,
	};
	int status = no_kvm();

	if (status)
		return status;
	return run_suites(suites, sizeof(suites) / sizeof(*suites), argc ? argv + 1 : argv);
}
