/* What a command line becomes; tests/kvm has the wrong ones. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/vmm/suites.h"
#include "vmm/memory_limit.h"
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

START_TEST(defaults)
{
	static const char *const words[] = {K, NULL};
	struct run_options opt;
	struct foal_error err;

	ck_assert_int_eq(parse(words, &opt, &err), 0);
	ck_assert_str_eq(opt.kernel, "k");
	ck_assert_uint_eq(opt.memory, 256UL << 20);
	ck_assert_uint_eq(opt.cpus, 1);
	ck_assert_uint_eq(opt.engine, EPT_ENGINE_AUTO);
	ck_assert_uint_eq(opt.stats, STATS_TABLE);
	ck_assert_uint_eq(opt.halt, HALT_AUTO);
	ck_assert(opt.fault_log);
	options_free(&opt);
}
END_TEST

/* Fields are cut off the end as far as their keys are known; other commas belong to the name. */
START_TEST(files_and_modes)
{
	static const char *const words[] = {
	    K, "--disk", "a,b", "--disk", "c,node=x,mode=ro", "--pmem", "p,mode=shared", NULL};
	struct run_options opt;
	struct foal_error err;

	ck_assert_int_eq(parse(words, &opt, &err), 0);
	ck_assert_uint_eq(opt.disk_count, 2);
	ck_assert_str_eq(opt.disks[0].path, "a,b");
	ck_assert_uint_eq(opt.disks[0].mode, DISK_COW);
	ck_assert_str_eq(opt.disks[1].path, "c,node=x");
	ck_assert_uint_eq(opt.disks[1].mode, DISK_RO);
	ck_assert_uint_eq(opt.pmem_count, 1);
	ck_assert_uint_eq(opt.pmems[0].mode, DISK_SHARED);
	options_free(&opt);
}
END_TEST

START_TEST(ways_to_boot)
{
	static const char *const as_pvh[] = {K, "--boot", "pvh", NULL};
	static const char *const disk_alone[] = {"--firmware", "seabios", "--disk", "d", NULL};
	static const char *const nothing[] = {"--disk", "d", NULL};
	struct run_options opt;
	struct foal_error err;

	ck_assert_int_eq(parse(as_pvh, &opt, &err), 0);
	ck_assert_int_eq(opt.boot, BOOT_PVH);
	ck_assert_ptr_null(opt.firmware);
	options_free(&opt);
	ck_assert_int_eq(parse(disk_alone, &opt, &err), 0);
	ck_assert_int_eq(opt.boot, BOOT_AUTO);
	ck_assert_str_eq(opt.firmware, "seabios");
	ck_assert_ptr_null(opt.kernel);
	options_free(&opt);
	ck_assert_int_eq(parse(nothing, &opt, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "--kernel FILE is needed"));
}
END_TEST

/* The last one counts, and takes a target back with it. */
START_TEST(balloon)
{
	static const char *const target[] = {K, "--balloon", "target=64M", NULL};
	static const char *const on[] = {K, "--balloon", "target=64M", "--balloon", "on", NULL};
	static const char *const off[] = {K, "--balloon", "target=64M", "--balloon", "off", NULL};
	static const char *const *const lines[] = {target, on, off};
	struct run_options opt;
	struct foal_error err;

	ck_assert_int_eq(parse(lines[_i], &opt, &err), 0);
	ck_assert(opt.balloon == (_i < 2));
	ck_assert_uint_eq(opt.balloon_target, _i == 0 ? 64UL << 20 : 0);
	options_free(&opt);
}
END_TEST

START_TEST(field_given_twice)
{
	static const char *const words[] = {K, "--disk", "c,mode=cow,mode=ro", NULL};
	struct run_options opt;
	struct foal_error err = {0};

	ck_assert_int_eq(parse(words, &opt, &err), -EINVAL);
	ck_assert_int_eq(err.status, FOAL_EXIT_USAGE);
	ck_assert_ptr_nonnull(strstr(err.text, "mode is given twice"));
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

/* Every virtio device has a place and an interrupt pin of its own, or there is none. */
START_TEST(too_many_devices)
{
	static const char *const others[][2] = {
	    {"--rng", "on"},	{"--balloon", "on"},	     {"--console", "virtio"},
	    {"--net", "tap=t"}, {"--vsock", "cid=3,path=s"}, {"--transport", "pci"},
	};
	char *argv[3 + 2 * (MAX_FILES + 1) + 1] = {(char *)"run", (char *)"--kernel", (char *)"k"};
	struct foal_error err = {0};
	struct run_options opt;
	int argc = 3;

	for (int i = 0; i < MAX_FILES; i++) {
		argv[argc++] = (char *)"--disk";
		argv[argc++] = (char *)"f";
	}
	optind = 0;
	ck_assert_int_eq(options_parse(argc, argv, &opt, &err), 0);
	options_free(&opt);
	argv[argc++] = (char *)others[_i][0];
	argv[argc++] = (char *)others[_i][1];
	optind = 0;
	ck_assert_int_eq(options_parse(argc, argv, &opt, &err), -E2BIG);
	ck_assert_ptr_nonnull(strstr(err.text, _i == 5 ? "room for 31" : "room for 32"));
}
END_TEST

/* Whoever is killed, nothing is left: it has no name, not even for a moment. */
START_TEST(swap_files)
{
	char dir[] = "/tmp/foal-swap-XXXXXX", path[64], link[64], is[256];
	struct memory_limit limit = {.swap = path};
	struct foal_error err = {0};
	int fd, can;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/its.swap", dir);
	can = open(dir, O_TMPFILE | O_RDWR, 0600);
	ck_assert_msg(swap_open(&limit, &fd, &err) == 0, "%s", err.text);
	ck_assert_int_eq(pwrite(fd, path, 0, 0), 0);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t len = readlink(link, is, sizeof(is) - 1);
	ck_assert_int_gt(len, 0);
	is[len] = 0;
	ck_assert_msg(can < 0 || !strstr(is, "its.swap"), "%s", is);
	close(fd);
	if (can >= 0)
		close(can);
	ck_assert_int_eq(rmdir(dir), 0);
	ck_assert_int_eq(swap_open(&limit, &fd, &err), -ENOENT);
}
END_TEST

Suite *options_suite(void)
{
	Suite *suite = suite_create("options");
	TCase *tc = tcase_create("options");

	tcase_add_test(tc, swap_files);
	tcase_add_test(tc, defaults);
	tcase_add_test(tc, files_and_modes);
	tcase_add_test(tc, ways_to_boot);
	tcase_add_loop_test(tc, balloon, 0, 3);
	tcase_add_test(tc, field_given_twice);
	tcase_add_test(tc, too_many_files);
	tcase_add_loop_test(tc, too_many_devices, 0, 6);
	suite_add_tcase(suite, tc);
	return suite;
}
