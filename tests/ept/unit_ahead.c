/* Reading ahead on a ring of the tests' own: slow, short, failing, absent. */
#include "ept/stats.h"
#include "tests/ept/fake_install.h"
#include "tests/ept/fake_uring.h"
#include "tests/ept/unit_suites.h"
#include "tests/ept/util.h"

#include <sched.h>

#define PAGES 2048U

static struct ept_resolution res;

static enum ept_result fault_by(const struct vm *vm, uint64_t page, enum ept_access access,
				enum ept_origin origin)
{
	if (origin == EPT_ORIGIN_VCPU || origin == EPT_ORIGIN_KVM)
		vm->space->events[origin]++; /* as if it had been read */
	return fault_as(vm, page, access, origin, 0, &res);
}

static enum ept_result fault(const struct vm *vm, uint64_t page, enum ept_access access)
{
	return fault_by(vm, page, access, EPT_ORIGIN_LOADER);
}

static bool there(const struct vm *vm, uint64_t page)
{
	return fake_page(vm->hva + page * PAGE) != FAKE_NONE;
}

/* Touch what is not there, in order; how many faults that took. */
static unsigned read_pages(const struct vm *vm, uint64_t first, uint64_t end)
{
	unsigned faults_taken = 0;

	for (uint64_t page = first; page < end; page++) {
		if (there(vm, page))
			continue;
		ck_assert_int_eq(fault(vm, page, EPT_READ), EPT_RESOLVED);
		faults_taken++;
	}
	return faults_taken;
}

static void assert_contents(const struct vm *vm, uint64_t pages)
{
	ck_assert(has_pattern(vm->area->obj->cache, 0, pages * PAGE));
	ck_assert_uint_eq(fake_double_installs(), 0);
}

static void wait_until(unsigned (*count)(void), unsigned n)
{
	while (count() != n)
		sched_yield();
}

/* Have [0, @pages) read, and wait until that came, or failed. */
static void read_ahead_all(const struct vm *vm, uint64_t pages)
{
	struct ept_ahead_stats s;

	ept_object_read_ahead(vm->area->obj, vm->space->reader, 0, pages);
	do {
		sched_yield();
		s = ahead_stats(vm);
	} while (s.pages < pages && s.failed < s.reads);
}

/* The second fault in order starts reads of what follows, and does not wait for them. */
START_TEST(several_reads_under_way)
{
	struct vm vm = vm_file(PAGES * PAGE, EPT_FILE_COW);

	fake_uring_hold();
	ck_assert_uint_eq(read_pages(&vm, 0, 64), 2);
	wait_until(fake_uring_under_way, 1); /* the window after: 64 pages, one read */
	ck_assert_uint_eq(ahead_stats(&vm).windows, 1);
	ck_assert_uint_eq(ahead_stats(&vm).pages, 0);
	fake_uring_release();
	ck_assert_uint_eq(read_pages(&vm, 64, 65), 1); /* the marker */
	fake_uring_hold();
	/* 128 to 1024, in 14 reads of which as many as there are buffers are under way. */
	ck_assert_uint_eq(ahead_stats(&vm).windows, 2);
	ck_assert_uint_eq(ahead_stats(&vm).reads, 1 + 14);
	fake_uring_release();
	read_pages(&vm, 0, PAGES);
	vm_destroy(&vm);
}
END_TEST

START_TEST(as_many_under_way_as_buffers)
{
	struct vm vm = vm_file(PAGES * PAGE, EPT_FILE_COW);

	fake_uring_hold();
	ept_object_read_ahead(vm.area->obj, vm.space->reader, 0, PAGES);
	wait_until(fake_uring_under_way, 8);
	ck_assert_uint_eq(ahead_stats(&vm).reads, PAGES / 64);
	fake_uring_release();
	while (ahead_stats(&vm).pages < PAGES)
		sched_yield();
	read_pages(&vm, 0, PAGES);
	ept_space_stop(vm.space);
	ck_assert_uint_eq(fake_uring_most(), 8);
	ck_assert_uint_eq(fake_uring_bytes(), PAGES * PAGE);
	ck_assert_uint_eq(inject_get(preads), 0);
	ck_assert_uint_eq(ahead_stats(&vm).used, PAGES);
	assert_contents(&vm, PAGES);
	vm_destroy(&vm);
}
END_TEST

