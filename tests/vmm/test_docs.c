/* The documentation lists what the code lists, and nothing else. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/devices.h"
#include "ept/ept.h"
#include "ept/stats.h"
#include "tests/vmm/suites.h"
#include "vmm/error.h"

static const struct {
	const char *name;
	int status;
} statuses[] = {
#define X(id, status, what) {#id, status},
    EXIT_STATUSES(X)
#undef X
};

#define NR_STATUSES (sizeof(statuses) / sizeof(statuses[0]))

static FILE *open_doc(const char *path)
{
	FILE *doc = fopen(path, "re");

	ck_assert_msg(doc != NULL, "%s cannot be read; run from the top of the tree", path);
	return doc;
}

static int status_of(const char *name)
{
	for (size_t i = 0; i < NR_STATUSES; i++)
		if (strcmp(statuses[i].name, name) == 0)
			return statuses[i].status;
	return -1;
}

/* Each row "| 1NN | NAME |" is a status of that name, and each status has its row. */
START_TEST(exit_statuses)
{
	FILE *doc = open_doc("docs/exit-statuses.md");
	char line[1024], name[32];
	unsigned rows = 0;
	int status;

	while (fgets(line, sizeof(line), doc)) {
		if (sscanf(line, "| %d | %31[A-Z] |", &status, name) != 2)
			continue;
		ck_assert_msg(status_of(name) == status, "%s is documented as %d", name, status);
		rows++;
	}
	fclose(doc);
	ck_assert_uint_eq(rows, NR_STATUSES);
}
END_TEST

/* A guest cannot say what foal says, nor foal what a shell says of signals. */
START_TEST(status_ranges)
{
	for (size_t i = 0; i < NR_STATUSES; i++) {
		ck_assert_int_ge(statuses[i].status, FOAL_EXIT_RESERVED);
		ck_assert_int_lt(statuses[i].status, FOAL_EXIT_SIGNAL);
		for (size_t j = 0; j < i; j++)
			ck_assert_int_ne(statuses[i].status, statuses[j].status);
	}
}
END_TEST

/* Does it name `name`, or a member, `.name`? */
static bool says(const char *text, const char *name)
{
	char quoted[64];

	snprintf(quoted, sizeof(quoted), "%s`", name);
	for (const char *at = text; (at = strstr(at, quoted)); at++)
		if (at > text && (at[-1] == '`' || at[-1] == '.'))
			return true;
	return false;
}

static char *read_doc(const char *path)
{
	static char text[64 << 10];
	FILE *doc = open_doc(path);
	size_t n = fread(text, 1, sizeof(text) - 1, doc);

	fclose(doc);
	ck_assert_uint_gt(n, 0);
	ck_assert_uint_lt(n, sizeof(text) - 1);
	text[n] = 0;
	return text;
}

#define SAYS(text, name) ck_assert_msg(says(text, name), "`%s` is not documented", name)

START_TEST(counters)
{
	const char *text = read_doc("docs/stats.md");

#define X(field, name, unit) SAYS(text, name);
	EPT_COUNTERS(X)
	EPT_AHEAD_COUNTERS(X)
#undef X
#define X(id, name) SAYS(text, name);
	EPT_ORIGINS(X)
#undef X
#define X(field, name, unit) SAYS(text, name);
	EPT_RECLAIM_COUNTERS(X)
#undef X
#define X(field, name) SAYS(text, name);
	EPT_HUGE_COUNTERS(X)
	DISK_COUNTERS(X)
#undef X
}
END_TEST

START_TEST(fault_cases)
{
	const char *text = read_doc("docs/fault-paths.md");

#define X(id, name, what) SAYS(text, name);
	EPT_CASES(X)
#undef X
}
END_TEST

Suite *docs_suite(void)
{
	Suite *suite = suite_create("docs");
	TCase *tc = tcase_create("docs");

	tcase_add_test(tc, exit_statuses);
	tcase_add_test(tc, status_ranges);
	tcase_add_test(tc, counters);
	tcase_add_test(tc, fault_cases);
	suite_add_tcase(suite, tc);
	return suite;
}
