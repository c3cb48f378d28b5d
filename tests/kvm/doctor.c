/* foal doctor, and the table of exit statuses. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"
#include "vmm/error.h"

START_TEST(doctor)
{
	static const char *const lines[] = {
	    "ok       /dev/kvm", "ok       split irqchip", "nested paging", "stock Linux guests",
	    "userfaultfd",	 "seccomp filters",	   "Landlock",	    "memory",
	};
	struct run run;
	struct run_how how = {.plain = true};

	run_start(&run, &how, ARGS("doctor"));
	run_wait(&run);
	ck_assert_int_eq(run.status, have_userfaultfd() ? 0 : 1);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		ck_assert_msg(strstr(run.out_text, lines[i]) != NULL, "no \"%s\" in:\n%s", lines[i],
			      run.out_text);
	ck_assert_uint_eq(run.err_len, 0);
	run_free(&run);
}
END_TEST

static const struct {
	int status;
	const char *name;
} statuses[] = {
#define X(id, status, what) {status, #id},
    EXIT_STATUSES(X)
#undef X
};

/* docs/exit-statuses.md has a row for each of foal's own statuses. */
START_TEST(documented)
{
	char row[64];
	size_t len;

	if (access("docs/exit-statuses.md", R_OK))
		skip("docs/exit-statuses.md is not here");
	char *text = read_file("docs/exit-statuses.md", &len);
	snprintf(row, sizeof(row), "| %d | %s |", statuses[_i].status, statuses[_i].name);
	ck_assert_msg(strstr(text, row) != NULL, "no row \"%s\"", row);
	free(text);
}
END_TEST

Suite *doctor_suite(void)
{
	Suite *suite = suite_create("doctor");
	TCase *tc = tcase_create("doctor");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_test(tc, doctor);
	tcase_add_loop_test(tc, documented, 0, sizeof(statuses) / sizeof(statuses[0]));
	suite_add_tcase(suite, tc);
	return suite;
}
