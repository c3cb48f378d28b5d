/* vmm/ without /dev/kvm. Run from the top of the tree: docs/ is read. */
#include <string.h>

#include "tests/run_suites.h"
#include "tests/vmm/suites.h"
#include "vmm/vsock.h"

int main(int argc, char **argv)
{
	static Suite *(*const suites[])(void) = {
	    docs_suite,	    acpi_suite,		aml_suite,	 cpu_suite,
	    image_suite,    bzimage_suite,	options_suite,	 helper_suite,
	    net_suite,	    vsock_option_suite, gate_suite,	 series_suite,
	    template_suite, sandbox_suite,	bus_error_suite, manifest_suite,
	    control_suite,  snapshot_dir_suite, pre_fault_suite, trace_suite,
	    report_suite,   top_suite,		replay_suite,	 tracepoint_suite,
	    kvm_sums_suite, trace_kvm_suite,	symbols_suite,	 debt_suite,
	    start_suite,
	};

	/* What vsock_open() starts is this program. */
	if (argc == 3 && strcmp(argv[1], "vsock-connect") == 0)
		return command_vsock_connect(argc - 1, argv + 1, 0);
	return run_suites(suites, sizeof(suites) / sizeof(*suites), argc ? argv + 1 : argv);
}
