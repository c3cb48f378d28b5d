/* Faults that do not end, and fault threads that do. */
#include "ept/watch.h"
#include "tests/ept/reclaim_rig.h"
#include "tests/ept/unit_suites.h"

#include <fcntl.h>

#define HUNG	20  /* reads of this page do not return */
#define STEP_MS 100 /* between two looks */
#define STEPS	10  /* the second that a fault has */

/* Its clock stands still. */
static struct vm vm_watched(int fd, unsigned vcpus)
{
	struct ept_config config = one_thread;

	config.vcpus = vcpus;
	config.fault_timeout = 1;
	inject_clock_stop();
	return vm_create(&config, fd, 0, 64 * PAGE, EPT_FILE_COW);
}

/* Look again and again until something hangs: how often. */
static unsigned looks_until_hung(const struct vm *vm)
{
	unsigned looks = 1;

	for (; !ept_space_check(vm->space); looks++) {
		inject_clock_passes(STEP_MS);
		usleep(1000); /* for who is on the way to where it hangs */
	}
	return looks - 1;
}

static void *read_as_device(void *arg)
{
	const struct vm *vm = arg;
	char c;

	return (void *)(intptr_t)ept_read(vm->space, GPA(HUNG * PAGE), &c, 1, EPT_ORIGIN_DEVICE);
}

/* A device whose read does not come back until let_go(). */
static pthread_t hang(struct vm *vm)
{
	pthread_t device;

	inject_block(HUNG * PAGE, (HUNG + 1) * PAGE);
	pthread_create(&device, NULL, read_as_device, vm);
	inject_wait_blocked();
	return device;
}

static void let_go(pthread_t device)
{
	void *result;

	inject_set(block, false);
	pthread_join(device, &result);
	ck_assert_ptr_null(result);
}

