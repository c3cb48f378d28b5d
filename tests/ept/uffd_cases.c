/* Every case that an event can end as, driven by a touch, with its effect checked. */
#include <poll.h>
#include <pthread.h>

#include "tests/ept/uffd_suites.h"
#include "tests/ept/util.h"

START_TEST(anon_read)
{
	struct vm vm = vm_anon(64 * PAGE);

	ck_assert_int_eq(*at(&vm, 3), 0);
	ck_assert_int_eq(*at(&vm, 3), 0);
	ept_space_stop(vm.space);
	assert_faults(&vm, EPT_CASE_ANON_READ, 1);
	ck_assert_uint_eq(events(vm.space), 1);
	ck_assert_uint_eq(area_info(&vm).resident, 0);
	vm_destroy(&vm);
}
END_TEST

START_TEST(anon_write)
{
	struct vm vm = vm_anon(64 * PAGE);

	*at(&vm, 3) = 7;
	ck_assert_int_eq(*at(&vm, 3), 7);
	ck_assert_int_eq(at(&vm, 3)[1], 0);
	ept_space_stop(vm.space);
	assert_faults(&vm, EPT_CASE_ANON_WRITE, 1);
	ck_assert_uint_eq(events(vm.space), 1);
	ck_assert_uint_eq(area_info(&vm).resident, PAGE);
	vm_destroy(&vm);
}
END_TEST

START_TEST(anon_wp)
{
	struct vm vm = vm_anon(64 * PAGE);

	ck_assert_int_eq(*at(&vm, 3), 0);
	*at(&vm, 3) = 7;
	*at(&vm, 3) = 8;
	ck_assert_int_eq(*at(&vm, 3), 8);
	ept_space_stop(vm.space);
	assert_faults(&vm, EPT_CASE_ANON_READ, 1);
	assert_faults(&vm, EPT_CASE_ANON_WP, 1);
	ck_assert_uint_eq(events(vm.space), 2);
	ck_assert_uint_eq(area_info(&vm).resident, PAGE);
	vm_destroy(&vm);
}
END_TEST

START_TEST(anon_read_without_zero_page)
{
	struct ept_config config = one_thread;
	struct vm vm;

	config.no_zero_page = true;
	vm = vm_create(&config, -1, 0, 64 * PAGE, EPT_FILE_COW);
	ck_assert_int_eq(*at(&vm, 3), 0);
	*at(&vm, 3) = 7;
	ept_space_stop(vm.space);
	assert_faults(&vm, EPT_CASE_ANON_READ, 1);
	ck_assert_uint_eq(events(vm.space), 1);
	ck_assert_uint_eq(area_info(&vm).resident, PAGE);
	vm_destroy(&vm);
}
END_TEST

START_TEST(file_read_and_fault_around)
{
	struct vm vm = vm_file(64 * PAGE, EPT_FILE_COW);

	ck_assert(has_pattern(at(&vm, 21), 21 * PAGE, PAGE));
	ck_assert(has_pattern(at(&vm, 16), 16 * PAGE, 16 * PAGE)); /* the window: no more faults */
	ept_space_stop(vm.space);
	assert_faults(&vm, EPT_CASE_FILE_READ, 1);
	ck_assert_uint_eq(events(vm.space), 1);
	ck_assert_uint_eq(case_stats(&vm, EPT_CASE_FILE_READ).installed, 16);
	ck_assert_uint_eq(case_stats(&vm, EPT_CASE_FILE_READ).around, 15);
	ck_assert_uint_eq(case_stats(&vm, EPT_CASE_FILE_READ).major, 1);
	ck_assert_uint_eq(case_stats(&vm, EPT_CASE_FILE_READ).bytes_read, 16 * PAGE);
	ck_assert_uint_eq(area_info(&vm).file_read, 16 * PAGE);
	ck_assert_uint_eq(area_info(&vm).resident, 16 * PAGE);
	vm_destroy(&vm);
}
END_TEST

START_TEST(file_cow)
{
	struct vm vm = vm_file(64 * PAGE, EPT_FILE_COW);

	at(&vm, 21)[5] = 0;
	ck_assert(has_pattern(at(&vm, 21), 21 * PAGE, 5));
	ck_assert_int_eq(at(&vm, 21)[5], 0);
	ck_assert(has_pattern(at(&vm, 21) + 6, 21 * PAGE + 6, PAGE - 6));
	ept_space_stop(vm.space);
	assert_faults(&vm, EPT_CASE_FILE_COW, 1);
	ck_assert_uint_eq(events(vm.space), 1);
	ck_assert_uint_eq(inject_get(bytes_read), PAGE);
	ck_assert(file_has(vm.fd, 21 * PAGE + 5, (uint8_t[]){pattern_byte(21 * PAGE + 5)}, 1));
	vm_destroy(&vm);
}
END_TEST

