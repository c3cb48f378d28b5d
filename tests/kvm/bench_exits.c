/*
 * foal bench exits: every row is there, and each took the exits that it says it measured: counted
 * by KVM, by our handlers, by who answered them. No time.
 */
#include <stdio.h>
#include <string.h>

#include "tests/host_huge.h"
#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

#define TIMES 64

/* `foal bench exits` once, TIMES exits a sample. The rows of @only; free them. */
static json_t *bench(const char *only)
{
	const struct run_how how = {.plain = true};
	struct run run;

	run_start(&run, &how,
		  ARGS("bench", "exits", "--json", "--rounds", "1", "--pages", "64", "--dir",
		       scratch("."), "--only", only));
	run_wait(&run);
	ck_assert_msg(run.status == 0, "%d: %s", run.status, run.err_text);
	ck_assert_uint_eq(run.err_len, 0);
	json_t *root = json_loads(run.out_text, 0, NULL);
	json_t *rows = json_incref(json_object_get(root, "rows"));
	ck_assert_msg(json_is_array(rows), "no rows in: %s", run.out_text);
	json_decref(root);
	run_free(&run);
	return rows;
}

static json_t *row_of(json_t *rows, const char *name)
{
	size_t i;
	json_t *row;

	json_array_foreach(rows, i, row)
	{
		if (strcmp(json_string_value(json_object_get(row, "name")), name) == 0)
			return row;
	}
	ck_abort_msg("no row %s", name);
	return NULL;
}

/* A row that was measured, TIMES times. */
static json_t *measured(json_t *rows, const char *name)
{
	json_t *row = row_of(rows, name);
	const char *why = json_string_value(json_object_get(row, "not_measured"));

	ck_assert_msg(!why, "%s: %s", name, why);
	ck_assert_int_eq(json_integer_value(json_object_get(row, "touches")), TIMES);
	return row;
}

static uint64_t number(const json_t *json, const char *field)
{
	const json_t *value = json_object_get(json, field);

	ck_assert_msg(json_is_integer(value), "no %s", field);
	return (uint64_t)json_integer_value(value);
}

/* What KVM counted on one side. */
static uint64_t kvm(const json_t *row, const char *side, const char *field)
{
	return number(json_object_get(row, side), field);
}

/* The rows are those that --list names, in its order; who has no other side says null. */
START_TEST(every_row)
{
	static const char *const names[] = {"exit.nothing.ring0",
					    "exit.nothing.ring3",
					    "exit.fault.guest",
					    "exit.fault.kernel.4K",
					    "exit.fault.kernel.2M",
					    "exit.fault.handler.anon",
					    "exit.fault.handler.1",
					    "exit.fault.handler.16",
					    "exit.fault.handler.64",
					    "exit.fault.handler.512",
					    "exit.fault.wp",
					    "exit.mmio.ring0",
					    "exit.mmio.ring3",
					    "exit.pio.ring0",
					    "exit.pio.ring3",
					    "exit.hypercall",
					    "exit.halt"};
	const struct run_how how = {.plain = true};
	json_t *rows = bench("*");
	struct run run;
	char *save, *line;

	run_start(&run, &how, ARGS("bench", "exits", "--list"));
	run_wait(&run);
	line = strtok_r(run.out_text, "\n", &save);
	ck_assert_uint_eq(json_array_size(rows), sizeof(names) / sizeof(names[0]));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		json_t *row = json_array_get(rows, i), *plain = json_object_get(row, "plain");
		ck_assert_str_eq(json_string_value(json_object_get(row, "name")), names[i]);
		ck_assert_msg(line && strncmp(line, names[i], strlen(names[i])) == 0,
			      "%s is not %s", names[i], line);
		ck_assert_str_eq(json_string_value(json_object_get(row, "unit")), "us");
		ck_assert_str_eq(json_string_value(json_object_get(row, "bar")), "none");
		ck_assert(json_is_null(json_object_get(row, "ratio")) == json_is_null(plain));
		line = strtok_r(NULL, "\n", &save);
	}
	ck_assert(!line);
	run_free(&run);
	json_decref(rows);
}
END_TEST

/* The guest's own: its handler ran for each (else it is no row), and nobody brought a page. */
START_TEST(guest_faults)
{
	json_t *rows = bench("exit.fault.guest");
	json_t *row = measured(rows, "exit.fault.guest");

	ck_assert(json_is_null(json_object_get(row, "plain")));
	ck_assert_uint_eq(number(row, "faults"), 0);
	/* With nested paging KVM sees none of them, without it each. */
	if (kvm(row, "kvm", "pf_guest"))
		ck_assert_uint_eq(kvm(row, "kvm", "pf_guest"), TIMES);
	else
		ck_assert_uint_lt(kvm(row, "kvm", "pf_taken"), TIMES / 4);
	json_decref(rows);
}
END_TEST

START_TEST(kernel_faults)
{
	uint64_t refused = host_refusals();
	json_t *rows = bench("exit.fault.kernel.*");
	json_t *small = measured(rows, "exit.fault.kernel.4K");
	json_t *huge = measured(rows, "exit.fault.kernel.2M");

	ck_assert_uint_eq(number(small, "faults") + number(huge, "faults"), 0);
	ck_assert_uint_ge(kvm(small, "kvm", "pf_taken"), TIMES);
	ck_assert_uint_ge(kvm(small, "kvm_plain", "pf_taken"), TIMES);
	ck_assert_uint_eq(number(small, "installed"), TIMES);
	ck_assert_uint_eq(number(small, "installed_plain"), TIMES);
	ck_assert_uint_ge(kvm(huge, "kvm", "pf_taken"), TIMES);
	ck_assert_uint_gt(number(huge, "installed"), TIMES);
	if (host_refusals() == refused) {
		ck_assert_uint_eq(number(huge, "installed"), TIMES * 512);
		ck_assert_uint_eq(number(huge, "installed_plain"), TIMES * 512);
	}
	json_decref(rows);
}
END_TEST

