/* The object's page cache: what is read, once, and what becomes of errors. */
#include "ept/reader.h"
#include "tests/ept/unit_suites.h"
#include "tests/ept/util.h"

#include <sched.h>

static struct ept_object *object(int fd, uint64_t offset, uint64_t length)
{
	struct ept_object *obj;

	ck_assert_int_eq(ept_object_file(fd, "f", offset, length, EPT_FILE_COW, &obj), 0);
	ck_assert_int_eq(ept_object_cache(obj), 0);
	ck_assert_int_eq(ept_object_cache(obj), 0); /* once is enough */
	return obj;
}

START_TEST(read_stops_at_cached_pages)
{
	int fd = temp_file(64 * PAGE);
	struct ept_object *obj = object(fd, 0, 64 * PAGE);
	uint64_t bytes = 0;

	ck_assert_int_eq(ept_object_fill(obj, 20, 20, 21, &bytes), 0);
	ck_assert_int_eq(ept_object_fill(obj, 28, 28, 29, &bytes), 0);
	ck_assert_uint_eq(bytes, 2 * PAGE);
	ck_assert_int_eq(ept_object_fill(obj, 24, 16, 32, &bytes), 0);
	ck_assert_uint_eq(bytes, 9 * PAGE); /* 21 to 27 */
	ck_assert(ept_object_cached(obj, 21) && ept_object_cached(obj, 27));
	ck_assert(!ept_object_cached(obj, 19) && !ept_object_cached(obj, 29));
	ck_assert_int_eq(ept_object_fill(obj, 24, 16, 32, &bytes), 0);
	ck_assert_uint_eq(bytes, 9 * PAGE); /* in the cache: nothing to read */
	ck_assert(has_pattern(obj->cache + 20 * PAGE, 20 * PAGE, 9 * PAGE));
	ck_assert_uint_eq(ept_object_bytes_read(obj, 64 * PAGE), 9 * PAGE);
	ck_assert_uint_eq(ept_object_bytes_read(obj, 21 * PAGE), PAGE);
	ept_object_put(obj);
	close(fd);
}
END_TEST

struct reader {
	struct ept_object *obj;
	uint64_t bytes;
	pthread_t thread;
};

static void *read_all(void *arg)
{
	struct reader *r = arg;

	for (uint64_t page = 0; page < 64; page++)
		ck_assert_int_eq(
		    ept_object_fill(r->obj, page, page & ~7UL, (page & ~7UL) + 8, &r->bytes), 0);
	return NULL;
}

START_TEST(two_readers_read_no_page_twice)
{
	int fd = temp_file(64 * PAGE);
	struct reader r[2] = {{.obj = object(fd, 0, 64 * PAGE)}};

	r[1].obj = r[0].obj;
	inject_set(pread_delay_us, 500);
	for (int i = 0; i < 2; i++)
		pthread_create(&r[i].thread, NULL, read_all, &r[i]);
	for (int i = 0; i < 2; i++)
		pthread_join(r[i].thread, NULL);
	ck_assert_uint_eq(r[0].bytes + r[1].bytes, 64 * PAGE);
	ck_assert_uint_eq(inject_get(preads), 8);
	ept_object_put(r[0].obj);
	close(fd);
}
END_TEST

struct waiter {
	struct ept_object *obj;
	pid_t tid; /* atomic; 0: not there yet */
	pthread_t thread;
};

static void *read_page_3(void *arg)
{
	struct waiter *w = arg;
	uint64_t bytes = 0;

	__atomic_store_n(&w->tid, gettid(), __ATOMIC_RELEASE);
	ck_assert_int_eq(ept_object_fill(w->obj, 3, 3, 4, &bytes), 0);
	ck_assert_uint_eq(bytes, PAGE);
	return NULL;
}

/*
 * A read ahead is listed before it is queued. Who comes between waits for it; who comes
 * after that takes it out of the queue, and has to tell.
 */
START_TEST(waiter_of_a_dropped_read)
{
	int fd = temp_file(64 * PAGE);
	struct waiter w = {.obj = object(fd, 0, 64 * PAGE)};
	struct ept_reader *reader = ept_reader_create(); /* with no thread, so nothing is begun */
	struct ept_ahead *ahead;

	pthread_mutex_lock(&w.obj->lock);
	ahead = ept_reader_take(reader, w.obj);
	ahead->read = (struct ept_object_read){.first = 0, .end = 8, .reader = reader};
	ept_object_read_begins(w.obj, &ahead->read);
	pthread_mutex_unlock(&w.obj->lock);
	pthread_create(&w.thread, NULL, read_page_3, &w);
	while (!__atomic_load_n(&w.tid, __ATOMIC_ACQUIRE) || !is_asleep(w.tid))
		sched_yield();
	ept_reader_queue(reader, ahead);
	pthread_mutex_lock(&w.obj->lock);
	ck_assert(ept_object_ahead_undone(w.obj, &ahead->read));
	pthread_mutex_unlock(&w.obj->lock);
	pthread_join(w.thread, NULL);
	ck_assert_ptr_null(w.obj->reads);
	ept_reader_free(reader);
	ept_object_put(w.obj);
	close(fd);
}
END_TEST

