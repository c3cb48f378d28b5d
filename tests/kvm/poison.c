/* --on-io-error poison: a page that its file does not give, from a guest. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

#define PAGES 512
#define BAD   100

/* Start the guest on a pmem, cut the file short below page BAD, and let it touch that. */
static void run_poison(struct run *run, const char *how, const char *policy)
{
	char append[64];
	const char *path = make_pmem("gone.img", PAGES);

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	snprintf(append, sizeof(append), "page=%d %s", BAD, how);
	run_start(run, NULL,
		  ARGS("--kernel", guest_path("poison.elf"), "--append", append, "--pmem", path,
		       "--on-io-error", policy));
	run_until(run, "ready\n");
	ck_assert_int_eq(truncate(path, BAD * 4096L), 0);
	run_type(run, "x", 1);
	run_wait(run);
}

static bool can_poison(void)
{
	return linux_at_least(6, 6);
}

static const char *const touches[] = {"mode=r ring=0", "mode=w ring=0", "mode=r ring=3",
				      "mode=w ring=3"};

/* Two touches, two machine checks that name the page; the neighbours are as they were. */
START_TEST(machine_check)
{
	struct run run;
	char how[32];

	snprintf(how, sizeof(how), "mce=1 %s", touches[_i]);
	if (!can_poison())
		skip("userfaultfd cannot poison before Linux 6.6");
	run_poison(&run, how, "poison");
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	ck_assert_uint_eq(count_of(&run, "pmem0", "io_poison", "faults"), 1);
	ck_assert_uint_eq(count_of(&run, "pmem0", "io_error", "faults"), 0);
	check_events(&run);
	run_free(&run);
}
END_TEST

START_TEST(no_machine_check)
{
	struct run run;
	char how[32];

	if (emulated_host()) /* seen on Linux 6.12 there, and not understood */
		skip("an emulated host: the guest takes a machine check that it did not ask for");

	snprintf(how, sizeof(how), "mce=0 %s", touches[_i]);
	if (!can_poison())
		skip("userfaultfd cannot poison before Linux 6.6");
	run_poison(&run, how, "poison");
	ck_assert_msg(run.status == 106, "status %d: %s", run.status, run.err_text);
	ck_assert_ptr_nonnull(strstr(run.err_text, "vCPU 0 touched the page at gpa 0x"));
	ck_assert_ptr_nonnull(strstr(run.err_text, "byte 409600 of "));
	ck_assert_ptr_nonnull(strstr(run.err_text, "gone.img for pmem0, which could not be read"));
	run_free(&run);
}
END_TEST

/* Where the host cannot poison, and without the option: the VM stops. */
START_TEST(stop)
{
	struct run run;

	if (_i && can_poison())
		skip("this host can poison");
	run_poison(&run, "mce=1 mode=r", _i ? "poison" : "stop");
	ck_assert_msg(run.status == 106, "status %d: %s", run.status, run.err_text);
	ck_assert_ptr_nonnull(strstr(run.err_text, "gone.img for pmem0: it shrank"));
	ck_assert_uint_eq(foal_lines(&run), _i ? 2 : 1);
	run_free(&run);
}
END_TEST

enum { VICTIM_PAGES = 400, LOST = 300 }; /* far behind what comes with the first pages */

/*
 * A file system with one file of As and, from page LOST on, Zs; *cut: where in the image those
 * begin. Nothing else lies behind that.
 */
static const char *make_victim(long *cut)
{
	static unsigned char pages[VICTIM_PAGES][4096];
	const char *image = scratch("victim.img"), *stage = scratch("stage");
	char path[512];
	size_t len;

	for (int i = 0; i < VICTIM_PAGES; i++)
		memset(pages[i], i < LOST ? 'A' : 'Z', sizeof(pages[i]));
	ck_assert_int_eq(mkdir(stage, 0755), 0);
	snprintf(path, sizeof(path), "%s/victim", stage);
	write_file(path, pages, sizeof(pages));
	make_ext2(image, stage, "4096", "4M");
	unsigned char *data = read_file(image, &len);
	*cut = 0;
	for (size_t at = 0; at < len && !*cut; at += 4096)
		if (!memcmp(data + at, pages[LOST], 4096))
			*cut = (long)at;
	free(data);
	ck_assert_int_gt(*cut, 0);
	return image;
}

/* The guest kernel takes them: its programs get SIGBUS, its calls EFAULT, and it goes on. */
START_TEST(guest_kernel_takes_them)
{
	const char *image;
	struct run run;
	long cut;

	if (!can_poison() || !have_userfaultfd())
		skip("userfaultfd cannot poison before Linux 6.6, or is not there");
	if (access(image_path("kernel.elf"), R_OK) || access(image_path("disk.img"), R_OK))
		skip("no guest kernel or images here");
	if (run_tool(NULL, ARGS("mke2fs", "-V")))
		skip("no mke2fs here");
	image = make_victim(&cut);
	run_start(&run, NULL,
		  ARGS("--kernel", image_path("kernel.elf"), "--disk", image_path("disk.img"),
		       "--pmem", image, "--on-io-error", "poison", "--memory", "64M", "--append",
		       "quiet root=/dev/vda init=/bin/poisoned -- /pmem/victim", "--time-limit",
		       GUEST_LIMIT));
	run_until(&run, "ready");
	ck_assert_int_eq(truncate(image, cut), 0);
	run_type(&run, "\n", 1);
	run_wait(&run);
	ck_assert_msg(run.status == 0, "status %d\n%s\n%s", run.status, run.out_text, run.err_text);
	/* By a child's touch, a call's, and the program's own; then its entry says so. */
	ck_assert_ptr_nonnull(strstr(run.out_text, " hwpoison=2 machine_checks="));
	ck_assert_ptr_nonnull(strstr(run.out_text, ", 0 not given back"));
	run_free(&run);
}
END_TEST

Suite *poison_suite(void)
{
	Suite *suite = suite_create("poison");
	TCase *tc = tcase_create("poison");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_loop_test(tc, machine_check, 0, sizeof(touches) / sizeof(touches[0]));
	tcase_add_loop_test(tc, no_machine_check, 0, sizeof(touches) / sizeof(touches[0]));
	tcase_add_loop_test(tc, stop, 0, 2);
	tcase_add_test(tc, guest_kernel_takes_them);
	suite_add_tcase(suite, tc);
	return suite;
}