START_TEST(hung_read)
{
	int fd = temp_file(64 * PAGE);
	struct vm vm = vm_watched(fd, 1);
	const struct ept_failure *failure;
	pthread_t device;

	device = hang(&vm);
	ept_space_check(vm.space);
	ck_assert_ptr_null(ept_space_failure(vm.space)); /* it has a second */
	ck_assert_uint_eq(looks_until_hung(&vm), STEPS);
	failure = ept_space_failure(vm.space);
	ck_assert_int_eq(failure->error, -ETIMEDOUT);
	ck_assert_int_eq(failure->kase, EPT_CASE_FILE_READ);
	ck_assert_uint_eq(failure->gpa.v, HUNG * PAGE);
	ck_assert_str_eq(failure->message,
			 "test: the fault at gpa 0x14000, byte 81920 of disk.img for pmem0 "
			 "(file_read, device), is not resolved after 1 s: it waits for a read of "
			 "its file, whose storage does not answer; mend that, or give a longer "
			 "--fault-timeout");
	let_go(device);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

/* Another failure came first: that something hangs is told all the same. */
START_TEST(hung_after_a_failure)
{
	int fd = temp_file(64 * PAGE);
	struct vm vm = vm_watched(fd, 1);
	pthread_t device;

	ept_area_fail(vm.area, GPA(0), -EIO, "read");
	device = hang(&vm);
	ck_assert_uint_eq(looks_until_hung(&vm), STEPS);
	ck_assert_int_eq(ept_space_failure(vm.space)->error, -EIO);
	let_go(device);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

/*
 * Who looks again after a long time was stopped, and with it who reads: the fault has
 * what was left of its second.
 */
START_TEST(a_stop_is_no_wait)
{
	int fd = temp_file(64 * PAGE);
	struct vm vm = vm_watched(fd, 1);
	pthread_t device;

	device = hang(&vm);
	ept_space_check(vm.space);
	inject_clock_passes(1800 * 1000); /* what Check measures has room for */
	ept_space_check(vm.space);
	ck_assert_ptr_null(ept_space_failure(vm.space));
	ck_assert_uint_eq(looks_until_hung(&vm), STEPS - EPT_LOOK_NS / 1000000 / STEP_MS);
	ck_assert_int_eq(ept_space_failure(vm.space)->error, -ETIMEDOUT);
	let_go(device);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

/* A second touch of the page waits for the first; the first is the one to name. */
START_TEST(hung_for_two)
{
	int fd = temp_file(64 * PAGE);
	struct vm vm = vm_watched(fd, 2);
	pthread_t device;

	inject_block(HUNG * PAGE, (HUNG + 1) * PAGE);
	fake_event(&vm.space->installer, vm.hva + HUNG * PAGE, 0, gettid());
	inject_wait_blocked();
	inject_clock_passes(1);
	pthread_create(&device, NULL, read_as_device, &vm);
	looks_until_hung(&vm);
	ck_assert_ptr_nonnull(strstr(ept_space_failure(vm.space)->message, "(file_read, vcpu)"));
	/* Looked at while a stop waits for it, as the monitor does. */
	ept_space_check(vm.space);
	let_go(device);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

/* Who holds a leaf's lock keeps everybody out of 2 MiB. */
START_TEST(hung_lock)
{
	int fd = temp_file(64 * PAGE);
	struct vm vm = vm_watched(fd, 1);
	struct ept_leaf *leaf = ept_mirror_get(&vm.space->mirror, GPA(0));
	pthread_t device;

	pthread_mutex_lock(&leaf->lock);
	pthread_create(&device, NULL, read_as_device, &vm);
	looks_until_hung(&vm);
	ck_assert_ptr_nonnull(
	    strstr(ept_space_failure(vm.space)->message, "waits for the lock of"));
	pthread_mutex_unlock(&leaf->lock);
	pthread_join(device, NULL);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

/* A pipe that takes no more; who writes to it waits. */
static void fill(int fd)
{
	static const char bytes[PAGE];

	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (write(fd, bytes, sizeof(bytes)) > 0)
		;
	fcntl(fd, F_SETFL, 0);
}

static bool is_any_pending(struct ept_space *space)
{
	pthread_mutex_lock(&space->watch_lock);
	bool is = space->pending;
	pthread_mutex_unlock(&space->watch_lock);
	return is;
}

/* The page is there: it is the trace that is not written. */
START_TEST(hung_trace)
{
	struct ept_config config = one_thread;
	int fd = temp_file(64 * PAGE), trace[2];
	char bytes[PAGE];
	pthread_t device;
	struct vm vm;

	ck_assert_int_eq(pipe(trace), 0);
	fill(trace[1]);
	config.fault_timeout = 1;
	config.trace_fd = trace[1];
	inject_clock_stop();
	vm = vm_create(&config, fd, 0, 64 * PAGE, EPT_FILE_COW);
	pthread_create(&device, NULL, read_as_device, &vm);
	while (!is_any_pending(vm.space))
		usleep(1000);
	looks_until_hung(&vm);
	ck_assert_ptr_nonnull(
	    strstr(ept_space_failure(vm.space)->message, "waits for the file of --trace"));
	close(trace[1]);
	while (read(trace[0], bytes, sizeof(bytes)) == sizeof(bytes))
		;
	pthread_join(device, NULL);
	vm_destroy(&vm);
	close(trace[0]);
	close(fd);
}
END_TEST

static void *touch_as_device(void *arg)
{
	const struct vm *vm = arg;
	struct ept_resolution own;

	return (void *)fault_as(vm, AT, W, EPT_ORIGIN_DEVICE, 0, &own);
}

static void *stop_space(void *arg)
{
	ept_space_stop(arg);
	return NULL;
}

/* It is on its way when this returns. */
static pthread_t begin_to_stop(struct vm *vm)
{
	pthread_t stop;

	pthread_create(&stop, NULL, stop_space, vm->space);
	while (!ept_dying(vm->space))
		usleep(1000);
	return stop;
}

/* The swap file does not give a page; or what room is made by is stuck, until the VM ends. */
START_TEST(hung_reclaim)
{
	static const char *const waits[] = {"(swap_write, device), is not resolved after 1 s: it "
					    "waits for a read of the swap file",
					    "(anon_write, device), is not resolved after 1 s: it "
					    "waits for room under the memory limit"};
	struct vm vm = _i ? vm_limited(ANON, true, true) : swapped_page();
	struct ept_reclaim *r = &vm.space->reclaim;
	const struct ept_failure *failure;
	pthread_t device, stop;
	void *result;

	vm.space->config.fault_timeout = 1;
	inject_clock_stop();
	if (_i) {
		__atomic_store_n(&r->manual, false, __ATOMIC_RELAXED);
		r->hard = 0;
		pthread_mutex_lock(&r->work);
	} else {
		inject_block(0, 1 << 20);
	}
	pthread_create(&device, NULL, touch_as_device, &vm);
	while (!__atomic_load_n(&inject.blocked, __ATOMIC_RELAXED) &&
	       !__atomic_load_n(&r->counts.waits, __ATOMIC_RELAXED))
		usleep(1000);
	looks_until_hung(&vm);
	failure = ept_space_failure(vm.space);
	ck_assert_int_eq(failure->error, -ETIMEDOUT);
	ck_assert_msg(strstr(failure->message, waits[_i]), "%s", failure->message);
	inject_set(block, false);
	if (_i) {
		stop = begin_to_stop(&vm);
		pthread_mutex_unlock(&r->work);
		pthread_join(stop, NULL);
	}
	pthread_join(device, &result);
	ck_assert_int_eq((int)(intptr_t)result, _i ? EPT_FATAL : EPT_RESOLVED);
	vm_destroy(&vm);
	close(swap.fd);
}
END_TEST

/* A stop waits for reclaim, which waits for storage: that is told of, too. */
START_TEST(stop_waits_for_reclaim)
{
	struct vm vm = vm_limited(ANON, true, true);
	struct ept_reclaim *r = &vm.space->reclaim;
	pthread_t stop;

	vm.space->config.fault_timeout = 1;
	inject_clock_stop();
	pthread_mutex_lock(&r->work);
	__atomic_store_n(&r->manual, false, __ATOMIC_RELAXED);
	r->high = 0;
	ck_assert(ept_reclaim_admit(vm.space, 1)); /* its thread is called */
	while (__atomic_load_n(&r->wanted, __ATOMIC_RELAXED))
		usleep(1000);
	stop = begin_to_stop(&vm);
	looks_until_hung(&vm);
	ck_assert_ptr_nonnull(strstr(ept_space_failure(vm.space)->message, "does not answer"));
	pthread_mutex_unlock(&r->work);
	pthread_join(stop, NULL);
	vm_destroy(&vm);
	close(swap.fd);
}
END_TEST

static void die(void *ctx, const char *kind)
{
	(void)ctx, (void)kind;
	pthread_exit(NULL);
}

START_TEST(dead_thread)
{
	struct ept_config config = one_thread;
	struct vm vm;

	config.thread_begins = die;
	vm = vm_create(&config, -1, 0, 64 * PAGE, EPT_FILE_COW);
	while (!ept_space_check(vm.space))
		usleep(1000);
	ck_assert_int_eq(ept_space_failure(vm.space)->error, -ESRCH);
	ck_assert_ptr_nonnull(
	    strstr(ept_space_failure(vm.space)->message, "fault thread 0 has ended"));
	vm_destroy(&vm); /* and it is joined once */
}
END_TEST

/* Many faults come and go under the watch; none is left in its list. */
START_TEST(nothing_is_left)
{
	int fd = temp_file(64 * PAGE);
	struct vm vm = vm_watched(fd, 2);
	char buf[64 * PAGE];

	ck_assert_int_eq(ept_read(vm.space, GPA(0), buf, sizeof(buf), EPT_ORIGIN_LOADER), 0);
	for (unsigned i = 0; i < 2 * STEPS; i++) {
		ck_assert(!ept_space_check(vm.space));
		inject_clock_passes(STEP_MS);
	}
	ck_assert_ptr_null(ept_space_failure(vm.space));
	ck_assert_ptr_null(vm.space->pending);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

Suite *suite_watch(void)
{
	Suite *suite = suite_create("ept: watch");
	TCase *tc = tcase_create("watch");

	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, hung_read);
	tcase_add_test(tc, hung_after_a_failure);
	tcase_add_test(tc, a_stop_is_no_wait);
	tcase_add_test(tc, hung_for_two);
	tcase_add_test(tc, hung_lock);
	tcase_add_test(tc, hung_trace);
	tcase_add_loop_test(tc, hung_reclaim, 0, 2);
	tcase_add_test(tc, stop_waits_for_reclaim);
	tcase_add_test(tc, dead_thread);
	tcase_add_test(tc, nothing_is_left);
	suite_add_tcase(suite, tc);
	return suite;
}
