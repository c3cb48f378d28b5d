/* Block requests: what is served, what is refused, and what is counted. */
#include <errno.h>
#include <string.h>

#include "tests/devices/rig.h"

#define DISK_BYTES (8UL << 20)
#define SECTORS	   (DISK_BYTES / 512)

static struct rig rig;

static void set_up(void)
{
	rig_init(&rig);
	rig_blk_new(&rig, DISK_BYTES, DISK_COW);
	rig_start(&rig, VERSION_1 | INDIRECT | EVENT_IDX, 16);
}

static void tear_down(void)
{
	rig_fini(&rig);
}

static uint64_t word(uint64_t offset)
{
	uint64_t value;

	memcpy(&value, rig.memory->bytes + RIG_DATA + offset, sizeof(value));
	return value;
}

START_TEST(read_delivers_sectors)
{
	int status;

	ck_assert_uint_eq(rig_request_used(&rig, VIRTIO_BLK_T_IN, 5, 1024, &status), 1025);
	ck_assert_int_eq(status, VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(word(0), 5);
	ck_assert_uint_eq(word(504), 5);
	ck_assert_uint_eq(word(512), 6);
	ck_assert_uint_eq(word(1024), 0);
}
END_TEST

/* Longer than one piece, over several host-contiguous runs, not aligned to them. */
START_TEST(long_requests)
{
	uint32_t len = 5 << 20;

	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_IN, 9, len), VIRTIO_BLK_S_OK);
	for (uint64_t i = 0; i < len / 512; i++)
		ck_assert_uint_eq(word(i * 512), 9 + i);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_OUT, 1001, len), VIRTIO_BLK_S_OK);
	memset(rig.memory->bytes + RIG_DATA, 0, len);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_IN, 1001, len), VIRTIO_BLK_S_OK);
	for (uint64_t i = 0; i < len / 512; i++)
		ck_assert_uint_eq(word(i * 512 + 8), 9 + i);
}
END_TEST

START_TEST(range_is_checked)
{
	static const struct {
		uint64_t sector;
		uint32_t len;
		int status;
	} rows[] = {
	    {SECTORS - 1, 512, VIRTIO_BLK_S_OK},
	    {0, 0, VIRTIO_BLK_S_OK},
	    {SECTORS, 0, VIRTIO_BLK_S_OK},
	    {SECTORS - 1, 1024, VIRTIO_BLK_S_IOERR},
	    {SECTORS, 512, VIRTIO_BLK_S_IOERR},
	    {UINT64_MAX, 512, VIRTIO_BLK_S_IOERR},
	    {UINT64_MAX / 512 + 1, 512, VIRTIO_BLK_S_IOERR},
	    {1UL << 55, 512, VIRTIO_BLK_S_IOERR},
	    {0, 511, VIRTIO_BLK_S_IOERR},
	    {0, 513, VIRTIO_BLK_S_IOERR},
	};

	for (unsigned type = VIRTIO_BLK_T_IN; type <= VIRTIO_BLK_T_OUT; type++)
		for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++)
			ck_assert_int_eq(rig_request(&rig, type, rows[i].sector, rows[i].len),
					 rows[i].status);
	ck_assert_uint_eq(rig_stats(&rig).errors, 14);
}
END_TEST

START_TEST(data_outside_of_memory)
{
	rig.memory->hole = (struct fake_range){RIG_DATA + 512, RIG_DATA + 513};
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_IN, 0, 1024), VIRTIO_BLK_S_IOERR);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_OUT, 0, 1024), VIRTIO_BLK_S_IOERR);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(rig_stats(&rig).errors, 2);
}
END_TEST

START_TEST(data_in_read_only_memory)
{
	rig.memory->read_only = (struct fake_range){RIG_DATA, RIG_DATA + 4096};
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_IOERR);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_OUT, 0, 512), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(memory_that_cannot_be_read)
{
	rig.memory->failing = (struct fake_range){RIG_DATA, RIG_DATA + 4096};
	rig.memory->failing_with = -EIO;
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_OUT, 0, 512), VIRTIO_BLK_S_IOERR);
	ck_assert_ptr_null(device_broken(rig.dev));
}
END_TEST

