/* foal top without a VM: what is made of fixed replies, of those that lie, and of small screens. */
#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/vmm/suites.h"
#include "vmm/top.h"

#define SECOND 1000000000UL

static const char stat_reply[] =
    "{\"state\":\"running\",\"stats\":{\"cpus\":2,\"memory\":67108864,"
    "\"start\":{\"main_ns\":1000,\"end_ns\":12500001000,\"debt\":{\"first_run_ns\":17600000,"
    "\"pages\":535,\"p50\":{\"ns\":20000000},\"p99\":{\"ns\":23100000},\"ready\":null}},"
    "\"resident\":{\"guest\":2097152,\"huge\":0,\"monitor\":1048576},"
    "\"reclaim\":{\"limit\":16777216,\"resident\":3145728,\"swapped\":4096},"
    "\"reconciliation\":{\"cases\":{\"events\":250}},"
    "\"kvm\":{\"pf_taken\":1000,\"pf_fixed\":900,\"exits\":3000},"
    "\"cases\":[{\"case\":\"anon_write\",\"faults\":200,\"installed\":220,\"bytes_read\":0,"
    "\"by_origin\":{\"vcpu\":190,\"device\":10},\"latency_ns\":{\"p50\":4400,\"p99\":48700}},"
    "{\"case\":\"file_read\",\"faults\":50,\"installed\":800,\"bytes_read\":4096,"
    "\"by_origin\":{\"vcpu\":49,\"device\":1},\"latency_ns\":{\"p50\":73700,\"p99\":181100}}]}}";

/* Two spans: the last cell of the first is half an area's. */
static const char map_reply[] =
    "{\"cell\":1048576,\"spans\":[{\"gpa\":0,\"pages\":[256,256,128],\"there\":[256,0,1]},"
    "{\"gpa\":4294967296,\"pages\":[256],\"there\":[128]}]}";

static const char *take(struct top_sample *out, const char *stat, const char *map)
{
	json_t *a = json_loads(stat, 0, NULL), *b = json_loads(map, 0, NULL);

	ck_assert(a && b);
	const char *wrong = top_sample_take(out, a, b);
	json_decref(a);
	json_decref(b);
	return wrong;
}

/* Two looks, a second apart; freed by free(). */
static struct top *two_looks(void)
{
	struct top *top = calloc(1, sizeof(*top));

	ck_assert_ptr_nonnull(top);
	top->vm = "one";
	top->every = 1;
	ck_assert_ptr_null(take(&top->now, stat_reply, map_reply));
	top->any = top->again = true;
	top->before = top->now;
	top->before.at = 5 * SECOND;
	top->now.at = 6 * SECOND;
	top->before.cases[1].faults -= 40;
	top->before.total.faults -= 40;
	top->before.origins[0].faults -= 40;
	top->before.cells[2].there = 0;
	return top;
}

static const struct top_page *laid_out(const struct top *top, unsigned columns, unsigned rows)
{
	static struct top_page page;

	memset(&page, 0x55, sizeof(page));
	page.rows = rows;
	page.columns = columns;
	top_lay_out(top, &page);
	return &page;
}

START_TEST(numbers)
{
	struct top *top = two_looks();
	const struct top_sample *s = &top->now;

	ck_assert_uint_eq(s->total.faults, 250);
	ck_assert_uint_eq(s->total.installed, 1020);
	ck_assert_uint_eq(s->nr_origins, 2);
	ck_assert_uint_eq(s->origins[0].faults + s->origins[1].faults, 250);
	ck_assert_uint_eq(s->uptime, 12500000000UL);
	ck_assert_uint_eq(s->nr_cells, 4);
	ck_assert_uint_eq(s->cells[3].number, 4096);
	ck_assert_uint_eq(s->shift, 20);
	ck_assert(top_rate(top, 10, 50) == 40);
	ck_assert(top_rate(top, 50, 10) == 0);
	top->again = false;
	ck_assert(top_rate(top, 10, 50) == 0);
	free(top);
}
END_TEST

