#include "tests/ept/uffd_suites.h"

Suite *suite_uffd_races(void)
{
	return suite_create("uffd_races");
}
