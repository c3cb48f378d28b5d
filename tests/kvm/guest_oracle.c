/*
 * The programs that compare the guest kernel with Linux (docs/oracle.md): what they count, read and
 * are told, here and there.
 */
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "tests/kvm/guest_same.h"
#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

#define EXT_MAGIC 0xef53

/* A file system that writes back to a disk; of what is in memory shared writes are not noticed. */
static bool on_disk(const char *dir)
{
	struct statfs fs;

	return !statfs(dir, &fs) && fs.f_type == EXT_MAGIC;
}

/* Who asks for huge pages gets some, and another on a write to the one of zeroes. */
static bool have_huge_pages(void)
{
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
	char line[64];
	bool some = f && fgets(line, sizeof(line), f) && !strstr(line, "[never]");

	if (f)
		fclose(f);
	return some && linux_at_least(6, 13);
}

START_TEST(oracle)
{
	const char *dir = scratch("host"), *disk, *huge;
	char here[600], there[64];

	ck_assert_int_eq(mkdir(dir, 0755), 0);
	disk = on_disk(dir) ? "disk" : "";
	huge = have_huge_pages() ? "huge" : "";
	snprintf(here, sizeof(here), "%s %s %s", dir, disk, huge);
	snprintf(there, sizeof(there), "/tmp %s %s", disk, huge);
	same_on_both("oracle", there, here, "1");
}
END_TEST

/* A few of what `make test-diff` runs more and longer of. */
START_TEST(sequences)
{
	same_on_both("sequence", "1001 250", "1001 250", "1");
}
END_TEST

Suite *guest_oracle_suite(void)
{
	Suite *suite = suite_create("guest_oracle");
	TCase *tc = tcase_create("guest_oracle");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_test(tc, oracle);
	tcase_add_test(tc, sequences);
	suite_add_tcase(suite, tc);
	return suite;
}
