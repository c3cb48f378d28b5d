/*
 * What foal report makes of a trace: bounded, whatever the trace says, with nothing lost that
 * is counted. The page itself is looked at in a browser (tests/report/).
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/scratch.h"
#include "tests/vmm/suites.h"
#include "vmm/report.h"

#define MIB	(1ULL << 20)
#define MAIN_NS (5000 * 1000000ULL)

/* What KVM tells said(); 0, NULL: it was not asked. */
static unsigned kvm_faults;
static const struct trace_kvm_told *told;

static uint64_t next_random(void)
{
	static uint64_t x = 88172645463325252;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

/* --- columns -------------------------------------------------------------------------------- */

static uint64_t total(const struct report_bins *bins, unsigned counter)
{
	uint64_t sum = 0;

	for (uint64_t c = bins->first; c <= bins->last; c++)
		sum += report_bins_column(bins, c)[counter];
	return sum;
}

/* In any order, over any span: all that was counted is there, in the column of its time. */
START_TEST(columns_hold_all)
{
	enum { TIMES = 3000 };
	static uint64_t at[TIMES];
	static const uint64_t spans[] = {1, 1 << 18, 1 << 19, 1ULL << 40, INT64_MAX};
	struct report_bins bins;

	ck_assert_int_eq(report_bins_init(&bins, 2), 0);
	for (unsigned i = 0; i < TIMES; i++) {
		at[i] = (_i < 4 ? MAIN_NS : 0) + next_random() % spans[_i];
		uint64_t *counters = report_bins_at(&bins, at[i]);
		counters[0]++;
		counters[1] += i;
		ck_assert_uint_lt(bins.last - bins.first, REPORT_COLUMNS);
	}
	ck_assert_uint_eq(total(&bins, 0), TIMES);
	ck_assert_uint_eq(total(&bins, 1), TIMES * (TIMES - 1ULL) / 2);
	for (uint64_t c = bins.first; c <= bins.last; c++) {
		uint64_t expected = 0;
		for (unsigned i = 0; i < TIMES; i++)
			expected += at[i] >> bins.shift == c;
		ck_assert_uint_eq(report_bins_column(&bins, c)[0], expected);
	}
	/* No wider than it has to be. */
	if (spans[_i] > 1 << 18)
		ck_assert_uint_ge(bins.last - bins.first + 1, REPORT_COLUMNS / 2 - 1);
	report_bins_free(&bins);
}
END_TEST

/* Backwards, too: each is before all others. */
START_TEST(columns_backwards)
{
	struct report_bins bins;

	ck_assert_int_eq(report_bins_init(&bins, 1), 0);
	for (int bit = 62; bit >= 0; bit--)
		report_bins_at(&bins, 1ULL << bit)[0]++;
	ck_assert_uint_eq(total(&bins, 0), 63);
	ck_assert_uint_eq(bins.first, 0);
	ck_assert_uint_eq(report_bins_column(&bins, bins.last)[0], 1);
	report_bins_free(&bins);
}
END_TEST

/* --- space ---------------------------------------------------------------------------------- */

struct place {
	uint64_t gpa, size;
};

/* A meta of areas alone. */
static void open_space(struct report_space *space, const struct place *places, size_t n)
{
	struct trace_area areas[8];

	for (size_t i = 0; i < n; i++)
		areas[i] = (struct trace_area){.gpa = places[i].gpa, .size = places[i].size};
	ck_assert_int_eq(
	    report_space_init(space, &(struct trace_meta){.areas = areas, .nr_areas = n}), 0);
}

START_TEST(rows_of_areas)
{
	/* RAM with a kernel over it; beside it; far above. */
	static const struct place places[] = {
	    {4096 * MIB, 32 * MIB}, {0, 64 * MIB}, {16 * MIB, 2 * MIB}, {64 * MIB, 32 * MIB}};
	struct report_space space;

	open_space(&space, places, 4);
	ck_assert_uint_eq(space.nr_ranges, 2);
	ck_assert_uint_eq(space.pages << EPT_PAGE_SHIFT, 128 * MIB);
	ck_assert_uint_eq(space.rows, REPORT_ROWS);
	ck_assert_uint_eq(space.unit_shift, 0);
	for (unsigned row = 0; row < space.rows; row++) {
		uint64_t gpa = report_space_gpa(&space, row);
		ck_assert_uint_eq(gpa, row < 96 ? row * MIB : (4096 + row - 96) * MIB);
		ck_assert_uint_eq(report_space_row(&space, gpa), row);
		ck_assert_uint_eq(report_space_row(&space, gpa + MIB - 1), row);
	}
	ck_assert_uint_eq(report_space_row(&space, 96 * MIB), REPORT_NO_ROW);
	ck_assert_uint_eq(report_space_row(&space, 4128 * MIB), REPORT_NO_ROW);
	ck_assert_uint_eq(report_space_row(&space, UINT64_MAX), REPORT_NO_ROW);
	report_space_free(&space);
}
END_TEST

/* A page counts once, in its row; what comes along lies in the block around it. */
START_TEST(pages_that_come)
{
	static const struct place places[] = {{MIB, 127 * MIB}};
	uint64_t rows[REPORT_ROWS] = {0}, sum = 0;
	struct report_space space;

	open_space(&space, places, 1);
	ck_assert_uint_eq(report_space_come(&space, 3 * MIB, 1, rows), 1);
	ck_assert_uint_eq(report_space_come(&space, 3 * MIB + 4095, 1, rows), 0);
	ck_assert_uint_eq(report_space_come(&space, 3 * MIB, 0, rows), 0);
	ck_assert_uint_eq(report_space_come(&space, 3 * MIB + 8192, 16, rows), 15);
	ck_assert_uint_eq(report_space_come(&space, 3 * MIB + 0xf000, 16, rows), 0);
	ck_assert_uint_eq(report_space_come(&space, 3 * MIB + 0x10000, 1, rows), 1);
	/* 2 MiB of which one is in no area; a record that lies of how many. */
	ck_assert_uint_eq(report_space_come(&space, MIB, 512, rows), 256);
	ck_assert_uint_eq(report_space_come(&space, 8 * MIB, UINT32_MAX, rows), 512);
	ck_assert_uint_eq(report_space_come(&space, 512 * MIB, 16, rows), 0);
	for (unsigned i = 0; i < REPORT_ROWS; i++)
		sum += rows[i];
	ck_assert_uint_eq(sum, 1 + 15 + 1 + 256 + 512);
	ck_assert_uint_eq(rows[report_space_row(&space, 3 * MIB)], 17);
	report_space_free(&space);
}
END_TEST

/* As large as a trace may say: no more memory, several pages a bit. */
START_TEST(huge_space)
{
	static const struct place places[] = {{0, 1ULL << EPT_GPA_BITS}};
	uint64_t rows[REPORT_ROWS] = {0};
	struct report_space space;

	open_space(&space, places, 1);
	ck_assert_uint_eq(space.unit_shift, 7);
	ck_assert_uint_eq(report_space_come(&space, (1ULL << EPT_GPA_BITS) - 1, 512, rows), 4);
	ck_assert_uint_eq(rows[REPORT_ROWS - 1], 4);
	report_space_free(&space);
	open_space(&space, places, 0);
	ck_assert_uint_eq(space.rows, 0);
	ck_assert_uint_eq(report_space_row(&space, 0), REPORT_NO_ROW);
	report_space_free(&space);
}
END_TEST

/* --- the whole ------------------------------------------------------------------------------ */

static json_t *strings(const char *first, const char *second)
{
	return json_pack("[s, s]", first, second);
}

static json_t *meta_json(const char *area, const char *file)
{
	return json_pack("{s:s, s:[{s:s, s:I, s:I, s:s, s:s}, {s:s, s:I, s:I, s:s, s:s}], s:o, "
			 "s:o, s:I, s:I, s:I, s:i}",
			 "vm", "web", "areas", "name", "ram", "gpa", (json_int_t)0, "size",
			 (json_int_t)(64 * MIB), "file", "", "engine", "kernel", "name", area,
			 "gpa", (json_int_t)(4096 * MIB), "size", (json_int_t)(64 * MIB), "file",
			 file, "engine", "handler", "cases", strings("anon_read", "file_read"),
			 "origins", strings("vcpu", "kvm"), "main_ns", (json_int_t)MAIN_NS,
			 "first_run_ns", (json_int_t)(MAIN_NS + 1000), "memory",
			 (json_int_t)(64 * MIB), "cpus", 1);
}

/* @n records over a second, of pages of both areas, in order. */
static void give_records(const struct trace_form *form, void *state, unsigned n)
{
	uint32_t x = 1;

	for (unsigned i = 0; i < n; i++) {
		x = x * 1664525 + 1013904223;
		bool file = x >> 31;
		struct ept_record record = {.at = MAIN_NS + i * (1000000000ULL / n),
					    .gpa = (uint64_t)(x >> 8 & 0x3fff) << EPT_PAGE_SHIFT,
					    .done_ns = 100 + (x >> 12),
					    .installed = 1,
					    .bytes_read = file ? 4096 : 0,
					    .area = file,
					    .kase = file};
		record.gpa += file ? 4096 * MIB : 0;
		form->record(state, &record);
	}
}

/* Those that KVM tells of: every fourth of no memory, the others in both areas. */
static void give_kvm_faults(const struct trace_form *form, void *state, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct kvm_fault fault = {.at = MAIN_NS + i * (2000000000ULL / n),
					  .gpa = (i % 4 == 3   ? 1024 * MIB
						  : i % 4 == 2 ? 4096 * MIB
							       : 0) +
						 (uint64_t)i % 4096 * EPT_PAGE_SIZE,
					  .rip = 0xffffffff81000000 + i % 3,
					  .handled = i % 4 == 0,
					  .again = i % 8 == 1};
		fault.entry = fault.at + 1000 + i % 4;
		form->kvm_fault(state, &fault);
	}
}

