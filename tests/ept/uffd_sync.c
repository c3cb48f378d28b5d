/* Write-back of shared files. */
#include "tests/ept/uffd_suites.h"
#include "tests/ept/util.h"

#include <stdlib.h>
#include <sys/stat.h>

/* Both ways of write-protecting a page as it is mapped (before and since Linux 6.4). */
static struct vm shared(uint64_t size, bool atomic_protect)
{
	vm_without_atomic_protect = !atomic_protect;
	return vm_file(size, EPT_FILE_SHARED);
}

START_TEST(write_sync_write_sync)
{
	struct vm vm = shared(64 * PAGE, _i);

	for (int round = 1; round < 4; round++) {
		for (int page = 3; page < 12; page += 2)
			*at(&vm, page) = (char)round;
		ck_assert_uint_eq(area_info(&vm).dirty, 5 * PAGE);
		ck_assert_int_eq(ept_area_sync(vm.area), 0);
		ck_assert_uint_eq(area_info(&vm).dirty, 0);
		for (int page = 3; page < 12; page += 2) {
			ck_assert(file_has(vm.fd, page * PAGE, (uint8_t[]){(uint8_t)round}, 1));
			ck_assert(file_has(vm.fd, page * PAGE, (void *)at(&vm, page), PAGE));
		}
		ck_assert_uint_eq(inject_get(bytes_written), round * 5 * PAGE);
	}
	ck_assert_int_eq(ept_area_sync(vm.area), 0); /* nothing to do */
	ck_assert_uint_eq(inject_get(fdatasyncs), 3);
	ept_space_stop(vm.space);
	assert_faults(&vm, EPT_CASE_SHARED_WRITE, 5);
	assert_faults(&vm, EPT_CASE_SHARED_MKWRITE, 10);
	vm_destroy(&vm);
}
END_TEST

START_TEST(what_was_only_read_is_not_written)
{
	struct vm vm = shared(64 * PAGE, _i);

	ck_assert(has_pattern(at(&vm, 0), 0, 64 * PAGE));
	*at(&vm, 20) = 0;
	ck_assert_int_eq(ept_area_sync(vm.area), 0);
	ck_assert_uint_eq(inject_get(bytes_written), PAGE);
	*at(&vm, 21) = 0; /* protected by now, on any kernel */
	ck_assert_uint_eq(area_info(&vm).dirty, PAGE);
	vm_destroy(&vm);
}
END_TEST

/* A write event of KVM's worker is perhaps a read: it costs a look, not a write to the disk. */
START_TEST(what_kvm_asked_for_is_compared)
{
	struct vm vm = shared(64 * PAGE, true);

	ept_vcpu_bind(vm.space, 0, 0);
	*at(&vm, 20) = (char)pattern_byte(20 * PAGE);
	*at(&vm, 21) = 0;
	ck_assert_uint_eq(area_info(&vm).dirty, 2 * PAGE);
	ck_assert_int_eq(ept_area_sync(vm.area), 0);
	ck_assert_uint_eq(inject_get(bytes_written), PAGE);
	ck_assert(file_has(vm.fd, 21 * PAGE, (uint8_t[]){0}, 1));
	vm_destroy(&vm);
}
END_TEST

START_TEST(tail_of_the_file_is_not_extended)
{
	int fd = temp_file(64 * PAGE);
	uint64_t length = 9 * PAGE + 100;
	struct vm vm = vm_create(&one_thread, fd, 50, length, EPT_FILE_SHARED);
	struct stat st;

	memset(vm.hva, 0x55, vm.size);
	ck_assert_int_eq(ept_area_sync(vm.area), 0);
	ck_assert_uint_eq(inject_get(bytes_written), length);
	ck_assert(file_has(fd, 0, (uint8_t[]){pattern_byte(0)}, 1));
	ck_assert(file_has(fd, 50, vm.hva, length));
	ck_assert(file_has(fd, 50 + length, (uint8_t[]){pattern_byte(50 + length)}, 1));
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_size, 64 * PAGE);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

/* ENOSPC in pwrite, EIO in fdatasync: nothing is lost, the next sync writes it. */
START_TEST(failed_sync_keeps_pages_dirty)
{
	struct vm vm = shared(64 * PAGE, true);
	int error = _i ? EIO : ENOSPC,
	    *injected = _i ? &inject.fdatasync_errno : &inject.pwrite_errno;

	*at(&vm, 3) = 0;
	*at(&vm, 30) = 0;
	*injected = error;
	ck_assert_int_eq(ept_area_sync(vm.area), -error);
	ck_assert_uint_eq(area_info(&vm).dirty, 2 * PAGE);
	*at(&vm, 3) = 1; /* and still writable */
	*injected = 0;
	ck_assert_int_eq(ept_area_sync(vm.area), 0);
	ck_assert_uint_eq(area_info(&vm).dirty, 0);
	ck_assert(file_has(vm.fd, 3 * PAGE, (void *)at(&vm, 3), PAGE));
	ck_assert(file_has(vm.fd, 30 * PAGE, (void *)at(&vm, 30), PAGE));
	ept_space_stop(vm.space);
	assert_faults(&vm, EPT_CASE_SHARED_MKWRITE, 0);
	vm_destroy(&vm);
}
END_TEST