/* What comes counts from the moment it is asked for: a limit does not wait to be passed. */
START_TEST(what_comes_counts)
{
	struct ept_config config = {
	    .vm_name = "test", .log = true, .vcpus = 1, .memory_limit = EPT_LIMIT_FLOOR};
	struct vm vm = vm_file_with(&config, PAGES * PAGE, EPT_FILE_COW);
	uint64_t before = ept_reclaim_charge(vm.space);

	fake_uring_hold();
	ept_object_read_ahead(vm.area->obj, vm.space->reader, 0, PAGES);
	ck_assert_uint_eq(ept_reclaim_charge(vm.space), before + PAGES);
	fake_uring_release();
	while (ahead_stats(&vm).pages < PAGES)
		sched_yield();
	while (ept_reclaim_charge(vm.space) != before + PAGES)
		sched_yield(); /* the last one is between the two counts */
	/* One that a fault does itself does not come any more. */
	read_pages(&vm, 0, PAGES);
	ept_space_stop(vm.space);
	ck_assert_uint_eq(vm.area->obj->nr_coming, 0);
	vm_destroy(&vm);
}
END_TEST

struct waiter {
	const struct vm *vm;
	uint64_t page;
	pthread_t thread;
};

static void *wait_for_page(void *arg)
{
	struct waiter *w = arg;
	char c;

	ck_assert_int_eq(ept_read(w->vm->space, GPA(w->page * PAGE), &c, 1, EPT_ORIGIN_DEVICE), 0);
	return NULL;
}

/* Two that want one page wait for the read that brings it, and cause none. */
START_TEST(waiters_of_one_page_cause_one_read)
{
	struct vm vm = vm_file(PAGES * PAGE, EPT_FILE_COW);
	struct waiter w[] = {{.vm = &vm, .page = 100}, {.vm = &vm, .page = 100}};

	vm.area->reads.host_ahead = 0; /* they ask for nothing around them */
	fake_uring_hold();
	ept_object_read_ahead(vm.area->obj, vm.space->reader, 64, 128);
	wait_until(fake_uring_under_way, 1);
	for (int i = 0; i < 2; i++)
		pthread_create(&w[i].thread, NULL, wait_for_page, &w[i]);
	/* One that wants another page is not kept by it. */
	ck_assert_int_eq(fault(&vm, 300, EPT_READ), EPT_RESOLVED);
	ck_assert(!there(&vm, 100));
	ck_assert_uint_eq(inject_get(preads), 1);
	fake_uring_release();
	for (int i = 0; i < 2; i++)
		pthread_join(w[i].thread, NULL);
	ck_assert_uint_eq(fake_uring_reads(), 1);
	ck_assert_uint_eq(inject_get(preads), 1);
	ck_assert(there(&vm, 100));
	vm_destroy(&vm);
}
END_TEST

/* A page whose read was asked for, and not begun, is read by the fault that needs it. */
START_TEST(a_fault_does_not_queue)
{
	struct vm vm = vm_file(PAGES * PAGE, EPT_FILE_COW);

	vm.area->reads.host_ahead = 0;
	fake_uring_hold();
	ept_object_read_ahead(vm.area->obj, vm.space->reader, 0, PAGES);
	wait_until(fake_uring_under_way, 8);
	ck_assert_int_eq(fault(&vm, 1000, EPT_READ), EPT_RESOLVED);
	ck_assert_int_eq(fault(&vm, PAGES - 1, EPT_READ), EPT_RESOLVED);
	ck_assert_uint_eq(inject_get(preads), 2);
	fake_uring_release();
	read_pages(&vm, 0, PAGES);
	ept_space_stop(vm.space);
	ck_assert_uint_eq(file_bytes_read(&vm), PAGES * PAGE);
	assert_contents(&vm, PAGES);
	vm_destroy(&vm);
}
END_TEST

