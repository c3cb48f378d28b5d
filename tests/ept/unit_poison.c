/* Pages that the object does not give, where they are poisoned. */
#include "ept/uffd_compat.h"
#include "tests/ept/fake_install.h"
#include "tests/ept/unit_suites.h"
#include "tests/ept/util.h"

#include <sched.h>

#define BAD 20 /* this page of the file cannot be read */

static struct ept_resolution res;

static struct vm vm_poisoning(int fd, enum ept_file_mode mode)
{
	struct ept_config config = one_thread;

	config.on_io_error = EPT_IO_POISON;
	inject_set(pread_errno, EIO);
	inject_set(bad_from, BAD * PAGE);
	inject_set(bad_to, (BAD + 1) * PAGE);
	return vm_create(&config, fd, 0, 64 * PAGE, mode);
}

static enum ept_result fault(const struct vm *vm, uint64_t page, enum ept_access access,
			     unsigned flags)
{
	return fault_as(vm, page, access, EPT_ORIGIN_LOADER, flags, &res);
}

START_TEST(io_poison)
{
	int fd = temp_file(64 * PAGE);
	struct vm vm = vm_poisoning(fd, first_touches[_i].mode);
	unsigned woken, preads;

	ck_assert_int_eq(fault(&vm, BAD, first_touches[_i].access, EPT_FAULT_EVENT), EPT_RESOLVED);
	ck_assert_int_eq(res.kase, EPT_CASE_IO_POISON);
	ck_assert_int_eq(res.error, -EIO);
	ck_assert_int_eq(fake_page(vm.hva + BAD * PAGE), FAKE_POISON);
	ck_assert(ept_poisoned(vm.space, GPA(BAD * PAGE + 5)));
	ck_assert_ptr_null(ept_space_failure(vm.space));
	ck_assert_ptr_nonnull(strstr(ept_space_first_poison(vm.space)->message,
				     "cannot read byte 81920 of disk.img for pmem0: Input/output "
				     "error; check the storage; the page is poisoned"));
	woken = fake_wakes(vm.hva + BAD * PAGE);
	ck_assert_uint_ge(woken, 1);
	/* The storage is back, but a guest was told that the page is lost: it stays so. */
	preads = inject_get(preads);
	inject_set(pread_errno, 0);
	ck_assert_int_eq(fault(&vm, BAD, EPT_READ, 0), EPT_RESOLVED);
	ck_assert_int_eq(res.kase, EPT_CASE_IO_POISON);
	ck_assert_int_eq(res.error, -EIO);
	/* An event that comes late must not be left asleep. */
	ck_assert_int_eq(fault(&vm, BAD, EPT_READ, EPT_FAULT_EVENT), EPT_RESOLVED);
	ck_assert_uint_eq(fake_wakes(vm.hva + BAD * PAGE), woken + 1);
	/* Nor one whose entry the host has dropped: it would come again for ever. */
	fake_set_page(vm.hva + BAD * PAGE, FAKE_NONE);
	ck_assert_int_eq(fault(&vm, BAD, EPT_READ, EPT_FAULT_EVENT), EPT_RESOLVED);
	ck_assert_int_eq(fake_page(vm.hva + BAD * PAGE), FAKE_POISON);
	ck_assert_uint_eq(inject_get(preads), preads);
	assert_faults(&vm, EPT_CASE_IO_POISON, 4);
	/* Its neighbours are none of it. */
	ck_assert_int_eq(fault(&vm, BAD + 1, EPT_READ, 0), EPT_RESOLVED);
	ck_assert_int_eq(res.error, 0);
	ck_assert_int_eq(fake_page(vm.hva + BAD * PAGE), FAKE_POISON);
	ck_assert(!ept_poisoned(vm.space, GPA((BAD + 1) * PAGE)));
	ck_assert_uint_eq(fake_double_installs(), 0);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

/*
 * A file system may say what an installer says of a race: it is an error of the file all the
 * same, which is not tried again for ever, nor taken for a page that is there.
 */
static const int lookalikes[] = {EAGAIN, EBUSY, EEXIST, ESHUTDOWN};

#define NR_LOOKALIKES ((int)(sizeof(lookalikes) / sizeof(*lookalikes)))

START_TEST(errors_of_the_file)
{
	const struct first_touch *t = &first_touches[_i / NR_LOOKALIKES / 2];
	int fd = temp_file(64 * PAGE), error = lookalikes[_i / 2 % NR_LOOKALIKES];
	struct vm vm = vm_poisoning(fd, t->mode);
	unsigned woken = fake_wakes(vm.hva + BAD * PAGE);

	inject_set(pread_errno, error);
	if (_i % 2) {
		vm.space->config.on_io_error = EPT_IO_STOP;
		ck_assert_int_eq(fault(&vm, BAD, t->access, EPT_FAULT_EVENT), EPT_BUS_ERROR);
		ck_assert_int_eq(res.kase, EPT_CASE_IO_ERROR);
		ck_assert_int_eq(res.error, -error);
		ck_assert_int_eq(ept_space_failure(vm.space)->error, -error);
		ck_assert_uint_eq(fake_wakes(vm.hva + BAD * PAGE), woken);
	} else {
		ck_assert_int_eq(fault(&vm, BAD, t->access, EPT_FAULT_EVENT), EPT_RESOLVED);
		ck_assert_int_eq(res.kase, EPT_CASE_IO_POISON);
	}
	vm_destroy(&vm);
	close(fd);
}
END_TEST

static void *read_bad(void *arg)
{
	const struct vm *vm = arg;
	char c;

	ck_assert_int_eq(ept_read(vm->space, GPA(BAD * PAGE), &c, 1, EPT_ORIGIN_DEVICE), -EIO);
	return NULL;
}

/* A device's request fails, and nothing else. */
START_TEST(poison_for_a_device)
{
	int fd = temp_file(64 * PAGE);
	struct vm vm = vm_poisoning(fd, EPT_FILE_COW);
	char buf[2 * PAGE];

	ck_assert_int_eq(
	    ept_read(vm.space, GPA((BAD - 1) * PAGE), buf, sizeof(buf), EPT_ORIGIN_DEVICE), -EIO);
	ck_assert_int_eq(ept_write(vm.space, GPA(BAD * PAGE), buf, 1, EPT_ORIGIN_DEVICE), -EIO);
	ck_assert_int_eq(ept_read(vm.space, GPA((BAD + 1) * PAGE), buf, PAGE, EPT_ORIGIN_DEVICE),
			 0);
	ck_assert_ptr_null(ept_space_failure(vm.space));
	vm_destroy(&vm);
	close(fd);
}
END_TEST

/* Why a page was poisoned is asked of its storage, which may not answer: not under the leaf. */
START_TEST(poison_is_noted_without_the_leaf)
{
	int fd = temp_file(64 * PAGE);
	struct vm vm = vm_poisoning(fd, EPT_FILE_COW);
	struct ept_leaf *leaf = ept_mirror_get(&vm.space->mirror, GPA(0));
	pthread_t device;

	pthread_mutex_lock(&vm.space->failure_lock);
	pthread_create(&device, NULL, read_bad, &vm);
	while (fake_page(vm.hva + BAD * PAGE) != FAKE_POISON)
		sched_yield();
	pthread_mutex_lock(&leaf->lock);
	pthread_mutex_unlock(&leaf->lock);
	pthread_mutex_unlock(&vm.space->failure_lock);
	pthread_join(device, NULL);
	ck_assert_ptr_nonnull(ept_space_first_poison(vm.space));
	vm_destroy(&vm);
	close(fd);
}
END_TEST

/* A file that shrank: what is gone is poisoned page by page, and looking for it stops nothing. */
START_TEST(poison_of_a_truncated_file)
{
	int fd = temp_file(64 * PAGE);
	struct vm vm = vm_poisoning(fd, EPT_FILE_COW);

	inject_set(pread_errno, 0);
	ck_assert_int_eq(ftruncate(fd, BAD * PAGE + 7), 0);
	ept_space_check_files(vm.space);
	ck_assert_ptr_null(ept_space_failure(vm.space));
	ck_assert_int_eq(fault(&vm, BAD - 1, EPT_READ, 0), EPT_RESOLVED);
	ck_assert_int_eq(res.error, 0);
	ck_assert_int_eq(fault(&vm, BAD, EPT_READ, 0), EPT_RESOLVED);
	ck_assert_int_eq(res.kase, EPT_CASE_IO_POISON);
	ck_assert_ptr_nonnull(
	    strstr(ept_space_first_poison(vm.space)->message, "it shrank from 262144 to 81927"));
	vm_destroy(&vm);
	close(fd);
}
END_TEST

/* Before Linux 6.6, or where it is not asked for, the space fails. */
START_TEST(no_poison_stops)
{
	int fd = temp_file(64 * PAGE);
	struct vm vm;

	fake_features = 0;
	vm = vm_poisoning(fd, EPT_FILE_COW);
	ck_assert(!ept_space_can_poison(vm.space));
	ck_assert_int_eq(fault(&vm, BAD, EPT_READ, 0), EPT_BUS_ERROR);
	ck_assert_int_eq(res.kase, EPT_CASE_IO_ERROR);
	ck_assert_ptr_nonnull(ept_space_failure(vm.space));
	ck_assert_ptr_null(ept_space_first_poison(vm.space));
	vm_destroy(&vm);
	close(fd);
}
END_TEST

/* What the installer itself may answer. */
START_TEST(poison_that_fails)
{
	static const struct {
		int error;
		enum ept_case kase;
	} answers[] = {{-EAGAIN, EPT_CASE_IO_POISON},
		       {-ENOMEM, EPT_CASE_NO_MEMORY},
		       {-ESHUTDOWN, EPT_CASE_DYING}};
	int fd = temp_file(64 * PAGE);
	struct vm vm = vm_poisoning(fd, EPT_FILE_COW);

	fake_fail(FAKE_OP_POISON, answers[_i].error, 1);
	fault(&vm, BAD, EPT_READ, 0);
	ck_assert_str_eq(ept_case_name(res.kase), ept_case_name(answers[_i].kase));
	ck_assert_uint_eq(faults(&vm, answers[_i].kase), 1);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

Suite *suite_poison(void)
{
	Suite *suite = suite_create("ept: poison");
	TCase *tc = tcase_create("poison");

	tcase_add_loop_test(tc, io_poison, 0, FIRST_TOUCHES);
	tcase_add_test(tc, poison_for_a_device);
	tcase_add_test(tc, poison_is_noted_without_the_leaf);
	tcase_add_test(tc, poison_of_a_truncated_file);
	tcase_add_test(tc, no_poison_stops);
	tcase_add_loop_test(tc, poison_that_fails, 0, 3);
	tcase_add_loop_test(tc, errors_of_the_file, 0, FIRST_TOUCHES * NR_LOOKALIKES * 2);
	suite_add_tcase(suite, tc);
	return suite;
}
