/* --rip-sample: one fault in N says which instruction made it, and the books close with it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/kvm/metrics.h"
#include "tests/kvm/snapshot_rig.h"
#include "tests/kvm/suites.h"

#define PAGES  400U
#define WRITER "access+" /* of ring3.elf: its touches */

static uint64_t number(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	ck_assert_msg(json_is_integer(value), "no number \"%s\"", key);
	return (uint64_t)json_integer_value(value);
}

static const unsigned everies[] = {1, 7, 1000};

/* By who writes each page once, and each is a fault. */
START_TEST(one_in_n)
{
	unsigned every = everies[_i];
	char append[32], n[16];
	struct run run;

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	snprintf(append, sizeof(append), "pages=%u", PAGES);
	snprintf(n, sizeof(n), "%u", every);
	run_foal(&run,
		 ARGS("--kernel", guest_path("ring3.elf"), "--memory", "64M", "--append", append,
		      "--fault-engine", "handler", "--huge", "never", "--rip-sample", n));
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	check_events(&run);
	ck_assert_uint_eq(check_reconciliation(run.stats), 0);
	const json_t *sampled = json_object_get(run.stats, "rip_samples");
	const json_t *vcpu = json_array_get(json_object_get(run.stats, "vcpus"), 0);
	uint64_t faults = number(sampled, "faults"), kicks = number(sampled, "kicks");
	ck_assert_uint_eq(number(sampled, "every"), every);
	ck_assert_uint_eq(kicks, faults / every);
	ck_assert_uint_eq(faults, number(vcpu, "minor") + number(vcpu, "major"));
	ck_assert_uint_le(number(sampled, "refaults"), number(vcpu, "raced"));
	ck_assert_uint_le(number(sampled, "taken"), kicks);
	/* In ring 3 a kick finds the vCPU, but for one that was kicked for something else, too. */
	ck_assert_uint_ge(number(sampled, "taken"), PAGES / every / 2);
	run_free(&run);
}
END_TEST

/* How many moments of Chrome's trace events are at @rip. */
static unsigned moments_at(const char *path, const char *rip)
{
	json_t *root = json_load_file(path, 0, NULL), *event;
	unsigned n = 0;
	size_t i;

	json_array_foreach(json_object_get(root, "traceEvents"), i, event)
	{
		const char *cat = json_string_value(json_object_get(event, "cat"));
		const json_t *args = json_object_get(event, "args");

		if (cat && strcmp(cat, "rip") == 0)
			n += !strcmp(json_string_value(json_object_get(args, "rip")), rip);
	}
	json_decref(root);
	return n;
}

/* The top one is the instruction that writes, by its symbol; all forms agree. */
START_TEST(its_symbol)
{
	const char *trace = scratch("rips.trace"), *csv = scratch("rips.csv");
	const char *guest = guest_path("ring3.elf"), *chrome = scratch("rips.json");
	struct run run;

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	background("one", ARGS("--kernel", guest, "--append", "wait=1 pages=400", "--huge", "never",
			       "--fault-engine", "handler", "--rip-sample", "4"));
	int fd = control_connect("one"), console = control_console(fd);
	close(fd);
	read_until(console, "ready\n");
	ck_assert_int_eq(write(console, "x", 1), 1);
	read_until(console, "done\n");
	expect_command(ARGS("trace", "one", "--for", "0", "-o", trace), 0, " samples of RIPs in ");
	expect_command(ARGS("trace", trace, "--rips", "-o", csv), 0, " samples of RIPs in ");
	expect_command(ARGS("trace", trace, "-o", chrome), 0, " samples of RIPs in ");
	foal_command(&run, ARGS("trace", trace, "--json", "--symbols", guest));
	json_t *json = json_loads(run.out_text, 0, NULL);
	const json_t *sampled = json_object_get(json, "rip_samples");
	const json_t *top = json_array_get(json_object_get(sampled, "rips"), 0);
	const char *symbol = json_string_value(json_object_get(top, "symbol"));
	ck_assert_uint_eq(number(sampled, "every"), 4);
	ck_assert_uint_ge(number(sampled, "ring3"), PAGES / 8);
	ck_assert_uint_ge(number(sampled, "exact"), PAGES / 8);
	ck_assert_uint_ge(number(top, "faults"), PAGES / 8);
	ck_assert_uint_eq(number(top, "near"), 0);
	ck_assert_msg(symbol && strncmp(symbol, WRITER, strlen(WRITER)) == 0, "%s", symbol);
	ck_assert_uint_eq(moments_at(chrome, json_string_value(json_object_get(top, "rip"))),
			  number(top, "faults"));
	size_t len, lines = 0;
	char *text = read_file(csv, &len);
	for (const char *at = text; (at = strchr(at, '\n')); at++)
		lines++;
	ck_assert_uint_eq(lines, 1 + number(sampled, "samples"));
	free(text);
	json_decref(json);
	run_free(&run);
	close(console);
}
END_TEST

