/* The suites of test_kvm, one a file. */
#ifndef TEST_KVM_SUITES_H
#define TEST_KVM_SUITES_H

#include <check.h>

Suite *runs_suite(void);
Suite *cases_suite(void);
Suite *traced_suite(void);
Suite *huge_suite(void);
Suite *led_suite(void);
Suite *files_suite(void);
Suite *firmware_suite(void);
Suite *options_suite(void);
Suite *images_suite(void);
Suite *rights_suite(void);
Suite *trouble_suite(void);
Suite *poison_suite(void);
Suite *hung_suite(void);
Suite *console_suite(void);
Suite *platform_suite(void);
Suite *confined_suite(void);
Suite *cpus_suite(void);
Suite *network_suite(void);
Suite *doctor_suite(void);
Suite *main_job_suite(void);
Suite *guest_files_suite(void);
Suite *guest_hostile_suite(void);
Suite *guest_shell_suite(void);
Suite *guest_kernel_suite(void);
Suite *fuzz_suite(void);
Suite *bench_suite(void);
Suite *bench_exits_suite(void);
Suite *limit_outside_suite(void);
Suite *memory_limit_suite(void);
Suite *stress_suite(void);
Suite *control_suite(void);
Suite *pause_suite(void);
Suite *snapshot_suite(void);
Suite *fork_suite(void);
Suite *clone_suite(void);
Suite *clone_huge_suite(void);
Suite *identity_suite(void);
Suite *identity_disks_suite(void);
Suite *identity_draws_suite(void);
Suite *fork_kills_suite(void);
Suite *snapshot_damage_suite(void);
Suite *snapshot_diff_suite(void);
Suite *snapshot_faults_suite(void);
Suite *reset_suite(void);
Suite *faults_suite(void);
Suite *trace_suite(void);
Suite *top_suite(void);
Suite *trace_kvm_suite(void);
Suite *reconcile_suite(void);
Suite *replay_suite(void);

#endif
