/* A VM that was begun and comes to nothing: its threads end with it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/scratch.h"
#include "tests/vmm/suites.h"
#include "vmm/background.h"
#include "vmm/run.h"
#include "vmm/vm.h"

/* Of a restore, which begins one while it reads the snapshot. Who runs it then frees it. */
START_TEST(no_statistics)
{
	struct background nobody = {.tell = -1};
	struct foal_error err = {0};
	struct run_options opt;

	if (access("/dev/kvm", R_OK | W_OK)) {
		printf("SKIP start: no /dev/kvm\n");
		return;
	}
	struct vm *vm = calloc(1, sizeof(*vm));
	options_defaults(&opt);
	vm_begin(vm);
	ck_assert_msg(vm->stopper.started, "%s", vm->start_error.text);
	opt.stats_file = scratch("none/stats");
	vm->opt = &opt;
	ck_assert_int_eq(run_vm(vm, &nobody, &err), FOAL_EXIT_USAGE);
	ck_assert_ptr_nonnull(strstr(err.text, "none/stats"));
	ck_assert_msg(!vm->stopper.started, "its threads are still there");
	free(vm);
	options_free(&opt);
}
END_TEST

Suite *start_suite(void)
{
	Suite *suite = suite_create("start");
	TCase *tc = tcase_create("start");

	tcase_add_test(tc, no_statistics);
	suite_add_tcase(suite, tc);
	return suite;
}