/* What @form says of them: with data of a report between the two halves of a page. */
static json_t *said(const struct trace_form *form, unsigned n, const char *area, size_t *size)
{
	static char text[] = "<@TRACE@>";
	const struct report_page page = {text, 1, 8, 9};
	const char *path = scratch("%s", form->name), *why;
	struct foal_error err = {0};
	struct trace_meta meta;
	struct trace_out *out;
	struct stat st;

	ck_assert_int_eq(
	    trace_meta_take(meta_json(area, "/srv/\xe2\x80\xa8</script>"), &meta, &why), 0);
	ck_assert_int_eq(trace_out_open(path, -1, &out, &err), 0);
	void *state = form->begin(out, &meta);
	ck_assert_ptr_nonnull(state);
	if (form == &trace_report)
		((struct report *)state)->page = &page;
	give_records(form, state, n);
	give_kvm_faults(form, state, kvm_faults);
	if (told)
		form->kvm_end(state, told);
	form->end(state, (struct trace_lost){3, 4});
	ck_assert_msg(trace_out_close(out, true, &err) == 0, "%s", err.text);
	trace_meta_free(&meta);
	ck_assert_int_eq(stat(path, &st), 0);
	*size = (size_t)st.st_size;
	char *all = calloc(1, *size + 1);
	FILE *file = fopen(path, "re");
	ck_assert_uint_eq(fread(all, 1, *size, file), *size);
	fclose(file);
	char *json = all;
	if (form == &trace_report) {
		ck_assert_int_eq(all[0], '<');
		ck_assert_int_eq(all[*size - 1], '>');
		ck_assert_ptr_null(strchr(all + 1, '<'));
		for (size_t i = 0; i < *size; i++)
			ck_assert(all[i] >= ' ' && all[i] <= '~');
		all[*size - 1] = 0;
		json++;
	}
	json_t *root = json_loads(json, 0, NULL);
	ck_assert_ptr_nonnull(root);
	free(all);
	return root;
}