/* An event each, which brings as many pages as the name says. */
START_TEST(handled_faults)
{
	static const struct {
		const char *name, *kind;
		unsigned pages;
	} want[] = {
	    {"exit.fault.handler.anon", "anon_write", 1},
	    {"exit.fault.handler.1", "file_read", 1},
	    {"exit.fault.handler.16", "file_read", 16},
	    {"exit.fault.handler.64", "file_read", 64},
	    {"exit.fault.handler.512", "file_read", 512},
	};
	json_t *rows = bench("exit.fault.handler.*");

	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		json_t *row = measured(rows, want[i].name), *cases = json_object_get(row, "cases");
		ck_assert_uint_eq(number(row, "faults"), TIMES);
		ck_assert_uint_eq(number(cases, want[i].kind), TIMES);
		ck_assert_uint_eq(json_object_size(cases), 1);
		ck_assert_uint_eq(number(row, "installed"), TIMES * want[i].pages);
		ck_assert_uint_ge(kvm(row, "kvm", "pf_taken"), TIMES);
	}
	json_decref(rows);
}
END_TEST

START_TEST(write_protection)
{
	json_t *rows = bench("exit.fault.wp");
	json_t *row = measured(rows, "exit.fault.wp"), *cases = json_object_get(row, "cases");

	ck_assert_uint_eq(number(cases, "anon_wp"), TIMES);
	ck_assert_uint_eq(number(cases, "anon_read"), TIMES); /* before the time is taken */
	ck_assert_uint_eq(number(row, "faults"), 2 * TIMES);
	ck_assert_uint_ge(kvm(row, "kvm", "pf_taken"), TIMES);
	json_decref(rows);
}
END_TEST

/* To the monitor and back, or no further than the host kernel and its eventfd. */
START_TEST(devices)
{
	static const char *const names[] = {"exit.mmio.ring0", "exit.mmio.ring3", "exit.pio.ring0",
					    "exit.pio.ring3"};
	json_t *rows = bench("exit.[mp]*io.*");

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		json_t *row = measured(rows, names[i]);
		bool mmio = strstr(names[i], "mmio");
		ck_assert_uint_eq(number(row, "answered"), TIMES);
		ck_assert_uint_eq(number(row, "answered_plain"), TIMES);
		ck_assert_uint_eq(number(row, "ring"), strstr(names[i], "ring0") ? 0 : 3);
		ck_assert_uint_eq(kvm(row, "kvm", "mmio_exits"), mmio ? TIMES : 0);
		ck_assert_uint_eq(kvm(row, "kvm_plain", "mmio_exits"), 0);
		ck_assert_uint_ge(kvm(row, "kvm", "exits"), TIMES);
		/* Counted or not, as the host has it; with the guest's word that it is done. */
		if (kvm(row, "kvm", "io_exits"))
			ck_assert_uint_eq(kvm(row, "kvm", "io_exits"), mmio ? 1 : TIMES + 1);
	}
	json_decref(rows);
}
END_TEST

START_TEST(hypercalls_and_halts)
{
	json_t *rows = bench("exit.h*"), *call = row_of(rows, "exit.hypercall");
	const char *why = json_string_value(json_object_get(call, "not_measured"));

	ck_assert_uint_ge(kvm(measured(rows, "exit.halt"), "kvm", "halt_exits"), TIMES);
	if (why) /* KVM without hardware virtualization takes none from ring 0 */
		ck_assert_msg(strstr(why, "exception 6 in the guest"), "%s", why);
	else
		ck_assert_uint_eq(kvm(call, "kvm", "hypercalls"), TIMES);
	json_decref(rows);
}
END_TEST

/* What only goes round leaves the guest for the timer alone. */
START_TEST(nothing)
{
	json_t *rows = bench("exit.nothing.*");

	for (unsigned i = 0; i < 2; i++) {
		json_t *row = measured(rows, i ? "exit.nothing.ring3" : "exit.nothing.ring0");
		ck_assert_uint_eq(number(row, "answered"), 0);
		ck_assert_uint_eq(kvm(row, "kvm", "mmio_exits"), 0);
		ck_assert_uint_eq(kvm(row, "kvm", "hypercalls"), 0);
		ck_assert_uint_eq(kvm(row, "kvm", "halt_exits"), 0);
	}
	json_decref(rows);
}
END_TEST

Suite *bench_exits_suite(void)
{
	Suite *suite = suite_create("bench_exits");
	TCase *tc = tcase_create("bench_exits");

	tcase_set_timeout(tc, TEST_LIMIT);
	if (!emulated_host()) /* all of it once more, for the words alone */
		tcase_add_test(tc, every_row);
	if (have_userfaultfd()) {
		tcase_add_test(tc, handled_faults);
		tcase_add_test(tc, write_protection);
	}
	tcase_add_test(tc, guest_faults);
	tcase_add_test(tc, kernel_faults);
	tcase_add_test(tc, devices);
	tcase_add_test(tc, hypercalls_and_halts);
	tcase_add_test(tc, nothing);
	suite_add_tcase(suite, tc);
	return suite;
}