/*
 * After fdatasync failed the host may hold a page, call it clean and not have it
 * on disk: the next sync must not take the file's word for it (fsync(2)).
 */
START_TEST(failed_fdatasync_is_not_forgotten)
{
	const struct ept_config configs[] = {
	    {.vm_name = "test", .log = true, .vcpus = 1},
	    {.vm_name = "test", .log = true, .vcpus = 1},
	    {.vm_name = "test", .log = true, .engine = EPT_ENGINE_KERNEL, .vcpus = 1},
	};
	struct vm vm;

	vm_without_atomic_protect = _i == 1;
	vm = vm_file_with(&configs[_i], 64 * PAGE, EPT_FILE_SHARED);
	*at(&vm, 3) = 0;
	*at(&vm, 30) = 0;
	inject_set(fdatasync_errno, EIO);
	ck_assert_int_eq(ept_area_sync(vm.area), -EIO);
	ck_assert_int_eq(ept_area_sync(vm.area), -EIO);
	ck_assert_uint_eq(inject_get(bytes_written), 4 * PAGE);
	inject_set(fdatasync_errno, 0);
	ck_assert_int_eq(ept_area_sync(vm.area), 0);
	ck_assert_uint_eq(inject_get(bytes_written), 6 * PAGE);
	ck_assert_int_eq(ept_area_sync(vm.area), 0);
	ck_assert_uint_eq(inject_get(bytes_written), 6 * PAGE);
	vm_destroy(&vm);
}
END_TEST

START_TEST(shrunk_file_is_not_grown_back)
{
	struct vm vm = shared(64 * PAGE, true);
	struct stat st;

	*at(&vm, 3) = 0;
	*at(&vm, 60) = 0;
	ck_assert_int_eq(ftruncate(vm.fd, 10 * PAGE), 0);
	ck_assert_int_eq(ept_area_sync(vm.area), -EIO);
	ck_assert_int_eq(fstat(vm.fd, &st), 0);
	ck_assert_int_eq(st.st_size, 10 * PAGE);
	ck_assert_uint_eq(area_info(&vm).dirty, 2 * PAGE);
	ck_assert_ptr_nonnull(strstr(ept_space_failure(vm.space)->message, "shrank from 262144"));
	vm_destroy(&vm);
}
END_TEST

START_TEST(sync_after_stop)
{
	struct vm vm = shared(64 * PAGE, true);

	*at(&vm, 3) = 0;
	ept_space_stop(vm.space);
	ck_assert_int_eq(ept_area_sync(vm.area), 0);
	ck_assert(file_has(vm.fd, 3 * PAGE, (uint8_t[]){0}, 1));
	vm_destroy(&vm);
}
END_TEST

struct writer {
	struct vm *vm;
	bool stop;
	uint64_t wrote; /* the last value that is surely in memory */
};

/* Counts up in every page; a sync must catch at least what was there when it began. */
static void *count_up(void *arg)
{
	struct writer *w = arg;

	for (uint64_t n = 1; !__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE); n++) {
		for (uint64_t page = 0; page < 32; page++)
			__atomic_store_n((uint64_t *)(w->vm->hva + page * PAGE), n,
					 __ATOMIC_RELAXED);
		__atomic_store_n(&w->wrote, n, __ATOMIC_RELEASE);
	}
	return NULL;
}

START_TEST(sync_while_the_guest_writes)
{
	struct vm vm = shared(32 * PAGE, _i);
	struct writer w = {.vm = &vm};
	pthread_t guest;

	pthread_create(&guest, NULL, count_up, &w);
	for (int round = 0; round < 30; round++) {
		uint64_t before = __atomic_load_n(&w.wrote, __ATOMIC_ACQUIRE);

		ck_assert_int_eq(ept_area_sync(vm.area), 0);
		for (uint64_t page = 0; page < 32 && before; page++) {
			uint64_t on_disk = 0;

			ck_assert_int_eq(pread(vm.fd, &on_disk, 8, page * PAGE), 8);
			ck_assert_uint_ge(on_disk, before);
		}
	}
	__atomic_store_n(&w.stop, true, __ATOMIC_RELEASE);
	pthread_join(guest, NULL);
	ck_assert_int_eq(ept_area_sync(vm.area), 0);
	ck_assert(file_has(vm.fd, 0, vm.hva, 32 * PAGE));
	vm_destroy(&vm);
}
END_TEST

Suite *suite_uffd_sync(void)
{
	Suite *suite = suite_create("ept on userfaultfd: write-back");
	TCase *tc = tcase_create("sync");

	tcase_set_timeout(tc, 30);
	tcase_add_loop_test(tc, write_sync_write_sync, 0, 2);
	tcase_add_loop_test(tc, what_was_only_read_is_not_written, 0, 2);
	tcase_add_test(tc, what_kvm_asked_for_is_compared);
	tcase_add_test(tc, tail_of_the_file_is_not_extended);
	tcase_add_loop_test(tc, failed_sync_keeps_pages_dirty, 0, 2);
	tcase_add_loop_test(tc, failed_fdatasync_is_not_forgotten, 0, 3);
	tcase_add_test(tc, shrunk_file_is_not_grown_back);
	tcase_add_test(tc, sync_after_stop);
	tcase_add_loop_test(tc, sync_while_the_guest_writes, 0, 2);
	suite_add_tcase(suite, tc);
	return suite;
}
