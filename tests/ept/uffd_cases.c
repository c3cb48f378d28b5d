/* Every case that an event can end as, driven by a touch, with its effect checked. */
#include "tests/ept/uffd_suites.h"
#include "tests/ept/util.h"

static volatile char *at(const struct vm *vm, uint64_t page)
{
	return vm->hva + page * PAGE;
}

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
	int fd = temp_file(64 * PAGE);
	struct vm vm = vm_file(fd, 0, 64 * PAGE, EPT_FILE_COW);

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
	close(fd);
}
END_TEST

START_TEST(file_cow)
{
	int fd = temp_file(64 * PAGE);
	struct vm vm = vm_file(fd, 0, 64 * PAGE, EPT_FILE_COW);

	at(&vm, 21)[5] = 0;
	ck_assert(has_pattern(at(&vm, 21), 21 * PAGE, 5));
	ck_assert_int_eq(at(&vm, 21)[5], 0);
	ck_assert(has_pattern(at(&vm, 21) + 6, 21 * PAGE + 6, PAGE - 6));
	ept_space_stop(vm.space);
	assert_faults(&vm, EPT_CASE_FILE_COW, 1);
	ck_assert_uint_eq(events(vm.space), 1);
	ck_assert_uint_eq(inject_get(bytes_read), PAGE);
	ck_assert(file_has(fd, 21 * PAGE + 5, (uint8_t[]){pattern_byte(21 * PAGE + 5)}, 1));
	vm_destroy(&vm);
	close(fd);
}
END_TEST

START_TEST(file_wp)
{
	int fd = temp_file(64 * PAGE);
	struct vm vm = vm_file(fd, 0, 64 * PAGE, EPT_FILE_COW);

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
	ck_assert(file_has(fd, 9, (uint8_t[]){pattern_byte(9)}, 1));
	vm_destroy(&vm);
	close(fd);
}
END_TEST

START_TEST(read_only_file)
{
	int fd = temp_file(64 * PAGE);
	struct vm vm = vm_file(fd, 0, 64 * PAGE, EPT_FILE_RO);
	struct ept_slot slot;

	ept_space_slots(vm.space, &slot, 1);
	ck_assert(slot.read_only);
	ck_assert(has_pattern(at(&vm, 0), 0, 64 * PAGE));
	ck_assert_int_eq(ept_stray(vm.space, GPA(PAGE), EPT_WRITE), EPT_CASE_RO_WRITE);
	ck_assert_int_eq(ept_write(vm.space, GPA(PAGE), "x", 1, EPT_ORIGIN_DEVICE), -EFAULT);
	ept_space_stop(vm.space);
	assert_faults(&vm, EPT_CASE_FILE_READ, 4);
	assert_faults(&vm, EPT_CASE_RO_WRITE, 2);
	ck_assert(has_pattern(at(&vm, 1), PAGE, PAGE));
	/* A stray access is counted, but nothing sent it as an event. */
	ck_assert_uint_eq(events(vm.space), 4);
	ept_space_destroy(vm.space);
	close(fd);
}
END_TEST

START_TEST(shared_read_then_write)
{
	int fd = temp_file(64 * PAGE);
	struct vm vm = vm_file(fd, 0, 64 * PAGE, EPT_FILE_SHARED);
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
	close(fd);
}
END_TEST

