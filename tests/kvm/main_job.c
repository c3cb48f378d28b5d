/*
 * The main job: the guest kernel with a disk and a pmem, its sums compared with
 * what the host reads from the same images, and the images with what they were.
 *
 * The host's side goes through debugfs and e2fsck, of e2fsprogs; without them,
 * or without the images, these tests are skipped.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/user/lib/sha256.h"
#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

#define PAGE	    4096u

/* Every how many pages of /data/shared the job writes (guest/user/main.c). */
#define SHARED_STEP 4

static void need_images(void)
{
	if (access(image_path("kernel.elf"), R_OK) || access(image_path("disk.img"), R_OK) ||
	    access(image_path("pmem.img"), R_OK))
		skip("main job: no guest kernel or images here");
	if (run_tool(NULL, ARGS("debugfs", "-V")) || run_tool(NULL, ARGS("e2fsck", "-V")))
		skip("main job: no debugfs or e2fsck here");
}

/* The guest said that @path has the sum that the host finds in @image. */
static void check_sum(const struct run *run, const char *image, const char *in_image,
		      const char *path)
{
	char sum[SHA256_HEX], line[160];

	sum_in_image(image, in_image, sum);
	snprintf(line, sizeof(line), "sha256 %s  %s\n", sum, path);
	/* The console may end its lines as terminals want them. */
	char *newline = strchr(line, '\n');
	*newline = 0;
	ck_assert_msg(strstr(run->out_text, line) != NULL, "no \"%s\" in:\n%s", line,
		      run->out_text);
}

/* Written pages of /data/shared hold the job's lines, the others what they held before. */
static void check_shared(const char *image, const char *before, const char *nonce)
{
	size_t len, old_len;
	unsigned char *data = file_in_image(image, "/data/shared", &len);
	unsigned char *old = file_in_image(before, "/data/shared", &old_len);

	ck_assert_uint_eq(len, old_len);
	ck_assert_uint_ge(len, 8 * PAGE);
	for (size_t page = 0; page < len / PAGE; page++) {
		char line[128];
		if (page % SHARED_STEP) {
			ck_assert_int_eq(memcmp(data + page * PAGE, old + page * PAGE, PAGE), 0);
			continue;
		}
		size_t n = (size_t)snprintf(line, sizeof(line), "foal %s page %zu\n", nonce, page);
		for (size_t at = 0; at < PAGE; at++)
			ck_assert_msg((char)data[page * PAGE + at] == line[at % n],
				      "page %zu byte %zu", page, at);
	}
	free(data);
	free(old);
}

static const struct {
	const char *mode, *engine;
} ways[] = {
    {"cow", "handler"},
    {"shared", "handler"},
    {"cow", "kernel"},
    {"shared", "kernel"},
};

static void run_job(struct run *run, const char *disk, const char *pmem, int way,
		    const char *append)
{
	char disk_option[600], pmem_option[600];

	snprintf(disk_option, sizeof(disk_option), "%s,mode=%s", disk, ways[way].mode);
	snprintf(pmem_option, sizeof(pmem_option), "%s,mode=%s", pmem, ways[way].mode);
	run_foal(run, ARGS("--kernel", image_path("kernel.elf"), "--disk", disk_option, "--pmem",
			   pmem_option, "--fault-engine", ways[way].engine, "--append", append,
			   "--time-limit", GUEST_LIMIT));
	ck_assert_msg(run->status == 0, "status %d\n%s\n%s", run->status, run->out_text,
		      run->err_text);
	ck_assert_ptr_nonnull(strstr(run->out_text, "main: ok"));
	check_events(run);
}

START_TEST(through_disk_and_pmem)
{
	struct run run;
	bool shared = strcmp(ways[_i].mode, "shared") == 0;

	need_images();
	if (strcmp(ways[_i].engine, "handler") == 0 && !have_userfaultfd())
		skip("no userfaultfd here");
	const char *disk_before = image_path("disk.img"), *pmem_before = image_path("pmem.img");
	const char *disk = copy_file(disk_before, "disk.img");
	const char *pmem = copy_file(pmem_before, "pmem.img");
	run_job(&run, disk, pmem, _i, "quiet init=/bin/main root=/dev/vda -- nonce=seven");
	/* Read before anything is compared: the corpus is never written. */
	check_sum(&run, disk, "/data/corpus", "/data/corpus");
	check_sum(&run, pmem, "/data/corpus", "/pmem/data/corpus");
	if (shared) {
		check_shared(disk, disk_before, "seven");
		check_shared(pmem, pmem_before, "seven");
		check_sum(&run, disk, "/data/shared", "/data/shared");
		check_sum(&run, pmem, "/data/shared", "/pmem/data/shared");
	} else {
		ck_assert(same_files(disk, disk_before));
		ck_assert(same_files(pmem, pmem_before));
	}
	expect_fs_clean(disk);
	expect_fs_clean(pmem);
	run_free(&run);
}
END_TEST