START_TEST(get_id)
{
	int status;

	memset(rig.memory->bytes + RIG_DATA, 0xff, 32);
	ck_assert_uint_eq(rig_request_used(&rig, VIRTIO_BLK_T_GET_ID, 0, 20, &status), 21);
	ck_assert_int_eq(status, VIRTIO_BLK_S_OK);
	ck_assert_mem_eq(rig.memory->bytes + RIG_DATA, "disk.img\0\0\0\0\0\0\0\0\0\0\0\0\xff", 21);
	/* Less room, and more. */
	memset(rig.memory->bytes + RIG_DATA, 0xff, 32);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_GET_ID, 0, 4), VIRTIO_BLK_S_OK);
	ck_assert_mem_eq(rig.memory->bytes + RIG_DATA, "disk\xff", 5);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_GET_ID, 0, 64), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(unknown_request)
{
	ck_assert_int_eq(rig_request(&rig, 0x7777, 0, 0), VIRTIO_BLK_S_UNSUPP);
	ck_assert_int_eq(rig_request(&rig, VIRTIO_BLK_T_SECURE_ERASE, 0, 16), VIRTIO_BLK_S_UNSUPP);
}
END_TEST

static int segment(uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes seg = {sector, sectors, flags};

	memcpy(rig.memory->bytes + RIG_DATA, &seg, sizeof(seg));
	return rig_request(&rig, type, 0, sizeof(seg));
}

START_TEST(segments_are_checked)
{
	static const uint32_t types[] = {VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES};

	for (unsigned i = 0; i < 2; i++) {
		uint32_t type = types[i];

		ck_assert_int_eq(segment(type, 0, 8, 0), VIRTIO_BLK_S_OK);
		ck_assert_int_eq(segment(type, 0, 0, 0), VIRTIO_BLK_S_OK);
		ck_assert_int_eq(segment(type, SECTORS, 1, 0), VIRTIO_BLK_S_IOERR);
		ck_assert_int_eq(segment(type, UINT64_MAX, 2, 0), VIRTIO_BLK_S_IOERR);
		ck_assert_int_eq(segment(type, 0, UINT32_MAX, 0), VIRTIO_BLK_S_IOERR);
		ck_assert_int_eq(segment(type, 0, 8, 2), VIRTIO_BLK_S_UNSUPP);
		ck_assert_int_eq(rig_request(&rig, type, 0, 15), VIRTIO_BLK_S_IOERR);
		ck_assert_int_eq(rig_request(&rig, type, 0, 17 * 16), VIRTIO_BLK_S_IOERR);
		ck_assert_int_eq(rig_request(&rig, type, 0, 0), VIRTIO_BLK_S_IOERR);
	}
	ck_assert_int_eq(segment(VIRTIO_BLK_T_DISCARD, 0, 8, 1), VIRTIO_BLK_S_UNSUPP);
	ck_assert_int_eq(segment(VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 1), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(requests_are_counted)
{
	struct disk_stats stats;

	rig_request(&rig, VIRTIO_BLK_T_IN, 0, 4096);
	rig_request(&rig, VIRTIO_BLK_T_IN, 0, 8192);
	rig_request(&rig, VIRTIO_BLK_T_OUT, 0, 512);
	rig_request(&rig, VIRTIO_BLK_T_FLUSH, 0, 0);
	rig_request(&rig, VIRTIO_BLK_T_IN, SECTORS, 512);
	segment(VIRTIO_BLK_T_DISCARD, 0, 8, 0);
	stats = rig_stats(&rig);
	ck_assert_uint_eq(stats.reads, 3);
	ck_assert_uint_eq(stats.writes, 1);
	ck_assert_uint_eq(stats.flushes, 1);
	ck_assert_uint_eq(stats.discards, 1);
	ck_assert_uint_eq(stats.errors, 1);
	ck_assert_uint_eq(stats.bytes_read, 4096 + 8192);
	ck_assert_uint_eq(stats.bytes_written, 512);
	ck_assert_uint_eq(stats.file_bytes, DISK_BYTES);
	/* The second read repeats the first's block: each is counted once. */
	ck_assert_uint_eq(stats.file_read, 8192);
}
END_TEST

Suite *blk_suite(void)
{
	Suite *suite = suite_create("virtio-blk");
	TCase *tc = tcase_create("virtio-blk");

	tcase_set_timeout(tc, 30);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, read_delivers_sectors);
	tcase_add_test(tc, long_requests);
	tcase_add_test(tc, range_is_checked);
	tcase_add_test(tc, data_outside_of_memory);
	tcase_add_test(tc, data_in_read_only_memory);
	tcase_add_test(tc, memory_that_cannot_be_read);
	tcase_add_test(tc, get_id);
	tcase_add_test(tc, unknown_request);
	tcase_add_test(tc, segments_are_checked);
	tcase_add_test(tc, requests_are_counted);
	suite_add_tcase(suite, tc);
	return suite;
}
