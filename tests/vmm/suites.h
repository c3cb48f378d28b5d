#ifndef FOAL_TESTS_VMM_SUITES_H
#define FOAL_TESTS_VMM_SUITES_H

#include <check.h>

Suite *acpi_suite(void);
Suite *bzimage_suite(void);
Suite *aml_suite(void);
Suite *bus_error_suite(void);
Suite *control_suite(void);
Suite *cpu_suite(void);
Suite *docs_suite(void);
Suite *debt_suite(void);
Suite *gate_suite(void);
Suite *series_suite(void);
Suite *template_suite(void);
Suite *helper_suite(void);
Suite *kvm_sums_suite(void);
Suite *image_suite(void);
Suite *manifest_suite(void);
Suite *net_suite(void);
Suite *options_suite(void);
Suite *pre_fault_suite(void);
Suite *report_suite(void);
Suite *replay_suite(void);
Suite *sandbox_suite(void);
Suite *snapshot_dir_suite(void);
Suite *start_suite(void);
Suite *symbols_suite(void);
Suite *top_suite(void);
Suite *trace_suite(void);
Suite *trace_kvm_suite(void);
Suite *tracepoint_suite(void);
Suite *vsock_option_suite(void);

#endif
