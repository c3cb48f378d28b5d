/* Areas, slots and the life of a space. */
#include "ept/stats.h"
#include "tests/ept/unit_suites.h"
#include "tests/ept/util.h"

#include <fcntl.h>

static struct ept_space *new_space(void)
{
	struct ept_space *space;

	ck_assert_int_eq(ept_space_create(&one_thread, &space), 0);
	return space;
}

static struct ept_object *new_object(uint64_t pages, enum ept_file_mode mode)
{
	int fd = temp_file(pages * PAGE);
	struct ept_object *obj;

	ck_assert_int_eq(ept_object_file(fd, "file", 0, pages * PAGE, mode, &obj), 0);
	close(fd);
	return obj;
}

static int add(struct ept_space *space, const char *name, uint64_t page, uint64_t pages,
	       struct ept_object *obj)
{
	return ept_area_add(space, name, GPA(page * PAGE), pages * PAGE, obj, NULL);
}

static void assert_area(struct ept_space *space, size_t i, const char *name, uint64_t page,
			uint64_t pages)
{
	struct ept_area_info info;

	ept_area_info(ept_area_at(space, i), &info);
	ck_assert_str_eq(info.name, name);
	ck_assert_uint_eq(info.gpa.v, page * PAGE);
	ck_assert_uint_eq(info.size, pages * PAGE);
}

START_TEST(file_splits_anonymous)
{
	struct ept_space *space = new_space();
	struct ept_object *obj = new_object(4, EPT_FILE_COW);

	ck_assert_int_eq(add(space, "ram", 0, 100, NULL), 0);
	ck_assert_int_eq(add(space, "k", 10, 4, obj), 0);
	ck_assert_uint_eq(ept_area_count(space), 3);
	assert_area(space, 0, "ram", 0, 10);
	assert_area(space, 1, "k", 10, 4);
	assert_area(space, 2, "ram", 14, 86);
	ck_assert_ptr_eq(ept_area_find(space, 10 * PAGE - 1), ept_area_at(space, 0));
	ck_assert_ptr_eq(ept_area_find(space, 10 * PAGE), ept_area_at(space, 1));
	ck_assert_ptr_eq(ept_area_find(space, 14 * PAGE), ept_area_at(space, 2));
	ck_assert_ptr_null(ept_area_find(space, 100 * PAGE));
	ept_object_put(obj);
	ept_space_destroy(space);
}
END_TEST

START_TEST(file_at_the_edges_and_over_all)
{
	struct ept_space *space = new_space();
	struct ept_object *obj = new_object(8, EPT_FILE_COW);

	ck_assert_int_eq(add(space, "ram", 4, 8, NULL), 0);
	ck_assert_int_eq(add(space, "head", 4, 2, obj), 0);
	ck_assert_int_eq(add(space, "tail", 10, 4, obj), 0);
	ck_assert_uint_eq(ept_area_count(space), 3);
	assert_area(space, 0, "head", 4, 2);
	assert_area(space, 1, "ram", 6, 4);
	assert_area(space, 2, "tail", 10, 4);
	ck_assert_int_eq(add(space, "all", 6, 4, obj), 0);
	ck_assert_uint_eq(ept_area_count(space), 3);
	assert_area(space, 1, "all", 6, 4);
	ept_object_put(obj);
	ept_space_destroy(space);
}
END_TEST