/* What fails for now, or comes short, is finished; nobody else reads it. */
START_TEST(short_and_interrupted)
{
	struct vm vm = vm_file(PAGES * PAGE, EPT_FILE_COW);

	if (_i)
		fake_uring_fail(_i == 1 ? -EINTR : -EAGAIN, 5);
	else
		fake_uring_short(5000);
	read_ahead_all(&vm, 256);
	read_pages(&vm, 0, 256);
	ck_assert_uint_eq(ahead_stats(&vm).failed, 0);
	ck_assert_uint_eq(inject_get(preads), 0);
	assert_contents(&vm, 256);
	vm_destroy(&vm);
}
END_TEST

/* What fails for good is ignored: the fault reads the page itself. */
START_TEST(failed)
{
	static const int errors[] = {-EIO, -EAGAIN, -EINTR, -ENOMEM, -EINVAL};
	struct vm vm = vm_file(PAGES * PAGE, EPT_FILE_COW);

	fake_uring_fail(errors[_i], 1000);
	read_ahead_all(&vm, 256);
	read_pages(&vm, 0, 256);
	ck_assert_ptr_null(ept_space_failure(vm.space));
	ept_space_stop(vm.space);
	ck_assert_uint_ge(ahead_stats(&vm).failed, 1);
	ck_assert_uint_eq(ahead_stats(&vm).pages, 0);
	ck_assert_uint_eq(inject_get(bytes_read), file_bytes_read(&vm));
	assert_contents(&vm, 256);
	vm_destroy(&vm);
}
END_TEST

/* If the fault's own read fails as well, that is reported, and once. */
START_TEST(failed_twice)
{
	struct vm vm = vm_file(PAGES * PAGE, EPT_FILE_COW);

	fake_uring_fail(-EIO, 1000);
	inject_set(pread_errno, EIO);
	inject_set(bad_from, 70 * PAGE);
	inject_set(bad_to, 71 * PAGE);
	ept_object_read_ahead(vm.area->obj, vm.space->reader, 64, 128);
	read_pages(&vm, 0, 70);
	ck_assert_ptr_null(ept_space_failure(vm.space));
	ck_assert_int_eq(fault(&vm, 70, EPT_READ), EPT_BUS_ERROR);
	ck_assert_int_eq(res.kase, EPT_CASE_IO_ERROR);
	ck_assert_uint_eq(ept_space_failure(vm.space)->gpa.v, 70 * PAGE);
	vm_destroy(&vm);
}
END_TEST

/* The file ends where it did not when the read began. */
START_TEST(truncated_under_a_read)
{
	struct vm vm = vm_file(PAGES * PAGE, EPT_FILE_COW);

	fake_uring_hold();
	ept_object_read_ahead(vm.area->obj, vm.space->reader, 64, 256);
	wait_until(fake_uring_under_way, 3);
	ck_assert_int_eq(ftruncate(vm.fd, 100 * PAGE + 7), 0);
	fake_uring_release();
	read_pages(&vm, 0, 100);
	assert_contents(&vm, 100);
	ck_assert_int_eq(fault(&vm, 100, EPT_READ), EPT_BUS_ERROR);
	ck_assert_int_eq(fault(&vm, 200, EPT_READ), EPT_BUS_ERROR);
	ck_assert_int_eq(ept_space_failure(vm.space)->error, -EIO);
	ck_assert(!there(&vm, 100) && !there(&vm, 200));
	vm_destroy(&vm);
}
END_TEST

static void *stop(void *space)
{
	ept_space_stop(space);
	return NULL;
}

/* A stop waits for what is under way, whose buffers the kernel has; the rest never begins. */
START_TEST(stop_drains)
{
	struct vm vm = vm_file(PAGES * PAGE, EPT_FILE_COW);
	pthread_t stopper;

	fake_uring_hold();
	ept_object_read_ahead(vm.area->obj, vm.space->reader, 0, PAGES);
	wait_until(fake_uring_under_way, 8);
	pthread_create(&stopper, NULL, stop, vm.space);
	while (!ept_reader_stopping(vm.space->reader))
		sched_yield();
	ck_assert_uint_eq(fake_uring_under_way(), 8);
	fake_uring_release();
	pthread_join(stopper, NULL);
	ck_assert_uint_eq(fake_uring_under_way(), 0);
	ck_assert_uint_eq(fake_uring_reads(), 8);
	ck_assert_ptr_null(vm.area->obj->reads);
	ept_object_read_ahead(vm.area->obj, vm.space->reader, 0, PAGES); /* refused */
	ck_assert_ptr_null(vm.area->obj->reads);
	vm_destroy(&vm);
}
END_TEST

