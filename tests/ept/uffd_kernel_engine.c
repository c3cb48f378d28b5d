#include "tests/ept/uffd_suites.h"

Suite *suite_kernel_engine(void)
{
	return suite_create("kernel_engine");
}