/* All of it, 80 columns wide. */
START_TEST(page_of_it)
{
	static const char *const lines[] = {
	    "one: running, 2 vCPUs, up 12.5 s; every 1 s, by faults",
	    "faults   250, 40/s; pages 1020, 0/s; read 4.0 KiB, 0 B/s",
	    "origins  vcpu 239, 40/s; device 11, 0/s",
	    "memory   2.0 MiB of 64.0 MiB, 0 B of it huge; the monitor's 1.0 MiB",
	    "limit    16.0 MiB; 3.0 MiB count, 4.0 KiB swapped",
	    "KVM      faults 1000, 0/s (handlers 25.0 %, host kernel 75.0 %); exits 3000, 0/s",
	    "debt     run 17.6 ms; ready: not said; 99 % of 535 pages 23.1 ms",
	    "",
	    "case             faults     /s     pages pages/s p50 now p99 now  p50 us  p99 us",
	    "anon_write          200      0       220       0       -       -     4.4    48.7",
	    "file_read            50     40       800       0       -       -    73.7   181.1",
	    "",
	    "map      385 of 896 pages; 1024 KiB a cell: . none, 1-9 tenths, # all",
	    "0x000000000000 #.1",
	    "0x000100000000 5",
	};
	struct top *top = two_looks();
	const struct top_page *page = laid_out(top, 80, 24);

	ck_assert_uint_eq(page->used, sizeof(lines) / sizeof(lines[0]));
	for (unsigned i = 0; i < page->used; i++) {
		size_t len = strlen(lines[i]), drawn = strlen(page->text[i]);

		ck_assert_msg(strncmp(page->text[i], lines[i], len) == 0 &&
				  strspn(page->text[i] + len, " ") == drawn - len,
			      "\n%s\nnot\n%s", page->text[i], lines[i]);
	}
	/* What changed stands out, and nothing else of the map. */
	ck_assert(page->bold[13][17] && !page->bold[13][16] && !page->bold[14][15]);
	free(top);
}
END_TEST

START_TEST(sorts)
{
	static const char *const first[TOP_NR_SORTS] = {"anon_write", "file_read", "file_read",
							"file_read", "anon_write"};
	struct top *top = two_looks();

	top->sort = (enum top_sort)_i;
	const char *row = laid_out(top, 80, 24)->text[9];
	ck_assert_msg(strncmp(row, first[_i], strlen(first[_i])) == 0, "%s", row);
	free(top);
}
END_TEST

/* Times since the last look are those of the log, by the names that it gives its cases. */
START_TEST(recent)
{
	struct top *top = two_looks();

	top->log = true;
	top->meta.nr_cases = 2;
	top->meta.cases[0] = "transit";
	top->meta.cases[1] = "file_read";
	for (int i = 0; i < 100; i++)
		ept_hist_add(&top->recent[1], 1000);
	const struct top_page *page = laid_out(top, 80, 24);
	ck_assert_msg(strstr(page->text[9], "       -       -     4.4"), "%s", page->text[9]);
	ck_assert_msg(strstr(page->text[10], "     1.0     1.0    73.7"), "%s", page->text[10]);
	free(top);
}
END_TEST

/* Whatever the screen's size: nothing beyond it, nothing but ASCII, and what is left out is said.
 */
START_TEST(any_size)
{
	struct top *top = two_looks();

	for (unsigned columns = 1; columns <= TOP_COLUMNS_MAX; columns++) {
		for (unsigned rows = 1; rows <= 40; rows++) {
			const struct top_page *page = laid_out(top, columns, rows);

			ck_assert_uint_le(page->used, rows);
			for (unsigned i = 0; i < page->used; i++) {
				const char *text = page->text[i];
				ck_assert_uint_le(strlen(text), columns);
				for (; *text; text++)
					ck_assert(*text >= ' ' && *text < 0x7f);
			}
		}
	}
	ck_assert_ptr_nonnull(strstr(laid_out(top, 60, 24)->text[0], "60 columns: 80 are needed"));
	const struct top_page *low = laid_out(top, 80, 10);
	ck_assert_str_eq(low->text[low->used - 1], "... 2 more cases do not fit");
	low = laid_out(top, 80, 12);
	ck_assert_ptr_nonnull(strstr(low->text[low->used - 1], "the map does not fit"));
	free(top);
}
END_TEST

/* --- lies ------------------------------------------------------------------------------------ */

#define MAP(text)		"{\"cell\":4096,\"spans\":" text "}"
#define SPAN(gpa, pages, there) "{\"gpa\":" gpa ",\"pages\":" pages ",\"there\":" there "}"

static const char *const maps[] = {
    "{}",
    "{\"cell\":4096}",
    "{\"cell\":4096,\"spans\":{}}",
    "{\"cell\":0,\"spans\":[]}",
    "{\"cell\":1024,\"spans\":[]}",
    "{\"cell\":6144,\"spans\":[]}",
    "{\"cell\":4611686018427387904,\"spans\":[]}",
    "{\"cell\":-4096,\"spans\":[]}",
    MAP("[7]"),
    MAP("[" SPAN("0", "[]", "[]") "]"),
    MAP("[" SPAN("0", "[1]", "[2]") "]"),
    MAP("[" SPAN("0", "[2]", "[1]") "]"),
    MAP("[" SPAN("0", "[1]", "[-1]") "]"),
    MAP("[" SPAN("0", "[-1]", "[-1]") "]"),
    MAP("[" SPAN("0", "[1]", "[1,1]") "]"),
    MAP("[" SPAN("0", "[1]", "[\"1\"]") "]"),
    MAP("[" SPAN("100", "[1]", "[1]") "]"),
    MAP("[" SPAN("281474976710656", "[1]", "[1]") "]"),
    MAP("[" SPAN("4096", "[1]", "[1]") "," SPAN("4096", "[1]", "[1]") "]"),
    MAP("[" SPAN("8192", "[1]", "[1]") "," SPAN("4096", "[1]", "[1]") "]"),
};

