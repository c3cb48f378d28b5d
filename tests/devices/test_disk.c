/* The disk modes: what is read, where what is written goes, what is counted. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/devices/disk_rig.h"
#include "tests/devices/rig.h"

START_TEST(read_only)
{
	disk_use(DISK_RO);
	disk_expect(0, 20, -1);
	ck_assert_int_eq(disk_put(0, 512, 1), -EROFS);
	ck_assert_int_eq(disk_discard(disk, 0, 4096), -EROFS);
	ck_assert_int_eq(disk_write_zeroes(disk, 0, 4096, false), -EROFS);
	ck_assert_int_eq(disk_flush(disk), 0);
	disk_expect_file(0, 20, -1);
}
END_TEST

/* Parts of blocks, whole ones and runs of both, at any place. */
START_TEST(copy_on_write)
{
	static const struct {
		unsigned from, to;
		uint8_t byte;
	} writes[] = {
	    {3, 4, 0x11},   {8, 16, 0x22},  {30, 34, 0x33},
	    {60, 95, 0x44}, {10, 12, 0x55}, {2047, 2048, 0x66},
	};
	static int model[2048];
	struct stat before, after;

	disk_use(DISK_COW);
	ck_assert_int_eq(fstat(disk_fd, &before), 0);
	memset(model, -1, sizeof(model));
	for (unsigned i = 0; i < sizeof(writes) / sizeof(*writes); i++) {
		uint64_t len = (writes[i].to - writes[i].from) * 512;

		ck_assert_int_eq(disk_put(writes[i].from * 512, len, writes[i].byte), 0);
		for (unsigned s = writes[i].from; s < writes[i].to; s++)
			model[s] = writes[i].byte;
		for (unsigned s = 0; s < 2048; s++)
			disk_expect(s, s + 1, model[s]);
	}
	ck_assert_int_eq(disk_flush(disk), 0);
	/* One long read over all of the runs. */
	ck_assert_int_eq(disk_get(0, 100 * 512), 0);
	for (unsigned s = 0; s < 100; s++)
		ck_assert_uint_eq(disk_buf[s * 512], model[s] < 0 ? s : (unsigned)model[s]);
	disk_expect_file(0, 2048, -1);
	ck_assert_int_eq(fstat(disk_fd, &after), 0);
	ck_assert_int_eq(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
}
END_TEST

START_TEST(copy_on_write_of_a_last_partial_block)
{
	ck_assert_int_eq(ftruncate(disk_fd, 5 * 512), 0);
	disk_use(DISK_COW);
	ck_assert_int_eq(disk_put(4 * 512, 512, 0x77), 0);
	disk_expect(0, 4, -1);
	disk_expect(4, 5, 0x77);
	ck_assert_int_eq(disk_write_zeroes(disk, 512, 4 * 512, false), 0);
	disk_expect(0, 1, -1);
	disk_expect(1, 5, 0);
	/* 4 KiB blocks end with the file. */
	ck_assert_uint_eq(disk_file_read(disk), 5 * 512);
}
END_TEST

START_TEST(copy_on_write_discard)
{
	disk_use(DISK_COW);
	ck_assert_int_eq(disk_put(0, 24 * 512, 0x12), 0);
	/* Whole blocks go, parts stay: a discard promises nothing. */
	ck_assert_int_eq(disk_discard(disk, 4 * 512, 16 * 512), 0);
	disk_expect(0, 8, 0x12);
	disk_expect(8, 16, 0);
	disk_expect(16, 24, 0x12);
	/* Of the file's blocks, too; never its old contents after. */
	ck_assert_int_eq(disk_discard(disk, 100 * 4096, 4096), 0);
	disk_expect(800, 808, 0);
	ck_assert_int_eq(disk_discard(disk, 512, 512), 0);
	/* Zeroes are exact. */
	ck_assert_int_eq(disk_write_zeroes(disk, 203 * 512, 10 * 512, true), 0);
	disk_expect(200, 203, -1);
	disk_expect(203, 213, 0);
	disk_expect(213, 220, -1);
	disk_expect_file(0, 2048, -1);
}
END_TEST

START_TEST(shared)
{
	disk_use(DISK_SHARED);
	ck_assert_int_eq(disk_put(7 * 512, 3 * 512, 0x42), 0);
	ck_assert_int_eq(disk_flush(disk), 0);
	disk_expect_file(0, 7, -1);
	disk_expect_file(7, 10, 0x42);
	disk_expect_file(10, 2048, -1);
	disk_expect(7, 10, 0x42);
	ck_assert_int_eq(disk_write_zeroes(disk, 512, 5 * 512, true), 0);
	ck_assert_int_eq(disk_write_zeroes(disk, 20 * 512, 5 * 512, false), 0);
	disk_expect_file(0, 1, -1);
	disk_expect_file(1, 6, 0);
	disk_expect_file(20, 25, 0);
	ck_assert_int_eq(disk_discard(disk, 32 * 512, 64 * 512), 0);
	disk_expect_file(96, 2048, -1);
}
END_TEST

START_TEST(file_read_counts_each_block_once)
{
	disk_use(DISK_COW);
	ck_assert_uint_eq(disk_file_read(disk), 0);
	disk_get(512, 512);
	disk_get(0, 4096);
	ck_assert_uint_eq(disk_file_read(disk), 4096);
	disk_get(4096 - 512, 1024);
	ck_assert_uint_eq(disk_file_read(disk), 8192);
	/* What was written is not read from the file. */
	disk_put(8192, 8192, 1);
	disk_get(8192, 8192);
	ck_assert_uint_eq(disk_file_read(disk), 8192);
}
END_TEST

Suite *disk_suite(void)
{
	Suite *suite = suite_create("disk");
	TCase *tc = tcase_create("disk");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, disk_set_up, disk_tear_down);
	tcase_add_test(tc, read_only);
	tcase_add_test(tc, copy_on_write);
	tcase_add_test(tc, copy_on_write_of_a_last_partial_block);
	tcase_add_test(tc, copy_on_write_discard);
	tcase_add_test(tc, shared);
	tcase_add_test(tc, file_read_counts_each_block_once);
	suite_add_tcase(suite, tc);
	return suite;
}
