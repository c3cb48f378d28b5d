/* Streams: what a sequence of faults makes of windows, reads ahead, markers, copies. */
#include "ept/stream.h"
#include "tests/ept/unit_suites.h"
#include "tests/ept/util.h"

#define AREA_PAGES 8192U

static struct ept_streams streams;

static void set_up(void)
{
	ept_streams_init(&streams);
}

/* A fault at @page, before which nothing is installed that its stream does not know. */
static struct ept_step touch(uint64_t page, unsigned around, unsigned near, bool write)
{
	uint64_t leaf = page / EPT_TABLE_SIZE * EPT_TABLE_SIZE;
	struct ept_touch t = {.page = page,
			      .back = page,
			      .end = AREA_PAGES,
			      .lfirst = leaf,
			      .lend = leaf + EPT_TABLE_SIZE,
			      .around = around,
			      .near = near,
			      .write = write};

	return ept_streams_step(&streams, &t);
}

static struct ept_step read_at(uint64_t page)
{
	return touch(page, 16, 0, false);
}

/* The fault that follows when all of the window was mapped. */
static uint64_t next(const struct ept_step *step, uint64_t page)
{
	ept_streams_moved(&streams, step, page, step->end);
	return step->end;
}

#define assert_range(step, what, from, to) \
	do { \
		ck_assert_uint_eq((step).what##first, from); \
		ck_assert_uint_eq((step).what##end, to); \
	} while (0)

START_TEST(windows_grow)
{
	static const uint64_t at[] = {0, 16, 64, 512, 1024, 1536};
	uint64_t page = 0;

	for (unsigned i = 0; i < 5; i++) {
		struct ept_step step = read_at(page);

		ck_assert_uint_eq(page, at[i]);
		assert_range(step, , page, at[i + 1]);
		ck_assert_uint_le(step.read_end - step.read_first, EPT_SYNC_MAX);
		page = next(&step, page);
	}
}
END_TEST

START_TEST(marker_starts_the_next_read)
{
	struct ept_step step = read_at(0);
	uint64_t page = next(&step, 0);

	assert_range(step, ahead_, 0, 0); /* nothing is known yet */
	step = read_at(page);
	assert_range(step, ahead_, 64, 128);
	/* Not all of it was there: it goes on below the marker, and nothing new is read. */
	ept_streams_moved(&streams, &step, page, 40);
	step = read_at(40);
	assert_range(step, ahead_, 0, 0);
	ck_assert_uint_eq(step.end, 64);
	page = next(&step, 40);
	/* The marker: its window is read since it was set; the one after it begins. */
	step = read_at(page);
	assert_range(step, ahead_, 128, 1024);
	page = next(&step, page);
	ck_assert_uint_eq(page, 512);
	step = read_at(page);
	assert_range(step, ahead_, 1024, 1536);
}
END_TEST

/* Nobody maps a marker by the way, or it would not be seen touched. */
START_TEST(no_window_is_mapped_past_a_marker)
{
	struct ept_step step = read_at(8);

	next(&step, 8);
	step = read_at(16); /* its marker is 64 */
	step = touch(60, 512, 0, false);
	assert_range(step, , 0, 64);
	step = touch(64, 512, 0, false);
	assert_range(step, , 0, 512);
}
END_TEST

START_TEST(interleaved_readers_are_told_apart)
{
	uint64_t at[EPT_STREAMS];

	for (unsigned i = 0; i < EPT_STREAMS; i++)
		at[i] = i * 1024;
	for (unsigned round = 0; round < 3; round++)
		for (unsigned i = 0; i < EPT_STREAMS; i++) {
			struct ept_step step = read_at(at[i]);

			ck_assert_int_eq(step.random, round == 0);
			at[i] = next(&step, at[i]);
		}
	for (unsigned i = 0; i < EPT_STREAMS; i++)
		ck_assert_uint_eq(at[i], i * 1024 + 512);
}
END_TEST

/* One that is followed outlives what comes in between. */
START_TEST(random_faults_do_not_hide_a_reader)
{
	struct ept_step step = read_at(0);
	uint64_t page = next(&step, 0);

	for (int i = 0; i < 3; i++) {
		step = read_at(page);
		ck_assert(!step.random);
		page = next(&step, page);
		for (uint64_t j = 1; j < 3 * EPT_STREAMS; j++)
			ck_assert(read_at(4096 + j * 37).random);
	}
}
END_TEST

START_TEST(random_reads_shrink_to_a_page)
{
	for (uint64_t i = 0; i < 2 * EPT_MISSES; i++) {
		struct ept_step step = read_at(i * EPT_TABLE_SIZE / 2 + 5);
		uint64_t page = i * EPT_TABLE_SIZE / 2;

		if (i < EPT_MISSES)
			assert_range(step, read_, page, page + 16);
		else
			assert_range(step, read_, page + 5, page + 6);
		/* What is cached is mapped all the same. */
		assert_range(step, , page, page + 16);
		assert_range(step, ahead_, 0, 0);
	}
	/* A reader that begins now grows from there. */
	struct ept_step step = read_at(5000);

	ept_streams_moved(&streams, &step, 5000, 5001);
	step = read_at(5001);
	assert_range(step, read_, 5001, 5004);
	assert_range(step, ahead_, 5004, 5008);
}
END_TEST

START_TEST(dense_reads_widen)
{
	streams.host_ahead = 64;
	streams.misses = EPT_MISSES;
	assert_range(touch(100, 16, 0, false), read_, 100, 101);
	assert_range(touch(200, 16, 1, false), ahead_, 192, 224);
	assert_range(touch(300, 16, 2, false), ahead_, 256, 320);
	/* No more than the host reads around a miss; mapped is what is cached of twice as much. */
	assert_range(touch(500, 16, 3, false), ahead_, 448, 512);
	assert_range(touch(400, 16, 3, false), , 384, 512);
	/* And as long as it does. */
	streams.around = EPT_HOST_MISSES * 64;
	assert_range(touch(1000, 16, 3, false), ahead_, 0, 0);
	assert_range(touch(1100, 16, 3, false), read_, 1100, 1101);
}
END_TEST

/* A writer's copies: a page, until it has written 32 in order, then a sixteenth of them. */
START_TEST(writers_are_copied_ahead)
{
	uint64_t page = 3, faults = 0;

	while (page < 4000) {
		struct ept_step step = touch(page, 16, 0, true);

		ck_assert_uint_eq(step.first, page);
		ck_assert_uint_le(step.end - page, (page - 3) / 16 + 1);
		if (page < 32)
			ck_assert_uint_eq(step.end, page + 1);
		page = next(&step, page);
		faults++;
	}
	ck_assert_uint_le(faults, 200);
	/* Elsewhere it is a page again. */
	assert_range(touch(6000, 16, 0, true), , 6000, 6001);
	assert_range(touch(6002, 16, 0, true), , 6002, 6003);
}
END_TEST

START_TEST(off)
{
	for (uint64_t page = 0; page < 100; page++) {
		struct ept_step step = touch(page, 1, 0, page & 1);

		assert_range(step, , page, page + 1);
		assert_range(step, read_, page, page + 1);
		assert_range(step, ahead_, 0, 0);
		next(&step, page);
	}
}
END_TEST

/* At the end of the area nothing beyond it is asked for. */
START_TEST(area_ends)
{
	uint64_t page = AREA_PAGES - 600;
	struct ept_step step;

	do {
		step = read_at(page);
		ck_assert_uint_le(step.end, AREA_PAGES);
		ck_assert_uint_le(step.read_end, AREA_PAGES);
		ck_assert_uint_le(step.ahead_end, AREA_PAGES);
		page = next(&step, page);
	} while (page < AREA_PAGES);
}
END_TEST

Suite *suite_streams(void)
{
	Suite *suite = suite_create("ept: streams");
	TCase *tc = tcase_create("streams");

	tcase_add_checked_fixture(tc, set_up, NULL);
	tcase_add_test(tc, windows_grow);
	tcase_add_test(tc, marker_starts_the_next_read);
	tcase_add_test(tc, no_window_is_mapped_past_a_marker);
	tcase_add_test(tc, interleaved_readers_are_told_apart);
	tcase_add_test(tc, random_faults_do_not_hide_a_reader);
	tcase_add_test(tc, random_reads_shrink_to_a_page);
	tcase_add_test(tc, dense_reads_widen);
	tcase_add_test(tc, writers_are_copied_ahead);
	tcase_add_test(tc, off);
	tcase_add_test(tc, area_ends);
	suite_add_tcase(suite, tc);
	return suite;
}