START_TEST(file_wp)
{
	struct vm vm = vm_file(64 * PAGE, EPT_FILE_COW);

	ck_assert(has_pattern(at(&vm, 0), 0, 16 * PAGE));
	for (int page = 0; page < 16; page++)
		at(&vm, page)[9] = 0;
	for (int page = 0; page < 16; page++) {
		ck_assert_int_eq(at(&vm, page)[9], 0);
		ck_assert(has_pattern(at(&vm, page) + 10, page * PAGE + 10, PAGE - 10));
	}
	ept_space_stop(vm.space);
	assert_faults(&vm, EPT_CASE_FILE_READ, 1);
	assert_faults(&vm, EPT_CASE_FILE_WP, 16);
	ck_assert_uint_eq(events(vm.space), 17);
	ck_assert_uint_eq(inject_get(bytes_read), 16 * PAGE);
	ck_assert(file_has(vm.fd, 9, (uint8_t[]){pattern_byte(9)}, 1));
	vm_destroy(&vm);
}
END_TEST

START_TEST(read_only_file)
{
	struct vm vm = vm_file(64 * PAGE, EPT_FILE_RO);
	struct ept_slot slot;

	ept_space_slots(vm.space, &slot, 1);
	ck_assert(slot.read_only);
	ck_assert(has_pattern(at(&vm, 0), 0, 64 * PAGE));
	ck_assert_int_eq(ept_stray(vm.space, GPA(PAGE), EPT_WRITE), EPT_CASE_RO_WRITE);
	ck_assert_int_eq(ept_write(vm.space, GPA(PAGE), "x", 1, EPT_ORIGIN_DEVICE), -EFAULT);
	ept_space_stop(vm.space);
	assert_faults(&vm, EPT_CASE_FILE_READ, 2); /* windows of 16 and of 48 pages */
	assert_faults(&vm, EPT_CASE_RO_WRITE, 2);
	ck_assert(has_pattern(at(&vm, 1), PAGE, PAGE));
	/* A stray access is counted, but nothing sent it as an event. */
	ck_assert_uint_eq(events(vm.space), 2);
	ept_space_destroy(vm.space);
	close(vm.fd);
}
END_TEST

START_TEST(shared_read_then_write)
{
	struct vm vm = vm_file(64 * PAGE, EPT_FILE_SHARED);
	/* Before Linux 6.4 what is mapped for reading counts as written. */
	bool atomic = vm.space->installer.atomic_protect;

	ck_assert(has_pattern(at(&vm, 0), 0, 16 * PAGE));
	ck_assert_uint_eq(area_info(&vm).dirty, atomic ? 0 : 16 * PAGE);
	at(&vm, 4)[1] = 0;
	ck_assert_int_eq(at(&vm, 4)[1], 0);
	ept_space_stop(vm.space);
	assert_faults(&vm, EPT_CASE_SHARED_READ, 1);
	assert_faults(&vm, atomic ? EPT_CASE_SHARED_MKWRITE : EPT_CASE_SPURIOUS, 1);
	ck_assert_uint_eq(events(vm.space), 2);
	ck_assert_uint_eq(area_info(&vm).dirty, atomic ? PAGE : 16 * PAGE);
	vm_destroy(&vm);
}
END_TEST

START_TEST(shared_write)
{
	struct vm vm = vm_file(64 * PAGE, EPT_FILE_SHARED);

	at(&vm, 4)[1] = 0;
	at(&vm, 4)[2] = 0;
	ck_assert(has_pattern(at(&vm, 4) + 3, 4 * PAGE + 3, PAGE - 3));
	ept_space_stop(vm.space);
	assert_faults(&vm, EPT_CASE_SHARED_WRITE, 1);
	ck_assert_uint_eq(events(vm.space), 1);
	ck_assert_uint_eq(area_info(&vm).dirty, PAGE);
	vm_destroy(&vm);
}
END_TEST