static void *stop_reader(void *reader)
{
	ept_reader_stop(reader);
	return NULL;
}

/* What was asked for when the stop came is ended, however late it is queued or put back. */
START_TEST(stop_waits_for_what_is_out)
{
	struct vm vm = vm_file(PAGES * PAGE, EPT_FILE_COW);
	struct ept_object *obj = vm.area->obj;
	struct ept_reader *reader = ept_reader_create();
	struct ept_ahead *read;
	pthread_t stopper;

	ck_assert_int_eq(ept_reader_start(reader, &vm.space->config), 0);
	read = ept_reader_take(reader, obj);
	read->read = (struct ept_object_read){.first = 0, .end = 64, .reader = reader};
	pthread_mutex_lock(&obj->lock);
	ept_object_read_begins(obj, &read->read);
	pthread_mutex_unlock(&obj->lock);
	pthread_create(&stopper, NULL, stop_reader, reader);
	while (!ept_reader_stopping(reader))
		sched_yield();
	usleep(20000); /* time to end too soon */
	ck_assert_int_eq(pthread_tryjoin_np(stopper, NULL), EBUSY);
	if (_i) {
		ept_reader_queue(reader, read);
	} else {
		pthread_mutex_lock(&obj->lock);
		ept_object_read_forget(obj, &read->read);
		ept_reader_put(reader, &read->read);
		pthread_mutex_unlock(&obj->lock);
	}
	pthread_join(stopper, NULL);
	ept_reader_free(reader);
	ck_assert_ptr_null(obj->reads);
	ck_assert_uint_eq(obj->refs, 1); /* the area's */
	vm_destroy(&vm);
}
END_TEST

START_TEST(without_io_uring)
{
	struct vm vm;

	fake_uring_absent(-EPERM);
	vm = vm_file(PAGES * PAGE, EPT_FILE_COW);
	ck_assert_str_eq(ept_space_reads_by(vm.space), "pread");
	read_ahead_all(&vm, 256);
	ck_assert_uint_eq(ahead_stats(&vm).pages, 256);
	read_pages(&vm, 0, PAGES);
	ept_space_stop(vm.space);
	ck_assert_uint_eq(file_bytes_read(&vm), PAGES * PAGE);
	ck_assert_uint_eq(inject_get(bytes_read), PAGES * PAGE);
	assert_contents(&vm, PAGES);
	vm_destroy(&vm);
}
END_TEST

START_TEST(what_nobody_takes_is_wasted)
{
	struct vm vm = vm_file(PAGES * PAGE, EPT_FILE_COW);

	ck_assert_str_eq(ept_space_reads_by(vm.space), "io_uring");
	read_ahead_all(&vm, 256);
	ck_assert_uint_eq(ahead_stats(&vm).wasted, 256);
	ck_assert_int_eq(fault(&vm, 40, EPT_READ), EPT_RESOLVED);
	ck_assert_uint_eq(ahead_stats(&vm).used, 16);
	ck_assert_int_eq(fault(&vm, 100, EPT_WRITE), EPT_RESOLVED);
	ck_assert_uint_eq(ahead_stats(&vm).used, 17);
	ck_assert_uint_eq(ahead_stats(&vm).wasted, 256 - 17);
	ck_assert_uint_eq(res.bytes_read, 0);
	vm_destroy(&vm);
}
END_TEST