START_TEST(tail_page)
{
	int fd = temp_file(64 * PAGE);
	struct ept_object *obj = object(fd, 33, 3 * PAGE + 10);
	uint64_t bytes = 0;

	ck_assert_int_eq(ept_object_fill(obj, 3, 0, 4, &bytes), 0);
	ck_assert_uint_eq(bytes, 3 * PAGE + 10);
	ck_assert(has_pattern(obj->cache, 33, 3 * PAGE + 10));
	for (uint64_t i = 10; i < PAGE; i++)
		ck_assert_int_eq(obj->cache[3 * PAGE + i], 0);
	ck_assert_uint_eq(ept_object_bytes_read(obj, 3 * PAGE + 10), 3 * PAGE + 10);
	ept_object_put(obj);
	close(fd);
}
END_TEST

START_TEST(truncated)
{
	int fd = temp_file(64 * PAGE);
	struct ept_object *obj = object(fd, 0, 64 * PAGE);
	uint64_t bytes = 0;

	ck_assert_int_eq(ftruncate(fd, 20 * PAGE + 5), 0);
	ck_assert_int_eq(ept_object_fill(obj, 18, 16, 32, &bytes), 0);
	ck_assert(ept_object_cached(obj, 19));
	ck_assert(!ept_object_cached(obj, 20)); /* a part of a page is no page */
	ck_assert_int_eq(ept_object_fill(obj, 20, 16, 32, &bytes), -EIO);
	ck_assert_int_eq(ept_object_fill(obj, 40, 32, 48, &bytes), -EIO);
	ck_assert_int_eq(ept_object_file_size(obj), 20 * PAGE + 5);
	ept_object_put(obj);
	close(fd);
}
END_TEST

START_TEST(error_in_the_window_is_read_around)
{
	int fd = temp_file(64 * PAGE);
	struct ept_object *obj = object(fd, 0, 64 * PAGE);
	uint64_t bytes = 0;

	inject_set(bad_from, 18 * PAGE);
	inject_set(bad_to, 19 * PAGE);
	inject_set(pread_errno, EIO);
	ck_assert_int_eq(ept_object_fill(obj, 25, 16, 32, &bytes), 0);
	ck_assert(ept_object_cached(obj, 25) && ept_object_cached(obj, 17));
	ck_assert_int_eq(ept_object_fill(obj, 18, 16, 32, &bytes), -EIO);
	inject_set(pread_errno, 0);
	ck_assert_int_eq(ept_object_fill(obj, 18, 16, 32, &bytes), 0);
	ck_assert_uint_eq(ept_object_bytes_read(obj, 64 * PAGE), bytes);
	ept_object_put(obj);
	close(fd);
}
END_TEST

START_TEST(mirror_tables)
{
	struct ept_arena arena;
	struct ept_mirror mirror = {0};
	gpa_t low = GPA(0), next = GPA(EPT_LEAF_BYTES), top = GPA((1UL << EPT_GPA_BITS) - PAGE);

	ept_arena_init(&arena);
	ept_mirror_init(&mirror, &arena);
	ck_assert_ptr_null(ept_mirror_find(&mirror, low));
	ck_assert_ptr_nonnull(ept_mirror_get(&mirror, low));
	ck_assert_ptr_eq(ept_mirror_find(&mirror, low), ept_mirror_get(&mirror, low));
	ck_assert_ptr_eq(ept_mirror_find(&mirror, GPA(EPT_LEAF_BYTES - 1)),
			 ept_mirror_find(&mirror, low));
	ck_assert_ptr_null(ept_mirror_find(&mirror, next));
	ck_assert_ptr_null(ept_mirror_find(&mirror, top));
	ck_assert_ptr_nonnull(ept_mirror_get(&mirror, top));
	ck_assert_uint_eq(ept_leaf_index(top), EPT_TABLE_SIZE - 1);
	for (uint64_t i = 0; i < 1000; i++) /* more than one chunk of the arena */
		ck_assert_ptr_nonnull(ept_mirror_get(&mirror, GPA(i << EPT_LEAF_SHIFT)));
	ept_mirror_free(&mirror);
	ept_arena_free(&arena);
}
END_TEST

Suite *suite_objects(void)
{
	Suite *suite = suite_create("ept: objects and tables");
	TCase *tc = tcase_create("objects");

	tcase_add_test(tc, read_stops_at_cached_pages);
	tcase_add_test(tc, two_readers_read_no_page_twice);
	tcase_add_test(tc, waiter_of_a_dropped_read);
	tcase_add_test(tc, tail_page);
	tcase_add_test(tc, truncated);
	tcase_add_test(tc, error_in_the_window_is_read_around);
	tcase_add_test(tc, mirror_tables);
	suite_add_tcase(suite, tc);
	return suite;
}