/* Reclaim may drop the host's entry for a shared page; the mirror does not hear of it. */
START_TEST(spurious_puts_a_dropped_entry_back)
{
	struct vm vm = vm_file(64 * PAGE, EPT_FILE_SHARED);

	at(&vm, 4)[1] = 0;
	ck_assert_int_eq(ept_install_drop(NULL, vm.hva, 64 * PAGE), 0);
	ck_assert_int_eq(at(&vm, 4)[1], 0);
	at(&vm, 4)[2] = 0;
	ept_space_stop(vm.space);
	assert_faults(&vm, EPT_CASE_SPURIOUS, 1);
	ck_assert_uint_eq(events(vm.space), 2);
	vm_destroy(&vm);
}
END_TEST

/* Writing was granted and nobody wrote: the host's entry is the cached page's, and can go. */
START_TEST(spurious_puts_an_unwritten_private_page_back)
{
	struct vm vm = vm_file(64 * PAGE, EPT_FILE_COW);
	struct iovec iov;

	ck_assert(has_pattern(at(&vm, 4), 4 * PAGE, PAGE));
	ck_assert_int_eq(
	    ept_map(vm.space, GPA(4 * PAGE), PAGE, EPT_WRITE, EPT_ORIGIN_DEVICE, &iov, 1), 1);
	ck_assert_int_eq(ept_install_drop(NULL, vm.hva + 4 * PAGE, PAGE), 0);
	ck_assert(has_pattern(at(&vm, 4), 4 * PAGE, PAGE));
	*at(&vm, 4) = 0;
	ck_assert(file_has(vm.fd, 4 * PAGE, (uint8_t[]){pattern_byte(4 * PAGE)}, 1));
	ept_space_stop(vm.space);
	assert_faults(&vm, EPT_CASE_SPURIOUS, 1);
	vm_destroy(&vm);
}
END_TEST

static void *write_one(void *hva)
{
	*(volatile char *)hva = 1;
	return NULL;
}

/* Taken away behind foal's back: the VM is stopped with the page's name, not busy for ever. */
START_TEST(a_lost_page_stops_the_vm)
{
	const struct ept_failure *failure;
	struct vm vm = vm_anon(64 * PAGE);
	struct pollfd failed = {.fd = ept_space_failure_fd(vm.space), .events = POLLIN};
	pthread_t guest;

	*at(&vm, 3) = 7;
	*at(&vm, 4) = 7;
	ck_assert_int_eq(ept_install_drop(NULL, vm.hva + 3 * PAGE, PAGE), 0);
	ck_assert_int_eq(pthread_create(&guest, NULL, write_one, vm.hva + 3 * PAGE), 0);
	ck_assert_int_eq(poll(&failed, 1, -1), 1);
	failure = ept_space_failure(vm.space);
	ck_assert_ptr_nonnull(failure);
	ck_assert_int_eq(failure->kase, EPT_CASE_SPURIOUS);
	ck_assert_uint_eq(failure->gpa.v & ~(PAGE - 1), 3 * PAGE);
	ck_assert_ptr_nonnull(strstr(failure->message, "0x3000 is lost"));
	ept_space_stop(vm.space);
	pthread_join(guest, NULL);
	assert_faults(&vm, EPT_CASE_SPURIOUS, 1000);
	vm_destroy(&vm);
}
END_TEST

/* Two wait, each for a page of its own: what comes in between is no reason to wait longer. */
START_TEST(lost_pages_stop_the_vm)
{
	struct vm vm = vm_anon(64 * PAGE);
	struct pollfd failed = {.fd = ept_space_failure_fd(vm.space), .events = POLLIN};
	pthread_t guests[2];

	for (size_t i = 0; i < 2; i++) {
		*at(&vm, 3 + i) = 7;
		ck_assert_int_eq(ept_install_drop(NULL, vm.hva + (3 + i) * PAGE, PAGE), 0);
	}
	for (size_t i = 0; i < 2; i++)
		ck_assert_int_eq(
		    pthread_create(&guests[i], NULL, write_one, vm.hva + (3 + i) * PAGE), 0);
	ck_assert_int_eq(poll(&failed, 1, -1), 1);
	ck_assert_int_eq(ept_space_failure(vm.space)->kase, EPT_CASE_SPURIOUS);
	ept_space_stop(vm.space);
	for (size_t i = 0; i < 2; i++)
		pthread_join(guests[i], NULL);
	vm_destroy(&vm);
}
END_TEST