/* The disk as a qcow2 image, which the guest writes; the host reads it as qemu-img sees it. */
START_TEST(through_qcow2)
{
	const char *pmem, *disk = scratch("disk.qcow2"), *after = scratch("after.img");
	char option[600];
	struct run run;

	need_images();
	if (run_tool(NULL, ARGS("qemu-img", "--version")))
		skip("qcow2: no qemu-img here");
	pmem = copy_file(image_path("pmem.img"), "pmem.img");
	ck_assert_int_eq(run_tool(NULL, ARGS("qemu-img", "convert", "-f", "raw", "-O", "qcow2",
					     image_path("disk.img"), disk)),
			 0);
	snprintf(option, sizeof(option), "%s,format=qcow2", disk);
	run_job(&run, option, pmem, 1, "quiet init=/bin/main root=/dev/vda -- nonce=seven");
	ck_assert_int_eq(run_tool(NULL, ARGS("qemu-img", "check", "-q", disk)), 0);
	ck_assert_int_eq(
	    run_tool(NULL, ARGS("qemu-img", "convert", "-f", "qcow2", "-O", "raw", disk, after)),
	    0);
	check_sum(&run, after, "/data/corpus", "/data/corpus");
	check_sum(&run, after, "/data/shared", "/data/shared");
	check_shared(after, image_path("disk.img"), "seven");
	expect_fs_clean(after);
	run_free(&run);
}
END_TEST

/* The root filesystem in guest-physical memory, no disk at all; and the way that is missing above.
 */
START_TEST(root_on_pmem)
{
	struct run run;
	const char *pmem;

	need_images();
	pmem = copy_file(image_path("pmem.img"), "pmem.img");
	run_foal(&run, ARGS("--kernel", image_path("kernel.elf"), "--pmem", pmem, "--fault-engine",
			    "kernel", "--append", "quiet init=/bin/main root=/dev/pmem0",
			    "--time-limit", GUEST_LIMIT));
	ck_assert_msg(run.status == 0, "status %d\n%s\n%s", run.status, run.out_text, run.err_text);
	check_sum(&run, pmem, "/data/corpus", "/data/corpus");
	ck_assert(same_files(pmem, image_path("pmem.img")));
	run_free(&run);
}
END_TEST

/* A short job, from the image as it was made. */
static void run_init(struct run *run, const char *append)
{
	need_images();
	run_foal(run, ARGS("--kernel", image_path("kernel.elf"), "--disk", image_path("disk.img"),
			   "--append", append, "--time-limit", GUEST_LIMIT));
}

/* A short job reads a small part of kernel and disk, and no byte twice. */
START_TEST(reads_what_it_touches)
{
	struct run run;

	run_init(&run, "quiet init=/bin/exit -- 5");
	ck_assert_msg(run.status == 5, "status %d\n%s\n%s", run.status, run.out_text, run.err_text);
	ck_assert_uint_lt(file_read(&run, "disk"), 1 << 20);
	if (have_userfaultfd())
		ck_assert_uint_lt(file_read(&run, "kernel"), file_size(&run, "kernel"));
	run_free(&run);
}
END_TEST

/* A program that touches what it may not is killed; its status is the run's. */
START_TEST(killed_program)
{
	struct run run;

	run_init(&run, "quiet init=/bin/segv");
	ck_assert_msg(run.status > 0 && run.status < 100, "status %d\n%s", run.status,
		      run.out_text);
	ck_assert_ptr_nonnull(strstr(run.out_text, "MAPERR"));
	run_free(&run);
}
END_TEST

Suite *main_job_suite(void)
{
	Suite *suite = suite_create("main_job");
	TCase *tc = tcase_create("main_job");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_loop_test(tc, through_disk_and_pmem, 0, sizeof(ways) / sizeof(ways[0]));
	tcase_add_test(tc, through_qcow2);
	tcase_add_test(tc, root_on_pmem);
	tcase_add_test(tc, reads_what_it_touches);
	tcase_add_test(tc, killed_program);
	suite_add_tcase(suite, tc);
	return suite;
}
