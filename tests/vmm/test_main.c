/* vmm/ without /dev/kvm. Run from the top of the tree: docs/ is read. */
#include "tests/run_suites.h"
#include "tests/vmm/suites.h"

int main(void)
{
	static Suite *(*const suites[])(void) = {
	    docs_suite,	   acpi_suite,	  aml_suite,	cpu_suite,  image_suite,
	    bzimage_suite, options_suite, helper_suite, gate_suite, sandbox_suite,
	};

	return run_suites(suites, sizeof(suites) / sizeof(*suites), NULL);
}