/* The pages around @page are what their own bytes say, and a write to them is the guest's own. */
static void assert_own(const struct vm *vm, unsigned page, uint64_t resident)
{
	const struct ept_leaf *leaf = ept_mirror_find(&vm->space->mirror, GPA(0));

	ck_assert_int_eq(ept_pte_get(leaf, page), EPT_PTE_PRIVATE);
	ck_assert_int_eq(at(vm, page)[INJECT_SLIP_AT], INJECT_SLIPPED);
	ck_assert_uint_eq(area_info(vm).resident, resident);
	at(vm, page)[1] = 7;
	ck_assert_int_eq(at(vm, page)[1], 7);
	ck_assert_int_eq(at(vm, page)[INJECT_SLIP_AT], INJECT_SLIPPED);
	ck_assert_ptr_null(ept_space_failure(vm->space));
}

/* A write that comes before the zero page is protected: it is no zero page, to nobody. */
START_TEST(anon_written_before_it_is_protected)
{
	struct vm vm = vm_anon(64 * PAGE);

	inject_set(slip, true);
	ck_assert_int_eq(at(&vm, 4)[0], 0);
	inject_set(slip, false);
	assert_own(&vm, 4, PAGE);
	ck_assert_int_eq(at(&vm, 5)[0], 0);
	ck_assert_uint_eq(area_info(&vm).resident, PAGE);
	vm_destroy(&vm);
}
END_TEST

/* The same of a private file's pages, where the host maps and protects in two steps. */
START_TEST(private_file_written_before_it_is_protected)
{
	struct vm vm;

	vm_without_atomic_protect = true;
	vm = vm_file(64 * PAGE, EPT_FILE_COW);
	inject_set(slip, true);
	ck_assert(has_pattern(at(&vm, 4), 4 * PAGE, 1));
	inject_set(slip, false);
	for (unsigned page = 0; page < 16; page++)
		assert_own(&vm, page, 16 * PAGE);
	ck_assert(file_has(vm.fd, 4 * PAGE + INJECT_SLIP_AT,
			   (uint8_t[]){pattern_byte(4 * PAGE + INJECT_SLIP_AT)}, 1));
	ck_assert(has_pattern(at(&vm, 20), 20 * PAGE, PAGE));
	ck_assert_int_eq(ept_pte_get(ept_mirror_find(&vm.space->mirror, GPA(0)), 20), EPT_PTE_FILE);
	vm_destroy(&vm);
}
END_TEST

/* A clean page put back in two steps may have been written in between: it counts as written. */
START_TEST(a_clean_page_put_back_is_tracked)
{
	struct vm vm;

	vm_without_atomic_protect = !_i;
	vm = vm_file(64 * PAGE, EPT_FILE_SHARED);
	*at(&vm, 4) = 0;
	ck_assert_int_eq(ept_area_sync(vm.area), 0);
	ck_assert_int_eq(ept_install_drop(NULL, vm.hva + 4 * PAGE, PAGE), 0);
	ck_assert_int_eq(*at(&vm, 4), 0);
	ck_assert_uint_eq(area_info(&vm).dirty, vm.space->installer.atomic_protect ? 0 : PAGE);
	*at(&vm, 4) = 2;
	ck_assert_int_eq(ept_area_sync(vm.area), 0);
	ck_assert(file_has(vm.fd, 4 * PAGE, (uint8_t[]){2}, 1));
	vm_destroy(&vm);
}
END_TEST

Suite *suite_uffd_cases(void)
{
	Suite *suite = suite_create("ept on userfaultfd: cases");
	TCase *tc = tcase_create("cases");

	tcase_add_test(tc, anon_read);
	tcase_add_test(tc, anon_write);
	tcase_add_test(tc, anon_wp);
	tcase_add_test(tc, anon_read_without_zero_page);
	tcase_add_test(tc, file_read_and_fault_around);
	tcase_add_test(tc, file_cow);
	tcase_add_test(tc, file_wp);
	tcase_add_test(tc, read_only_file);
	tcase_add_test(tc, shared_read_then_write);
	tcase_add_test(tc, shared_write);
	tcase_add_test(tc, spurious_puts_a_dropped_entry_back);
	tcase_add_test(tc, spurious_puts_an_unwritten_private_page_back);
	tcase_add_test(tc, a_lost_page_stops_the_vm);
	tcase_add_test(tc, lost_pages_stop_the_vm);
	tcase_add_test(tc, anon_written_before_it_is_protected);
	tcase_add_test(tc, private_file_written_before_it_is_protected);
	tcase_add_loop_test(tc, a_clean_page_put_back_is_tracked, 0, 2);
	suite_add_tcase(suite, tc);
	return suite;
}
