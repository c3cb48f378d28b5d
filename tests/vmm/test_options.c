/* Command lines: what each wrong one is told, and what a right one becomes. */
#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "tests/vmm/suites.h"
#include "vmm/options.h"

#define MAX_ARGS 8

static int parse(const char *const *words, struct run_options *opt, struct foal_error *err)
{
	char *argv[MAX_ARGS + 2] = {(char *)"run"};
	int argc = 1;

	for (; words[argc - 1]; argc++)
		argv[argc] = (char *)words[argc - 1];
	optind = 0; /* getopt starts anew */
	*err = (struct foal_error){0};
	return options_parse(argc, argv, opt, err);
}

#define K "--kernel", "k"

static const struct {
	const char *words[MAX_ARGS];
	const char *said; /* a part of the line */
} wrong[] = {
    {{NULL}, "--kernel FILE is needed"},
    {{K, "--memory", "256"}, "--memory 256"},
    {{K, "--memory", "0M"}, "--memory 0M"},
    {{K, "--memory", "-1M"}, "--memory -1M"},
    {{K, "--memory", "1X"}, "--memory 1X"},
    {{K, "--memory", "1MB"}, "--memory 1MB"},
    {{K, "--memory", "99999999999999999999G"}, "--memory"},
    {{K, "--memory", "300T"}, "--memory 300T"},
    {{K, "--memory", "5K"}, "4K"},
    {{K, "--cpus", "0"}, "--cpus 0"},
    {{K, "--cpus", "65"}, "1 to 64"},
    {{K, "--cpus", "1x"}, "--cpus 1x"},
    {{K, "--fault-around", "3"}, "power of two"},
    {{K, "--fault-around", "1024"}, "1 to 512"},
    {{K, "--disk", ""}, "give a file"},
    {{K, "--disk", "f,mode=rw"}, "ro, cow or shared"},
    {{K, "--pmem", ",mode=ro"}, "give a file"},
    {{K, "--fault-engine", "fast"}, "auto, handler, kernel"},
    {{K, "--halt", "never"}, "guest, exit"},
    {{K, "--stats", "xml"}, "table, json, off"},
    {{K, "--name", "a/b"}, "--name a/b"},
    {{K, "--name", ""}, "1 to 63"},
    {{K, "--time-limit", "0"}, "--time-limit 0"},
    {{K, "--nonsense"}, "--nonsense"},
    {{K, "--cpus"}, "--cpus needs a value"},
    {{K, "stray"}, "stray: not an option"},
};

START_TEST(wrong_ones_are_named)
{
	struct run_options opt;
	struct foal_error err;

	ck_assert_int_lt(parse(wrong[_i].words, &opt, &err), 0);
	ck_assert_int_eq(err.status, FOAL_EXIT_USAGE);
	ck_assert_msg(strstr(err.text, wrong[_i].said) != NULL, "said: %s", err.text);
}
END_TEST

START_TEST(defaults)
{
	static const char *const words[] = {K, NULL};
	struct run_options opt;
	struct foal_error err;

	ck_assert_int_eq(parse(words, &opt, &err), 0);
	ck_assert_str_eq(opt.kernel, "k");
	ck_assert_uint_eq(opt.memory, 256UL << 20);
	ck_assert_uint_eq(opt.cpus, 1);
	ck_assert_uint_eq(opt.engine, ENGINE_AUTO);
	ck_assert_uint_eq(opt.stats, STATS_TABLE);
	ck_assert(!opt.halt_exits);
	options_free(&opt);
}
END_TEST

/* Only the last ",mode=" is an option; commas before it belong to the name. */
START_TEST(files_and_modes)
{
	static const char *const words[] = {
	    K, "--disk", "a,b", "--disk", "c,mode=x,mode=ro", "--pmem", "p,mode=shared", NULL};
	struct run_options opt;
	struct foal_error err;

	ck_assert_int_eq(parse(words, &opt, &err), 0);
	ck_assert_uint_eq(opt.disk_count, 2);
	ck_assert_str_eq(opt.disks[0].path, "a,b");
	ck_assert_uint_eq(opt.disks[0].mode, DISK_COW);
	ck_assert_str_eq(opt.disks[1].path, "c,mode=x");
	ck_assert_uint_eq(opt.disks[1].mode, DISK_RO);
	ck_assert_uint_eq(opt.pmem_count, 1);
	ck_assert_uint_eq(opt.pmems[0].mode, DISK_SHARED);
	options_free(&opt);
}
END_TEST

START_TEST(too_many_files)
{
	char *argv[3 + 2 * (MAX_FILES + 1) + 1] = {(char *)"run", (char *)"--kernel", (char *)"k"};
	struct foal_error err = {0};
	struct run_options opt;
	int argc = 3;

	for (int i = 0; i <= MAX_FILES; i++) {
		argv[argc++] = (char *)(i % 2 ? "--pmem" : "--disk");
		argv[argc++] = (char *)"f";
	}
	optind = 0;
	ck_assert_int_eq(options_parse(argc, argv, &opt, &err), -E2BIG);
	ck_assert_int_eq(err.status, FOAL_EXIT_USAGE);
}
END_TEST

Suite *options_suite(void)
{
	Suite *suite = suite_create("options");
	TCase *tc = tcase_create("options");

	tcase_add_loop_test(tc, wrong_ones_are_named, 0, sizeof(wrong) / sizeof(wrong[0]));
	tcase_add_test(tc, defaults);
	tcase_add_test(tc, files_and_modes);
	tcase_add_test(tc, too_many_files);
	suite_add_tcase(suite, tc);
	return suite;
}