static uint64_t sum_of(const json_t *list, size_t member)
{
	const json_t *one;
	uint64_t sum = 0;
	size_t i;

	json_array_foreach(list, i, one)
	{
		sum += (uint64_t)json_integer_value(
		    member == SIZE_MAX ? one : json_array_get(one, member));
	}
	return sum;
}

/* The totals are those of foal trace --json, and all else adds up to them. */
START_TEST(adds_up)
{
	const unsigned n = 20000;
	json_t *trace, *report, *one;
	size_t size, i;

	trace = said(&trace_summary_json, n, "a</script>", &size);
	report = said(&trace_report, n, "a</script>", &size);
	ck_assert(json_equal(json_object_get(report, "summary"), trace));
	const json_t *cases = json_object_get(trace, "cases");
	json_array_foreach(json_object_get(report, "faults"), i, one)
	{
		const json_t *kase = json_array_get(cases, i);
		ck_assert_uint_eq(sum_of(one, SIZE_MAX),
				  (uint64_t)json_integer_value(json_object_get(kase, "faults")));
		ck_assert_uint_eq(
		    sum_of(json_object_get(json_array_get(json_object_get(report, "latency"), i),
					   "buckets"),
			   1),
		    (uint64_t)json_integer_value(json_object_get(kase, "faults")));
	}
	ck_assert_uint_eq(i, 2);
	const json_t *space = json_object_get(report, "space");
	const json_t *pages = json_object_get(report, "pages");
	ck_assert_uint_eq(sum_of(json_object_get(space, "cells"), 3), n);
	ck_assert_uint_eq(sum_of(json_object_get(space, "cells"), 2),
			  sum_of(json_object_get(pages, "new"), SIZE_MAX));
	ck_assert_uint_eq(sum_of(json_object_get(pages, "put_in"), SIZE_MAX), n);
	const json_t *files = json_object_get(json_object_get(report, "files"), "areas");
	ck_assert_uint_eq(json_array_size(files), 1);
	const json_t *file = json_array_get(files, 0);
	ck_assert_str_eq(json_string_value(json_object_get(file, "area")), "a</script>");
	ck_assert_str_eq(json_string_value(json_object_get(file, "file")),
			 "/srv/\xe2\x80\xa8</script>");
	ck_assert_int_eq(
	    json_integer_value(json_object_get(file, "read")),
	    json_integer_value(json_object_get(json_array_get(cases, 1), "bytes_read")));
	ck_assert_str_eq(json_string_value(json_array_get(json_object_get(report, "unseen"), 0)),
			 "ram");
	json_decref(trace);
	json_decref(report);
}
END_TEST