/* Written first, in order: copied ahead in runs, read once, hardly more of it than written. */
START_TEST(written_in_order)
{
	struct vm vm = vm_file(PAGES * PAGE, EPT_FILE_COW);
	enum ept_origin origin = _i ? EPT_ORIGIN_KVM : EPT_ORIGIN_VCPU;
	unsigned taken = 0, written = 1000, own = 0;

	for (uint64_t page = 0; page < written; page++) {
		enum fake_page p = fake_page(vm.hva + page * PAGE);

		if (p == FAKE_OWN || p == FAKE_WRITABLE)
			continue;
		/* A page that is there and protected faults in the guest's own name. */
		ck_assert_int_eq(
		    fault_by(&vm, page, EPT_WRITE, p == FAKE_NONE ? origin : EPT_ORIGIN_VCPU),
		    EPT_RESOLVED);
		taken++;
	}
	for (uint64_t page = 0; page < PAGES; page++)
		own += fake_page(vm.hva + page * PAGE) == FAKE_OWN ||
		       fake_page(vm.hva + page * PAGE) == FAKE_WRITABLE;
	ck_assert_uint_le(taken, written / 8);
	ck_assert_uint_ge(own, written);
	ck_assert_uint_le(own, written + written / 16);
	ck_assert(has_pattern(vm.hva + 900 * PAGE, 900 * PAGE, PAGE));
	ept_space_stop(vm.space);
	ck_assert_uint_eq(file_bytes_read(&vm), area_info(&vm).file_read); /* no page twice */
	ck_assert_uint_eq(fake_double_installs(), 0);
	vm_destroy(&vm);
}
END_TEST

/* Read, then written in order: each page that may be written now was asked for or granted. */
START_TEST(granted_in_order)
{
	struct vm vm = vm_file(PAGES * PAGE, EPT_FILE_COW);
	struct ept_case_stats wp;
	unsigned own = 0;

	read_pages(&vm, 0, PAGES);
	for (uint64_t page = 0; page < 1000; page++)
		if (fake_page(vm.hva + page * PAGE) == FAKE_PROTECTED)
			ck_assert_int_eq(fault(&vm, page, EPT_WRITE), EPT_RESOLVED);
	for (uint64_t page = 0; page < PAGES; page++)
		own += fake_page(vm.hva + page * PAGE) != FAKE_PROTECTED;
	ept_space_stop(vm.space);
	wp = case_stats(&vm, EPT_CASE_FILE_WP);
	ck_assert_uint_gt(wp.granted, 0);
	ck_assert_uint_eq(wp.faults + wp.granted, own);
	vm_destroy(&vm);
}
END_TEST

/* Pages written here and there are copied one by one. */
START_TEST(written_at_random)
{
	struct vm vm = vm_file(PAGES * PAGE, EPT_FILE_COW);

	for (uint64_t i = 0; i < 200; i++) {
		ck_assert_int_eq(fault(&vm, i * 7919 % PAGES, EPT_WRITE), EPT_RESOLVED);
		ck_assert_uint_eq(res.installed, 1);
		ck_assert_uint_eq(res.bytes_read, PAGE);
	}
	ck_assert_uint_eq(ahead_stats(&vm).reads, 0);
	vm_destroy(&vm);
}
END_TEST

Suite *suite_ahead(void)
{
	Suite *suite = suite_create("ept: reading ahead");
	TCase *tc = tcase_create("ahead");

	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, several_reads_under_way);
	tcase_add_test(tc, as_many_under_way_as_buffers);
	tcase_add_test(tc, what_comes_counts);
	tcase_add_test(tc, waiters_of_one_page_cause_one_read);
	tcase_add_test(tc, a_fault_does_not_queue);
	tcase_add_loop_test(tc, short_and_interrupted, 0, 3);
	tcase_add_loop_test(tc, failed, 0, 5);
	tcase_add_test(tc, failed_twice);
	tcase_add_test(tc, truncated_under_a_read);
	tcase_add_test(tc, stop_drains);
	tcase_add_loop_test(tc, stop_waits_for_what_is_out, 0, 2);
	tcase_add_test(tc, without_io_uring);
	tcase_add_test(tc, what_nobody_takes_is_wasted);
	tcase_add_loop_test(tc, written_in_order, 0, 2);
	tcase_add_test(tc, granted_in_order);
	tcase_add_test(tc, written_at_random);
	suite_add_tcase(suite, tc);
	return suite;
}
