/*
 * /bin/files, the same program on the host and in the guest: random calls on files by a seed. All
 * that is returned, read and left must be the same, and e2fsck content with the guest's disk.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

enum { SEEDS = 3 };

/* Three block sizes; the guest finds its programs where the built image has them. */
static const char *const block_sizes[SEEDS] = {"1024", "2048", "4096"};

/* An image of that block size with /bin/files in it. */
static const char *make_image(const char *block_size)
{
	const char *image = scratch("files.img");
	const char *stage = scratch("stage");
	char command[2048];

	snprintf(command, sizeof(command),
		 "rm -rf %s && mkdir -p %s/bin %s/tmp && cp %s %s/bin/files", stage, stage, stage,
		 image_path("user/files"), stage);
	ck_assert_int_eq(system(command), 0);
	make_ext2(image, stage, block_size, "32M");
	return image;
}

static char *run_on_host(const char *seed, const char *count)
{
	const char *dir = scratch("host"), *out = scratch("host.txt");
	size_t len;

	ck_assert_int_eq(mkdir(dir, 0755), 0);
	ck_assert_int_eq(run_tool(out, ARGS(image_path("user/files"), dir, seed, count)), 0);
	return read_file(out, &len);
}

START_TEST(same_as_host)
{
	char seed[16], append[128], disk[600];
	const char *image;
	struct run run;

	if (access(image_path("kernel.elf"), R_OK) || access(image_path("user/files"), X_OK))
		skip("files: no guest kernel or programs here");
	if (run_tool(NULL, ARGS("e2fsck", "-V")))
		skip("files: no e2fsck here");
	image = make_image(block_sizes[_i]);
	snprintf(seed, sizeof(seed), "%d", _i + 1);
	char *host = run_on_host(seed, "400");
	snprintf(append, sizeof(append), "quiet init=/bin/files -- /tmp %s 400", seed);
	snprintf(disk, sizeof(disk), "%s,mode=shared", image);
	run_foal(&run, ARGS("--kernel", image_path("kernel.elf"), "--disk", disk, "--memory", "32M",
			    "--append", append, "--time-limit", GUEST_LIMIT));
	ck_assert_msg(run.status == 0, "status %d\n%s\n%s", run.status, run.out_text, run.err_text);
	ck_assert_ptr_nonnull(strstr(run.out_text, ", 0 not given back"));
	guest_lines(run.out_text);
	ck_assert_str_eq(run.out_text, host);
	expect_fs_clean(image);
	free(host);
	run_free(&run);
}
END_TEST

Suite *guest_files_suite(void)
{
	Suite *suite = suite_create("guest_files");
	TCase *tc = tcase_create("guest_files");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_loop_test(tc, same_as_host, 0, SEEDS);
	suite_add_tcase(suite, tc);
	return suite;
}