static uint64_t total_of(const json_t *kvm, const char *who)
{
	const json_t *faults = json_object_get(json_object_get(kvm, "faults"), who);
	uint64_t sum = sum_of(json_object_get(faults, "series"), SIZE_MAX);

	ck_assert_uint_eq(
	    sum_of(json_object_get(json_object_get(faults, "exit_to_entry"), "buckets"), 1), sum);
	return sum;
}

/* With records and without; where the trace is cut short KVM's last word is not there. */
START_TEST(what_kvm_told)
{
	static const struct trace_kvm_told last = {.counts = {9000, 9001, 2},
						   .counted = true,
						   .exits = 9002,
						   .taken = 9003,
						   .fixed = 9004};
	const unsigned n = _i % 2 ? 5000 : 0;
	size_t size;

	kvm_faults = 8000;
	told = _i / 2 ? NULL : &last;
	json_t *report = said(&trace_report, n, "pmem", &size);
	json_t *trace = said(&trace_summary_json, n, "pmem", &size);
	const json_t *kvm = json_object_get(report, "kvm");
	const json_t *cells = json_object_get(json_object_get(report, "space"), "cells");
	ck_assert(json_equal(json_object_get(kvm, "told"), json_object_get(trace, "kvm")));
	ck_assert_uint_eq(total_of(kvm, "handler"), 2000);
	ck_assert_uint_eq(total_of(kvm, "host"), 3000);
	ck_assert_uint_eq(total_of(kvm, "again"), 1000);
	ck_assert_uint_eq(total_of(kvm, "outside"), 2000);
	ck_assert_uint_eq(sum_of(cells, 4), 3000);
	ck_assert_uint_eq(sum_of(cells, 3), n);
	const json_t *points = json_object_get(json_object_get(kvm, "told"), "tracepoints");
	ck_assert_int_eq(json_integer_value(json_object_get(points, "exits")), told ? 9000 : 0);
	json_decref(report);
	json_decref(trace);
	kvm_faults = 0;
	told = NULL;
	report = said(&trace_report, n, "pmem", &size);
	ck_assert(json_is_null(json_object_get(report, "kvm")));
	json_decref(report);
}
END_TEST

/* A hundred times the records: not a hundred times the page. */
START_TEST(size_is_bounded)
{
	size_t small, large;

	json_decref(said(&trace_report, 20000, "pmem", &small));
	json_decref(said(&trace_report, 2000000, "pmem", &large));
	ck_assert_msg(large < 3 * MIB / 2, "%zu bytes", large);
	ck_assert_msg(large < 10 * small, "%zu bytes, then %zu", small, large);
}
END_TEST

START_TEST(no_records)
{
	size_t size;
	json_t *report = said(&trace_report, 0, "pmem", &size);

	ck_assert_int_eq(
	    json_integer_value(json_object_get(json_object_get(report, "summary"), "records")), 0);
	ck_assert_int_eq(
	    json_integer_value(json_object_get(json_object_get(report, "time"), "columns")), 0);
	json_decref(report);
}
END_TEST

Suite *report_suite(void)
{
	Suite *suite = suite_create("report");
	TCase *tc = tcase_create("report");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, columns_hold_all, 0, 5);
	tcase_add_test(tc, columns_backwards);
	tcase_add_test(tc, rows_of_areas);
	tcase_add_test(tc, pages_that_come);
	tcase_add_test(tc, huge_space);
	tcase_add_test(tc, adds_up);
	tcase_add_loop_test(tc, what_kvm_told, 0, 4);
	tcase_add_test(tc, size_is_bounded);
	tcase_add_test(tc, no_records);
	suite_add_tcase(suite, tc);
	return suite;
}