START_TEST(shared_write)
{
	int fd = temp_file(64 * PAGE);
	struct vm vm = vm_file(fd, 0, 64 * PAGE, EPT_FILE_SHARED);

	at(&vm, 4)[1] = 0;
	at(&vm, 4)[2] = 0;
	ck_assert(has_pattern(at(&vm, 4) + 3, 4 * PAGE + 3, PAGE - 3));
	ept_space_stop(vm.space);
	assert_faults(&vm, EPT_CASE_SHARED_WRITE, 1);
	ck_assert_uint_eq(events(vm.space), 1);
	ck_assert_uint_eq(area_info(&vm).dirty, PAGE);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

/* Reclaim may drop the host's entry for a shared page; the mirror does not hear of it. */
START_TEST(spurious_puts_a_dropped_entry_back)
{
	int fd = temp_file(64 * PAGE);
	struct vm vm = vm_file(fd, 0, 64 * PAGE, EPT_FILE_SHARED);

	at(&vm, 4)[1] = 0;
	ck_assert_int_eq(ept_install_drop(NULL, vm.hva, 64 * PAGE), 0);
	ck_assert_int_eq(at(&vm, 4)[1], 0);
	at(&vm, 4)[2] = 0;
	ept_space_stop(vm.space);
	assert_faults(&vm, EPT_CASE_SPURIOUS, 1);
	ck_assert_uint_eq(events(vm.space), 2);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

/* Writing was granted and nobody wrote: the host's entry is the cached page's, and can go. */
START_TEST(spurious_puts_an_unwritten_private_page_back)
{
	int fd = temp_file(64 * PAGE);
	struct vm vm = vm_file(fd, 0, 64 * PAGE, EPT_FILE_COW);
	struct iovec iov;

	ck_assert(has_pattern(at(&vm, 4), 4 * PAGE, PAGE));
	ck_assert_int_eq(
	    ept_map(vm.space, GPA(4 * PAGE), PAGE, EPT_WRITE, EPT_ORIGIN_DEVICE, &iov, 1), 1);
	ck_assert_int_eq(ept_install_drop(NULL, vm.hva + 4 * PAGE, PAGE), 0);
	ck_assert(has_pattern(at(&vm, 4), 4 * PAGE, PAGE));
	*at(&vm, 4) = 0;
	ck_assert(file_has(fd, 4 * PAGE, (uint8_t[]){pattern_byte(4 * PAGE)}, 1));
	ept_space_stop(vm.space);
	assert_faults(&vm, EPT_CASE_SPURIOUS, 1);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

/* A clean page put back in two steps may have been written in between: it counts as written. */
START_TEST(a_clean_page_put_back_is_tracked)
{
	int fd = temp_file(64 * PAGE);
	struct vm vm;

	vm_without_atomic_protect = !_i;
	vm = vm_file(fd, 0, 64 * PAGE, EPT_FILE_SHARED);
	*at(&vm, 4) = 0;
	ck_assert_int_eq(ept_area_sync(vm.area), 0);
	ck_assert_int_eq(ept_install_drop(NULL, vm.hva + 4 * PAGE, PAGE), 0);
	ck_assert_int_eq(*at(&vm, 4), 0);
	ck_assert_uint_eq(area_info(&vm).dirty, vm.space->installer.atomic_protect ? 0 : PAGE);
	*at(&vm, 4) = 2;
	ck_assert_int_eq(ept_area_sync(vm.area), 0);
	ck_assert(file_has(fd, 4 * PAGE, (uint8_t[]){2}, 1));
	vm_destroy(&vm);
	close(fd);
}
END_TEST

START_TEST(discard_reads_as_zero)
{
	struct vm vm = vm_anon(2048 * PAGE);

	for (int page = 500; page < 530; page++)
		*at(&vm, page) = 1;
	discard(&vm, 501, 20);
	ck_assert_uint_eq(area_info(&vm).resident, 10 * PAGE);
	ck_assert_int_eq(*at(&vm, 500), 1);
	ck_assert_int_eq(*at(&vm, 521), 1);
	for (int page = 501; page < 521; page++)
		ck_assert_int_eq(*at(&vm, page), 0);
	*at(&vm, 501) = 2;
	ept_space_stop(vm.space);
	assert_faults(&vm, EPT_CASE_ANON_READ, 20);
	assert_faults(&vm, EPT_CASE_ANON_WP, 1);
	ck_assert_uint_eq(area_info(&vm).resident, 11 * PAGE);
	vm_destroy(&vm);
}
END_TEST

/* RAM, a file in the middle of it, a hole, RAM: by handlers, by the host kernel, by both. */
START_TEST(discard_anonymous_parts)
{
	static const enum ept_engine engines[] = {EPT_ENGINE_HANDLER, EPT_ENGINE_KERNEL,
						  EPT_ENGINE_AUTO};
	struct ept_config config = one_thread;
	struct ept_object *obj;
	struct ept_space *space;
	int fd = temp_file(4 * PAGE);
	uint64_t given;
	char byte = 1;

	config.engine = engines[_i];
	ck_assert_int_eq(ept_space_create(&config, &space), 0);
	ck_assert_int_eq(ept_area_add(space, "low", GPA(0), 1000 * PAGE, NULL, NULL), 0);
	ck_assert_int_eq(ept_object_file(fd, "f", 0, 4 * PAGE, EPT_FILE_COW, &obj), 0);
	ck_assert_int_eq(ept_area_add(space, "file", GPA(10 * PAGE), 4 * PAGE, obj, NULL), 0);
	ept_object_put(obj);
	ck_assert_int_eq(ept_area_add(space, "high", GPA(2000 * PAGE), 100 * PAGE, NULL, NULL), 0);
	ck_assert_int_eq(ept_space_start(space), 0);
	for (int i = 0; i < 1000; i += 3)
		ck_assert_int_eq(ept_write(space, GPA(i * PAGE), "x", 1, EPT_ORIGIN_DEVICE), 0);
	ck_assert_int_eq(ept_discard_anonymous(space, GPA(3 * PAGE), 2047 * PAGE, &given), 0);
	ck_assert_uint_eq(given, (1000 - 3 - 4 + 50) * PAGE);
	for (int i = 0; i < 1000; i += 3) {
		bool kept = i == 0 || i == 12;

		ck_assert_int_eq(ept_read(space, GPA(i * PAGE), &byte, 1, EPT_ORIGIN_DEVICE), 0);
		ck_assert_int_eq(byte, kept ? 'x' : 0);
	}
	ck_assert_int_eq(ept_discard_anonymous(space, GPA(5000 * PAGE), PAGE, &given), 0);
	ck_assert_uint_eq(given, 0);
	ck_assert_int_eq(ept_discard_anonymous(space, GPA(1), PAGE, &given), -EINVAL);
	ck_assert_int_eq(ept_discard_anonymous(space, GPA(PAGE), -PAGE, &given), -EINVAL);
	ept_space_stop(space);
	ck_assert_int_eq(ept_discard_anonymous(space, GPA(0), PAGE, &given), -ESHUTDOWN);
	ept_space_destroy(space);
	close(fd);
}
END_TEST

/* What the host kernel can map as it is goes to it; only where the engine is left to us. */
START_TEST(files_by_the_host_kernel)
{
	static const struct {
		enum ept_engine engine;
		uint64_t offset;
		enum ept_file_mode mode;
		enum ept_engine becomes;
	} files[] = {
	    {EPT_ENGINE_AUTO, PAGE, EPT_FILE_COW, EPT_ENGINE_KERNEL},
	    {EPT_ENGINE_AUTO, PAGE, EPT_FILE_RO, EPT_ENGINE_KERNEL},
	    {EPT_ENGINE_AUTO, 512, EPT_FILE_COW, EPT_ENGINE_HANDLER},
	    {EPT_ENGINE_AUTO, PAGE, EPT_FILE_SHARED, EPT_ENGINE_HANDLER},
	    {EPT_ENGINE_HANDLER, PAGE, EPT_FILE_COW, EPT_ENGINE_HANDLER},
	};
	struct ept_config config = one_thread;
	struct ept_area_info info;
	struct ept_object *obj;
	struct ept_space *space;
	struct ept_area *area;
	int fd = temp_file(8 * PAGE);
	char bytes[100];

	config.engine = files[_i].engine;
	ck_assert_int_eq(ept_space_create(&config, &space), 0);
	ck_assert_int_eq(ept_object_file(fd, "f", files[_i].offset, 4 * PAGE, files[_i].mode, &obj),
			 0);
	ck_assert_int_eq(ept_area_add(space, "f", GPA(0), 4 * PAGE, obj, &area), 0);
	ept_object_put(obj);
	ept_area_by_kernel(area);
	ck_assert_int_eq(ept_space_start(space), 0);
	ept_area_info(area, &info);
	ck_assert_int_eq(info.engine, files[_i].becomes);
	ck_assert_int_eq(ept_read(space, GPA(PAGE + 7), bytes, sizeof(bytes), EPT_ORIGIN_DEVICE),
			 0);
	ck_assert(has_pattern(bytes, files[_i].offset + PAGE + 7, sizeof(bytes)));
	ept_space_stop(space);
	ept_space_destroy(space);
	close(fd);
}
END_TEST

START_TEST(device_and_guest_see_one_memory)
{
	struct vm vm = vm_anon(1024 * PAGE);
	char text[3 * PAGE], back[3 * PAGE];

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)pattern_byte(i);
	ck_assert_int_eq(
	    ept_write(vm.space, GPA(511 * PAGE + 5), text, sizeof(text), EPT_ORIGIN_DEVICE), 0);
	ck_assert(has_pattern(at(&vm, 511) + 5, 0, sizeof(text)));
	ck_assert_uint_eq(events(vm.space), 0);
	at(&vm, 700)[0] = 'x';
	ck_assert_int_eq(ept_read(vm.space, GPA(700 * PAGE), back, 1, EPT_ORIGIN_DEVICE), 0);
	ck_assert_int_eq(back[0], 'x');
	ept_space_stop(vm.space);
	ck_assert_uint_eq(case_stats(&vm, EPT_CASE_ANON_WRITE).by_origin[EPT_ORIGIN_DEVICE], 4);
	ck_assert_uint_eq(case_stats(&vm, EPT_CASE_ANON_WRITE).by_origin[EPT_ORIGIN_VCPU], 1);
	ck_assert_int_eq(ept_read(vm.space, GPA(0), back, 1, EPT_ORIGIN_DEVICE), -ESHUTDOWN);
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
	tcase_add_loop_test(tc, a_clean_page_put_back_is_tracked, 0, 2);
	tcase_add_test(tc, discard_reads_as_zero);
	tcase_add_loop_test(tc, files_by_the_host_kernel, 0, 5);
	tcase_add_loop_test(tc, discard_anonymous_parts, 0, 3);
	tcase_add_test(tc, device_and_guest_see_one_memory);
	suite_add_tcase(suite, tc);
	return suite;
}
