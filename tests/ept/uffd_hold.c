/* A space that is held, as around a fork: faults wait, and nothing is half way. */
#include "tests/ept/fork_rig.h"
#include "tests/ept/uffd_suites.h"

#include <pthread.h>
#include <sched.h>

struct toucher {
	struct vm *vm;
	unsigned done;
};

static void *touch_one(void *arg)
{
	struct toucher *t = arg;

	*at(t->vm, 9) = 1;
	__atomic_store_n(&t->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

START_TEST(held_faults_wait)
{
	struct ept_config config = {
	    .vm_name = "test", .log = true, .vcpus = 1, .engine = EPT_ENGINE_HANDLER};
	struct vm vm = vm_create(&config, -1, 0, 64 * PAGE, EPT_FILE_COW);
	struct toucher t = {.vm = &vm};
	struct ept_fork f;
	pthread_t thread;

	ck_assert_int_eq(ept_space_fork_begin(vm.space, &f), -EINVAL);
	ck_assert_int_eq(ept_space_hold(vm.space, HOLD_MS), 0);
	ck_assert_int_eq(ept_space_hold(vm.space, HOLD_MS), -EBUSY);
	ck_assert_int_eq(pthread_create(&thread, NULL, touch_one, &t), 0);
	/* Its event was read, so its fault stands at the gate or before it. */
	while (!events(vm.space))
		sched_yield();
	/* The holder's own touch passes. */
	ck_assert_int_eq(ept_write(vm.space, GPA(5 * PAGE), "x", 1, EPT_ORIGIN_DEVICE), 0);
	ck_assert_uint_eq(__atomic_load_n(&t.done, __ATOMIC_ACQUIRE), 0);
	assert_faults(&vm, EPT_CASE_ANON_WRITE, 1);
	ept_space_release(vm.space);
	pthread_join(thread, NULL);
	ck_assert_int_eq(ept_space_hold(vm.space, HOLD_MS), 0);
	assert_faults(&vm, EPT_CASE_ANON_WRITE, 2);
	ept_space_release(vm.space);
	vm_destroy(&vm);
}
END_TEST

/* A read that does not end: nothing is held afterwards. */
START_TEST(hold_has_a_limit)
{
	struct vm vm = vm_file(64 * PAGE, EPT_FILE_COW);
	struct toucher t = {.vm = &vm};
	pthread_t thread;

	inject_set(bad_to, 64 * PAGE);
	inject_set(block, true);
	ck_assert_int_eq(pthread_create(&thread, NULL, touch_one, &t), 0);
	while (!inject_get(blocked))
		sched_yield();
	ck_assert_int_eq(ept_space_hold(vm.space, 1), -ETIMEDOUT);
	inject_set(block, false);
	pthread_join(thread, NULL);
	ck_assert_int_eq(ept_space_hold(vm.space, HOLD_MS), 0);
	ept_space_stop(vm.space); /* held or not */
	ck_assert_int_eq(ept_space_hold(vm.space, HOLD_MS), -EBUSY);
	ept_space_release(vm.space);
	ck_assert_int_eq(ept_space_hold(vm.space, HOLD_MS), -ESHUTDOWN);
	vm_destroy(&vm);
}
END_TEST

Suite *suite_uffd_hold(void)
{
	Suite *suite = suite_create("ept on userfaultfd: hold");
	TCase *tc = tcase_create("hold");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, held_faults_wait);
	tcase_add_test(tc, hold_has_a_limit);
	suite_add_tcase(suite, tc);
	return suite;
}
