/* A VM that was begun and comes to nothing: what began it ends with it. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/scratch.h"
#include "tests/vmm/suites.h"
#include "vmm/background.h"
#include "vmm/run.h"
#include "vmm/vm.h"

/* Threads of this process, this one among them. */
static unsigned threads(void)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned n = 0;

	ck_assert_ptr_nonnull(tasks);
	for (const struct dirent *one; (one = readdir(tasks));)
		n += one->d_name[0] != '.';
	closedir(tasks);
	return n;
}

/* One that was joined may still be listed for a moment. */
static void wait_for_end(unsigned before)
{
	while (threads() > before)
		usleep(1000);
}

/* Of a restore: its VM, while the snapshot is read. */
static struct vm *begun(struct run_options *opt)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	unsigned before = threads();

	if (access("/dev/kvm", R_OK | W_OK)) {
		printf("SKIP start: no /dev/kvm\n");
		exit(EXIT_SUCCESS);
	}
	options_defaults(opt);
	vm_begin(vm);
	ck_assert_msg(!vm->start_error.status, "%s", vm->start_error.text);
	ck_assert_uint_gt(threads(), before);
	return vm;
}

START_TEST(forgotten)
{
	struct run_options opt;
	unsigned before = threads();
	struct vm *vm = begun(&opt);

	vm_forget(vm, &opt);
	wait_for_end(before);
	options_free(&opt);
}
END_TEST

/* Found out when the VM is run, before anything else of it is built. */
START_TEST(no_statistics)
{
	struct background nobody = {.tell = -1};
	struct foal_error err = {0};
	struct run_options opt;
	unsigned before = threads();
	struct vm *vm = begun(&opt);

	opt.stats_file = scratch("none/stats");
	vm->opt = &opt;
	ck_assert_int_eq(run_vm(vm, &nobody, &err), FOAL_EXIT_USAGE);
	ck_assert_ptr_nonnull(strstr(err.text, "none/stats"));
	wait_for_end(before);
	free(vm);
	options_free(&opt);
}
END_TEST

Suite *start_suite(void)
{
	Suite *suite = suite_create("start");
	TCase *tc = tcase_create("start");

	tcase_add_test(tc, forgotten);
	tcase_add_test(tc, no_statistics);
	suite_add_tcase(suite, tc);
	return suite;
}