/* What a running VM counts; json_decref(). */
static json_t *sampling_of(const char *name)
{
	struct run run;

	foal_command(&run, ARGS("stat", name, "--json"));
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	json_t *json = json_loads(run.out_text, 0, NULL);
	json_t *sampling =
	    json_incref(json_object_get(json_object_get(json, "stats"), "rip_samples"));
	ck_assert(json_is_object(sampling));
	json_decref(json);
	run_free(&run);
	return sampling;
}

/* To Prometheus it says the same, while it stands still. */
static void expect_metrics(const char *name, const json_t *sampling)
{
	static const char *const metrics[][2] = {
	    {"foal_rip_sample_every", "every"},
	    {"foal_rip_sample_faults_total", "faults"},
	    {"foal_rip_sample_kicks_total", "kicks"},
	    {"foal_rip_samples_total", "taken"},
	    {"foal_rip_sample_refaults_total", "refaults"},
	};
	struct run run;

	foal_command(&run, ARGS("stat", name, "--prometheus"));
	struct metrics *all = metrics_read(run.out_text);
	for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++)
		ck_assert(metrics_sum(all, metrics[i][0], NULL, NULL) ==
			  (double)number(sampling, metrics[i][1]));
	free(all);
	run_free(&run);
}

/* A restore is told anew, a fork does as its parent does, and counts its own. */
START_TEST(copies)
{
	if (!have_userfaultfd())
		skip("no userfaultfd here");
	background("one", ARGS(MEMORY_GUEST, "--fault-engine", "handler"));
	wait_for_memory("one", MEMORY_GUEST_BYTES);
	snapshot("one", scratch("snap"));
	expect_command(ARGS("restore", scratch("snap"), "-d", "--name", "two", "--fault-engine",
			    "handler", "--prefetch", "off", "--rip-sample", "2"),
		       0, "two: running");
	wait_for_memory("two", MEMORY_GUEST_BYTES / 2);
	expect_command(ARGS("pause", "two"), 0, "paused");
	wait_for_counts("two");
	json_t *two = sampling_of("two");
	ck_assert_uint_gt(number(two, "kicks"), 0);
	ck_assert_uint_eq(number(two, "kicks"), number(two, "faults") / 2);
	expect_metrics("two", two);
	expect_command(ARGS("fork", "two", "--name", "three"), 0, "three: ");
	json_t *three = sampling_of("three");
	ck_assert_uint_eq(number(three, "every"), 2);
	ck_assert_uint_lt(number(three, "faults"), number(two, "faults"));
	json_decref(two);
	json_decref(three);
}
END_TEST

/* One in 1,000 without a word, but where there is no log. */
START_TEST(by_default)
{
	static const char *const how[] = {"--rip-sample", "--fault-log"}, *const is[] = {"0",
											 "off"};
	struct run run;

	for (unsigned i = 0; i < 2; i++) {
		run_foal(&run, ARGS("--kernel", guest_path("ring3.elf"), "--memory", "64M", how[i],
				    is[i]));
		ck_assert(json_is_null(json_object_get(run.stats, "rip_samples")));
		run_free(&run);
	}
	if (have_userfaultfd()) {
		run_foal(&run,
			 ARGS("--kernel", guest_path("ring3.elf"), "--memory", "64M", "--append",
			      "pages=2500", "--fault-engine", "handler", "--huge", "never"));
		const json_t *sampled = json_object_get(run.stats, "rip_samples");
		const json_t *books = json_object_get(run.stats, "reconciliation");
		const json_t *kvm = json_object_get(books, "kvm");
		ck_assert_uint_eq(number(sampled, "every"), 1000);
		ck_assert_uint_eq(number(sampled, "kicks"), number(sampled, "faults") / 1000);
		ck_assert_uint_ge(number(sampled, "kicks"), 2);
		if (json_is_object(kvm))
			ck_assert_uint_eq(number(kvm, "kicks"), number(sampled, "kicks"));
		run_free(&run);
	}
	expect_command(ARGS("run", "--kernel", guest_path("ring3.elf"), "--rip-sample", "10",
			    "--fault-log", "off"),
		       100, "leave --fault-log on");
	expect_command(ARGS("run", "--kernel", guest_path("ring3.elf"), "--rip-sample", "x"), 100,
		       "--rip-sample");
}
END_TEST

Suite *rip_samples_suite(void)
{
	Suite *suite = suite_create("rip_samples");
	TCase *tc = tcase_create("rip_samples");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, NULL, end_all);
	tcase_add_loop_test(tc, one_in_n, 0, sizeof(everies) / sizeof(everies[0]));
	tcase_add_test(tc, its_symbol);
	tcase_add_test(tc, copies);
	tcase_add_test(tc, by_default);
	suite_add_tcase(suite, tc);
	return suite;
}
