#include "tests/ept/uffd_suites.h"

Suite *suite_uffd_sync(void)
{
	return suite_create("uffd_sync");
}