START_TEST(refused_areas)
{
	struct ept_space *space = new_space();
	struct ept_object *obj = new_object(4, EPT_FILE_COW);

	ck_assert_int_eq(add(space, "f", 10, 4, obj), 0);
	ck_assert_int_eq(add(space, "f", 9, 2, obj), -EEXIST);
	ck_assert_int_eq(add(space, "ram", 13, 2, NULL), -EEXIST);
	ck_assert_int_eq(add(space, "f", 20, 5, obj), -EINVAL); /* past the object */
	ck_assert_int_eq(add(space, "z", 20, 0, NULL), -EINVAL);
	ck_assert_int_eq(ept_area_add(space, "odd", GPA(1), PAGE, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ept_area_add(space, "odd", GPA(0), PAGE + 1, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ept_area_add(space, "far", GPA(1UL << EPT_GPA_BITS), PAGE, NULL, NULL),
			 -ERANGE);
	ck_assert_int_eq(ept_area_add(space, "wrap", GPA(PAGE), -PAGE, NULL, NULL), -ERANGE);
	/* A range that ends exactly at the end of memory is one. */
	ck_assert_int_eq(
	    ept_area_add(space, "last", GPA((1UL << EPT_GPA_BITS) - PAGE), PAGE, NULL, NULL), 0);
	ck_assert_uint_eq(ept_area_count(space), 2);
	ck_assert_int_eq(ept_space_start(space), 0);
	ck_assert_int_eq(add(space, "late", 30, 1, NULL), -EINVAL);
	ck_assert_int_eq(ept_space_start(space), -EINVAL);
	ept_object_put(obj);
	ept_space_destroy(space);
}
END_TEST

START_TEST(slots)
{
	struct ept_space *space = new_space();
	struct ept_object *ro = new_object(4, EPT_FILE_RO), *cow = new_object(4, EPT_FILE_COW);
	struct ept_slot slot[8];

	ck_assert_int_eq(add(space, "ram", 1, 99, NULL), 0);
	ck_assert_int_eq(add(space, "rom", 10, 4, ro), 0);
	ck_assert_int_eq(add(space, "k", 20, 4, cow), 0);
	ck_assert_int_eq(add(space, "high", 1 << 20, 10, NULL), 0);
	ck_assert_int_eq(ept_space_start(space), 0);
	ck_assert_uint_eq(ept_space_slots(space, slot, 1), 4);
	ck_assert_uint_eq(ept_space_slots(space, slot, 8), 4);
	ck_assert_uint_eq(slot[0].gpa.v, PAGE);
	ck_assert_uint_eq(slot[0].size, 9 * PAGE);
	ck_assert(!slot[0].read_only && slot[1].read_only);
	ck_assert_uint_eq(slot[1].size, 4 * PAGE);
	ck_assert_uint_eq(slot[2].gpa.v, 14 * PAGE);
	ck_assert_uint_eq(slot[2].size, 86 * PAGE); /* ram, k and ram again */
	ck_assert_uint_eq(slot[3].gpa.v, PAGE << 20);
	for (int i = 0; i < 4; i++) /* huge pages stay possible */
		ck_assert_uint_eq((uintptr_t)slot[i].hva % EPT_LEAF_BYTES,
				  slot[i].gpa.v % EPT_LEAF_BYTES);
	ept_object_put(ro);
	ept_object_put(cow);
	ept_space_destroy(space);
}
END_TEST

START_TEST(map_merges_and_limits)
{
	struct ept_space *space = new_space();
	struct ept_object *ro = new_object(4, EPT_FILE_RO);
	struct iovec iov[2];

	ck_assert_int_eq(add(space, "ram", 0, 8, NULL), 0);
	ck_assert_int_eq(add(space, "ram2", 8, 8, NULL), 0);
	ck_assert_int_eq(add(space, "rom", 16, 4, ro), 0);
	ck_assert_int_eq(ept_space_start(space), 0);
#define MAP(gpa, len, access, max) \
	ept_map(space, GPA(gpa), len, access, EPT_ORIGIN_DEVICE, iov, max)
	ck_assert_int_eq(MAP(PAGE + 1, 14 * PAGE, EPT_WRITE, 1), 1);
	ck_assert_uint_eq(iov[0].iov_len, 14 * PAGE);
	ck_assert_int_eq(MAP(15 * PAGE, 2 * PAGE, EPT_READ, 2), 2);
	ck_assert_int_eq(MAP(15 * PAGE, 2 * PAGE, EPT_READ, 1), -E2BIG);
	ck_assert_int_eq(MAP(0, 0, EPT_READ, 0), 0);
	ck_assert_int_eq(MAP(16 * PAGE, 4 * PAGE, EPT_READ, 1), 1); /* to the very end */
	ck_assert_int_eq(MAP(19 * PAGE, PAGE + 1, EPT_READ, 2), -EFAULT);
	ck_assert_int_eq(MAP(15 * PAGE, 2 * PAGE, EPT_WRITE, 2), -EFAULT);
	ck_assert_int_eq(MAP(PAGE, UINT64_MAX, EPT_READ, 2), -EFAULT);
	ck_assert_int_eq(MAP(UINT64_MAX, 1, EPT_READ, 2), -EFAULT);
#undef MAP
	ept_object_put(ro);
	ept_space_destroy(space);
}
END_TEST

START_TEST(refused_configs)
{
	struct ept_space *space;
	struct ept_config config = one_thread;

	config.vcpus = 0;
	ck_assert_int_eq(ept_space_create(&config, &space), -EINVAL);
	config.vcpus = EPT_MAX_VCPUS + 1;
	ck_assert_int_eq(ept_space_create(&config, &space), -EINVAL);
	config.vcpus = 1;
	config.fault_around = 3;
	ck_assert_int_eq(ept_space_create(&config, &space), -EINVAL);
	config.fault_around = 1024;
	ck_assert_int_eq(ept_space_create(&config, &space), -EINVAL);
}
END_TEST

START_TEST(refused_objects)
{
	int fd = temp_file(4 * PAGE), pipes[2], ro = open("/etc/passwd", O_RDONLY);
	struct ept_object *obj;

#define OBJECT(fd, offset, length, mode) ept_object_file(fd, "f", offset, length, mode, &obj)
	ck_assert_int_eq(OBJECT(fd, 0, 0, EPT_FILE_RO), -EINVAL);
	ck_assert_int_eq(OBJECT(fd, 1, 4 * PAGE, EPT_FILE_RO), -EINVAL);
	ck_assert_int_eq(OBJECT(fd, 5 * PAGE, 1, EPT_FILE_RO), -EINVAL);
	ck_assert_int_eq(OBJECT(fd, UINT64_MAX, 2, EPT_FILE_RO), -EINVAL);
	ck_assert_int_eq(OBJECT(fd, 1, UINT64_MAX, EPT_FILE_RO), -EINVAL);
	ck_assert_int_eq(OBJECT(ro, 0, 1, EPT_FILE_SHARED), -EACCES);
	ck_assert_int_eq(OBJECT(-1, 0, 1, EPT_FILE_RO), -EBADF);
	ck_assert_int_eq(pipe(pipes), 0);
	ck_assert_int_eq(OBJECT(pipes[0], 0, 1, EPT_FILE_RO), -EINVAL);
	ck_assert_int_eq(fcntl(fd, F_SETFL, O_APPEND), 0);
	ck_assert_int_eq(OBJECT(fd, 0, 1, EPT_FILE_SHARED), -EINVAL);
#undef OBJECT
	close(fd);
}
END_TEST

Suite *suite_areas(void)
{
	Suite *suite = suite_create("ept: areas");
	TCase *tc = tcase_create("areas");

	tcase_add_test(tc, file_splits_anonymous);
	tcase_add_test(tc, file_at_the_edges_and_over_all);
	tcase_add_test(tc, refused_areas);
	tcase_add_test(tc, slots);
	tcase_add_test(tc, map_merges_and_limits);
	tcase_add_test(tc, refused_configs);
	tcase_add_test(tc, refused_objects);
	suite_add_tcase(suite, tc);
	return suite;
}
