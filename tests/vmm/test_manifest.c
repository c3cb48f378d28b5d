/* The machine of a snapshot as JSON: there and back, and what is refused. */
#include <check.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/vmm/suites.h"
#include "vmm/manifest.h"

static char *rich[] = {"run",
		       "--kernel",
		       "k.elf",
		       "--append",
		       "a \"b\" c",
		       "--memory",
		       "96M",
		       "--cpus",
		       "3",
		       "--cpu",
		       "baseline,-pcid",
		       "--disk",
		       "/d,1.img",
		       "--disk",
		       "e.qcow2,mode=ro,format=qcow2",
		       "--disk",
		       "nbd:unix:/n.sock",
		       "--disk",
		       "nbd://h/x",
		       "--pmem",
		       "/p.img,mode=shared",
		       "--net",
		       "tap=t0,mac=52:54:00:12:34:56",
		       "--net",
		       "user,forward=2222:22",
		       "--transport",
		       "pci",
		       "--vsock",
		       "cid=7,path=/v.sock",
		       "--balloon",
		       "target=64M",
		       "--console",
		       "virtio",
		       "--rng",
		       "on",
		       "--name",
		       "original",
		       "--time-limit",
		       "7"};

static void parse(struct run_options *opt, int argc, char **argv)
{
	struct foal_error err = {0};

	optind = 0;
	ck_assert_msg(options_parse(argc, argv, opt, &err) == 0, "%s", err.text);
}

static char *dump(const struct run_options *opt)
{
	json_t *machine = manifest_machine(opt);
	char *text = json_dumps(machine, JSON_COMPACT);

	ck_assert_ptr_nonnull(text);
	json_decref(machine);
	return text;
}

START_TEST(there_and_back)
{
	struct run_options opt, back;
	struct foal_error err = {0};

	parse(&opt, sizeof(rich) / sizeof(rich[0]), rich);
	char *text = dump(&opt);
	json_t *json = json_loads(text, 0, NULL);
	options_defaults(&back);
	ck_assert_msg(manifest_take(json, "m", &back, &err) == 0, "%s", err.text);
	char *again = dump(&back);
	ck_assert_str_eq(text, again);
	ck_assert_uint_eq(back.memory, 96UL << 20);
	ck_assert_uint_eq(back.cpus, 3);
	ck_assert_mem_eq(&back.cpu_mask, &opt.cpu_mask, sizeof(opt.cpu_mask));
	ck_assert_uint_eq(back.disk_count, 4);
	ck_assert_str_eq(back.disks[0].path, "/d,1.img");
	ck_assert_int_eq(back.disks[1].kind, FILE_QCOW2);
	ck_assert_int_eq(back.disks[2].kind, FILE_NBD_UNIX);
	ck_assert_str_eq(back.disks[2].path, "/n.sock");
	ck_assert_uint_eq(back.balloon_target, 64UL << 20);
	ck_assert_str_eq(back.append, "a \"b\" c");
	ck_assert_int_eq(back.kernel[0], '/');
	/* How it was run is not the machine's. */
	ck_assert_str_ne(back.name, "original");
	ck_assert_uint_eq(back.time_limit, 0);
	free(text);
	free(again);
	options_free(&back);
	options_free(&opt);
	json_decref(json);
}
END_TEST

#define OPTIONS(list) "{\"format\":1,\"foal\":\"x\",\"options\":[" list "]}"
#define BASE	      "[\"kernel\",\"/k\"],[\"memory\",\"64M\"],[\"cpus\",\"1\"]"

static const struct {
	const char *json, *why;
} bad[] = {
    {"{}", "does not say its format"},
    {"[]", "does not say its format"},
    {"{\"format\":\"1\"}", "does not say its format"},
    {"{\"format\":2,\"options\":[]}", "format 2 is not known, this foal reads 1"},
    {"{\"format\":1}", "no list of options"},
    {"{\"format\":1,\"options\":{}}", "no list of options"},
    {OPTIONS(""), "does not say memory or cpus"},
    {OPTIONS("[\"memory\",\"64M\"]"), "does not say memory or cpus"},
    {OPTIONS("[\"memory\",\"64M\"],[\"cpus\",\"1\"]"), "--kernel FILE is needed"},
    {OPTIONS(BASE ",7"), "not a name and a value"},
    {OPTIONS(BASE ",[\"rng\"]"), "not a name and a value"},
    {OPTIONS(BASE ",[\"rng\",true]"), "not a name and a value"},
    {OPTIONS(BASE ",[\"rng\",\"on\",\"on\"]"), "not a name and a value"},
    {OPTIONS(BASE ",[\"memory\",\"65M\"]"), "option memory is not a machine's, or comes twice"},
    {OPTIONS(BASE ",[\"stats-file\",\"/etc/passwd\"]"), "option stats-file is not a machine's"},
    {OPTIONS(BASE ",[\"sandbox\",\"off\"]"), "option sandbox is not a machine's"},
    {OPTIONS(BASE ",[\"user\",\"1\"]"), "option user is not a machine's"},
    {OPTIONS(BASE ",[\"disk\",\"/d,mode=rw\"]"), "mode=rw"},
    {OPTIONS(BASE ",[\"balloon\",\"target=65M\"]"), "the target is more than --memory"},
    {OPTIONS("[\"kernel\",\"/k\"],[\"memory\",\"64M\"],[\"cpus\",\"0\"]"), "--cpus 0"},
    {OPTIONS("[\"kernel\",\"/k\"],[\"memory\",\"1K\"],[\"cpus\",\"1\"]"), "--memory 1K"},
};

START_TEST(refused)
{
	json_t *json = json_loads(bad[_i].json, 0, NULL);
	struct foal_error err = {0};
	struct run_options opt;

	ck_assert_ptr_nonnull(json);
	options_defaults(&opt);
	ck_assert_int_ne(manifest_take(json, "dir/manifest.json", &opt, &err), 0);
	ck_assert_int_eq(err.status, FOAL_EXIT_SNAPSHOT);
	ck_assert_msg(strncmp(err.text, "dir/manifest.json: ", 19) == 0 &&
			  strstr(err.text, bad[_i].why),
		      "\"%s\" is not in: %s", bad[_i].why, err.text);
	options_free(&opt);
	json_decref(json);
}
END_TEST

/* Nothing is read behind the end of the tables of devices. */
START_TEST(too_many)
{
	json_t *options = json_loads("[" BASE "]", 0, NULL), *machine;
	struct foal_error err = {0};
	struct run_options opt;

	for (int i = 0; i < _i; i++)
		json_array_append_new(options, json_pack("[s, s]", "disk", "/d"));
	machine = json_pack("{s:i, s:o}", "format", 1, "options", options);
	options_defaults(&opt);
	ck_assert_int_ne(manifest_take(machine, "m", &opt, &err), 0);
	options_free(&opt);
	json_decref(machine);
}
END_TEST

Suite *manifest_suite(void)
{
	Suite *suite = suite_create("manifest");
	TCase *tc = tcase_create("manifest");

	tcase_add_test(tc, there_and_back);
	tcase_add_loop_test(tc, refused, 0, sizeof(bad) / sizeof(bad[0]));
	tcase_add_loop_test(tc, too_many, 33, 36);
	tcase_add_loop_test(tc, too_many, 200, 201);
	suite_add_tcase(suite, tc);
	return suite;
}
