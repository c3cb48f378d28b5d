/* Areas otherwise than by a guest's touch: discarded, left to the host kernel, read by devices. */
#include "ept/stats.h"
#include "tests/ept/uffd_suites.h"
#include "tests/ept/util.h"

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

/* What the host kernel can do as well goes to it; only where the engine is left to us. */
START_TEST(files_by_the_host_kernel)
{
	static const struct {
		enum ept_engine engine;
		uint64_t offset;
		enum ept_file_mode mode;
		enum ept_engine becomes;
		enum ept_io_policy on_io_error;
		uint64_t limit;
		enum ept_huge huge;
	} files[] = {
	    {EPT_ENGINE_AUTO, PAGE, EPT_FILE_COW, EPT_ENGINE_KERNEL, 0, 0, 0},
	    {EPT_ENGINE_AUTO, PAGE, EPT_FILE_RO, EPT_ENGINE_KERNEL, 0, 0, 0},
	    {EPT_ENGINE_AUTO, 512, EPT_FILE_COW, EPT_ENGINE_HANDLER, 0, 0, 0},
	    {EPT_ENGINE_AUTO, PAGE, EPT_FILE_SHARED, EPT_ENGINE_HANDLER, 0, 0, 0},
	    {EPT_ENGINE_HANDLER, PAGE, EPT_FILE_COW, EPT_ENGINE_HANDLER, 0, 0, 0},
	    {EPT_ENGINE_AUTO, PAGE, EPT_FILE_COW, EPT_ENGINE_HANDLER, 0, EPT_LIMIT_FLOOR, 0},
	    {EPT_ENGINE_AUTO, PAGE, EPT_FILE_COW, EPT_ENGINE_HANDLER, EPT_IO_POISON, 0, 0},
	    {EPT_ENGINE_AUTO, 0, EPT_FILE_COW, EPT_ENGINE_HANDLER, 0, 0, EPT_HUGE_ALWAYS},
	    {EPT_ENGINE_AUTO, PAGE, EPT_FILE_COW, EPT_ENGINE_KERNEL, 0, 0, EPT_HUGE_NEVER},
	};
	/* A whole 2 MiB, so that under EPT_HUGE_ALWAYS it is the area's own. */
	const uint64_t size = files[_i].huge == EPT_HUGE_ALWAYS ? EPT_LEAF_BYTES : 4 * PAGE;
	struct ept_config config = one_thread;
	struct ept_area_info info;
	struct ept_object *obj;
	struct ept_space *space;
	struct ept_area *area;
	int fd = temp_file(size + PAGE);
	char bytes[100];

	config.engine = files[_i].engine;
	config.on_io_error = files[_i].on_io_error;
	config.memory_limit = files[_i].limit;
	config.huge = files[_i].huge;
	ck_assert_int_eq(ept_space_create(&config, &space), 0);
	if (config.on_io_error == EPT_IO_POISON && !ept_space_can_poison(space)) {
		ept_space_destroy(space); /* Linux before 6.6: the default's rules */
		close(fd);
		return;
	}
	ck_assert_int_eq(ept_object_file(fd, "f", files[_i].offset, size, files[_i].mode, &obj), 0);
	ck_assert_int_eq(ept_area_add(space, "f", GPA(0), size, obj, &area), 0);
	ept_object_put(obj);
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

Suite *suite_uffd_areas(void)
{
	Suite *suite = suite_create("ept on userfaultfd: areas");
	TCase *tc = tcase_create("areas");

	tcase_add_test(tc, discard_reads_as_zero);
	tcase_add_loop_test(tc, discard_anonymous_parts, 0, 3);
	tcase_add_loop_test(tc, files_by_the_host_kernel, 0, 9);
	tcase_add_test(tc, device_and_guest_see_one_memory);
	suite_add_tcase(suite, tc);
	return suite;
}
