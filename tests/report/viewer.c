/* foal trace's events in a viewer that others wrote: it takes each of them, and complains of none.
 */
#include <string.h>

#include "tests/report/report_rig.h"
#include "tests/run_suites.h"
#include "tests/scratch.h"

#define VIEW "tests/report/viewer.mjs"

struct counts {
	size_t threads, slices; /* that take any time: the viewer has no others */
};

static struct counts counts_of(const char *path)
{
	json_t *root = json_load_file(path, 0, NULL), *event;
	struct counts counts = {0};
	size_t i;

	ck_assert_ptr_nonnull(root);
	json_array_foreach(json_object_get(root, "traceEvents"), i, event)
	{
		counts.threads += strcmp(string(event, "name"), "thread_name") == 0;
		counts.slices += json_number_value(json_object_get(event, "dur")) > 0;
	}
	json_decref(root);
	return counts;
}

static json_t *view(const char *path)
{
	struct ended ended = RUN("node", VIEW, MODULES, path);
	json_t *seen = json_loads(ended.out, 0, NULL);

	ck_assert_msg(ended.status == 0 && seen, "status %d: %s%s", ended.status, ended.out,
		      ended.err);
	return seen;
}

/* Records of ours, faults of KVM's, stages in the first. */
START_TEST(takes_each_event)
{
	const char *path = scratch_keep(scratch("t.json"));
	struct ended ended = RUN(FOAL, "trace", make_kvm_trace(4000, 2000), "-o", path);
	size_t opened = 0, i;
	const json_t *thread;

	ck_assert_msg(ended.status == 0, "%s", ended.err);
	struct counts counts = counts_of(path);
	json_t *seen = view(path);
	const json_t *said = json_object_get(seen, "said");
	ck_assert_msg(json_array_size(said) == 0, "%s", json_string_value(json_array_get(said, 0)));
	json_array_foreach(json_object_get(seen, "threads"), i, thread)
	{
		json_int_t slices = json_integer_value(json_object_get(thread, "opened"));
		ck_assert_int_eq(json_integer_value(json_object_get(thread, "closed")), slices);
		opened += (size_t)slices;
	}
	ck_assert_uint_eq(i, counts.threads);
	ck_assert_uint_eq(opened, counts.slices);
	ck_assert_uint_ge(opened, 6000);
	json_decref(seen);
}
END_TEST

Suite *viewer_suite(void)
{
	Suite *suite = suite_create("viewer");
	TCase *tc = tcase_create("viewer");

	tcase_set_timeout(tc, 300);
	tcase_add_test(tc, takes_each_event);
	suite_add_tcase(suite, tc);
	return suite;
}
