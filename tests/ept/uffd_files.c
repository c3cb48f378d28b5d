#include "tests/ept/uffd_suites.h"

Suite *suite_uffd_files(void)
{
	return suite_create("uffd_files");
}