START_TEST(false_maps)
{
	struct top_sample *s = malloc(sizeof(*s));

	ck_assert_ptr_nonnull(s);
	ck_assert_ptr_nonnull(take(s, stat_reply, maps[_i]));
	free(s);
}
END_TEST

static char *many(const char *before, const char *each, unsigned n, const char *after)
{
	char *text = malloc(strlen(before) + (strlen(each) + 1) * n + strlen(after) + 1),
	     *at = text;

	ck_assert_ptr_nonnull(text);
	at += sprintf(at, "%s", before);
	for (unsigned i = 0; i < n; i++)
		at += sprintf(at, "%s%s", i ? "," : "", each);
	sprintf(at, "%s", after);
	return text;
}

/* As many as there is room for are taken; one more is refused. */
START_TEST(too_many)
{
	struct top_sample *s = malloc(sizeof(*s));

	ck_assert_ptr_nonnull(s);
	for (unsigned more = 0; more < 2; more++) {
		char *pages = many("[", "1", TOP_CELLS_MAX + more, "]"), *map, *stat;

		ck_assert_int_gt(asprintf(&map,
					  "{\"cell\":4096,\"spans\":[{\"gpa\":0,\"pages\":%s,"
					  "\"there\":%s}]}",
					  pages, pages),
				 0);
		ck_assert(!take(s, stat_reply, map) == !more);
		stat = many("{\"stats\":{\"cases\":[", "{\"case\":\"x\"}", TOP_CASES_MAX + more,
			    "]}}");
		ck_assert(!take(s, stat, map_reply) == !more);
		free(pages);
		free(map);
		free(stat);
	}
	free(s);
}
END_TEST

/* Nothing of a name steers a terminal; numbers that are none, or less than nothing, are 0. */
START_TEST(false_stats)
{
	static const char lie[] =
	    "{\"state\":\"\\u001b[31m\",\"stats\":{\"memory\":-5,\"cpus\":1e300,\"kvm\":[],"
	    "\"reclaim\":7,\"start\":{\"main_ns\":9,\"end_ns\":3,\"debt\":[]},"
	    "\"cases\":[{\"case\":\"a\\u009b%n and much more than there is room for\","
	    "\"faults\":-1,\"by_origin\":{\"\\u001bc\":9223372036854775807}}]}}";
	struct top *top = calloc(1, sizeof(*top));

	ck_assert_ptr_nonnull(top);
	top->vm = "x";
	ck_assert_ptr_null(take(&top->now, lie, map_reply));
	ck_assert_str_eq(top->now.state, "?[31m");
	ck_assert_str_eq(top->now.cases[0].name, "a??%n?and?much?more?tha");
	ck_assert_str_eq(top->now.origins[0].name, "?c");
	ck_assert_uint_eq(top->now.memory + top->now.cpus + top->now.uptime, 0);
	ck_assert(!top->now.kvm && !top->now.limited);
	for (unsigned i = 0; i < laid_out(top, 200, 40)->used; i++)
		ck_assert_ptr_null(strchr(laid_out(top, 200, 40)->text[i], 0x1b));
	ck_assert_ptr_nonnull(take(&top->now, "{\"stats\":{\"cases\":7}}", map_reply));
	ck_assert_ptr_nonnull(take(&top->now, "{\"stats\":{\"cases\":[{}]}}", map_reply));
	ck_assert_ptr_nonnull(take(&top->now, "{}", map_reply));
	free(top);
}
END_TEST

Suite *top_suite(void)
{
	Suite *suite = suite_create("top");
	TCase *tc = tcase_create("top");

	tcase_add_test(tc, numbers);
	tcase_add_test(tc, page_of_it);
	tcase_add_loop_test(tc, sorts, 0, TOP_NR_SORTS);
	tcase_add_test(tc, recent);
	tcase_add_test(tc, any_size);
	tcase_add_loop_test(tc, false_maps, 0, sizeof(maps) / sizeof(maps[0]));
	tcase_add_test(tc, too_many);
	tcase_add_test(tc, false_stats);
	suite_add_tcase(suite, tc);
	return suite;
}
