/* Several guests at once, and the end of a space under them. */
#include "tests/ept/uffd_suites.h"
#include "tests/ept/util.h"

#include <sched.h>
#include <stdlib.h>

#define GUESTS 4
#define PAGES  512U

struct guest {
	struct vm *vm;
	unsigned vcpu;
	unsigned seed;
	pthread_t thread;
};

static struct vm vm_of_kind(int fd, int kind, bool atomic_protect)
{
	static const enum ept_file_mode modes[] = {EPT_FILE_COW, EPT_FILE_COW, EPT_FILE_SHARED};
	struct ept_config config = one_thread;

	config.vcpus = GUESTS;
	vm_without_atomic_protect = !atomic_protect;
	return vm_create(&config, kind ? fd : -1, 0, PAGES * PAGE, modes[kind]);
}

/* Each guest reads and writes its own 8 bytes of every page, in an order of its own. */
static void *guest_main(void *arg)
{
	struct guest *g = arg;

	ept_vcpu_bind(g->vm->space, g->vcpu, gettid());
	for (unsigned i = 0; i < 4 * PAGES; i++) {
		unsigned page = (unsigned)rand_r(&g->seed) % PAGES;
		volatile uint64_t *word = (volatile uint64_t *)(g->vm->hva + page * PAGE) + g->vcpu;

		ept_vcpu_on_cpu(g->vm->space, g->vcpu, sched_getcpu());
		if (rand_r(&g->seed) & 1)
			*word = (uint64_t)page << 8 | g->vcpu;
		else
			(void)*word;
	}
	for (unsigned page = 0; page < PAGES; page++) {
		volatile uint64_t *word = (volatile uint64_t *)(g->vm->hva + page * PAGE) + g->vcpu;

		*word = (uint64_t)page << 8 | g->vcpu;
	}
	return NULL;
}

START_TEST(guests_on_one_memory)
{
	int fd = temp_file(PAGES * PAGE), kind = _i % 3;
	struct vm vm = vm_of_kind(fd, kind, _i < 3);
	struct guest guests[GUESTS];

	inject_set(pread_delay_us, 50);
	for (unsigned i = 0; i < GUESTS; i++) {
		guests[i] = (struct guest){.vm = &vm, .vcpu = i, .seed = i + 1};
		pthread_create(&guests[i].thread, NULL, guest_main, &guests[i]);
	}
	for (unsigned i = 0; i < GUESTS; i++)
		pthread_join(guests[i].thread, NULL);
	ck_assert_ptr_null(ept_space_failure(vm.space));
	for (unsigned page = 0; page < PAGES; page++) {
		for (unsigned i = 0; i < GUESTS; i++)
			ck_assert_uint_eq(((uint64_t *)(vm.hva + page * PAGE))[i],
					  (uint64_t)page << 8 | i);
		if (kind)
			ck_assert(has_pattern(vm.hva + page * PAGE + 8 * GUESTS,
					      page * PAGE + 8 * GUESTS, PAGE - 8 * GUESTS));
	}
	if (kind)
		ck_assert_uint_eq(file_bytes_read(&vm), PAGES * PAGE); /* no page twice */
	ck_assert_uint_eq(area_info(&vm).resident, PAGES * PAGE);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

static void *touch(void *p)
{
	return (void *)(uintptr_t) * (volatile char *)p;
}

static void *read_as_device(void *arg)
{
	const struct vm *vm = arg;
	char c;

	return (void *)(intptr_t)ept_read(vm->space, GPA(4 * PAGE), &c, 1, EPT_ORIGIN_DEVICE);
}

/* The second touch comes while the first reads: it is in transit, and is woken. */
START_TEST(transit)
{
	struct ept_config config = one_thread;
	struct vm vm;
	pthread_t guests[4], device;
	void *result;

	config.vcpus = 2;
	vm = vm_file_with(&config, 64 * PAGE, EPT_FILE_COW);
	inject_block(0, 64 * PAGE);
	pthread_create(&guests[0], NULL, touch, vm.hva + 3 * PAGE);
	inject_wait_blocked();
	pthread_create(&guests[1], NULL, touch, vm.hva + 3 * PAGE);
	pthread_create(&guests[2], NULL, touch, vm.hva + 9 * PAGE);
	pthread_create(&guests[3], NULL, touch, vm.hva + 15 * PAGE);
	pthread_create(&device, NULL, read_as_device, &vm);
	while (faults(&vm, EPT_CASE_TRANSIT) < 3 || !waits_in_transit(&vm))
		usleep(1000);
	inject_set(block, false);
	pthread_join(device, &result);
	ck_assert_ptr_null(result);
	for (int i = 0; i < 4; i++)
		pthread_join(guests[i], NULL);
	ept_space_stop(vm.space);
	ck_assert_uint_eq(inject_get(preads), 1);
	assert_faults(&vm, EPT_CASE_FILE_READ, 1);
	assert_faults(&vm, EPT_CASE_TRANSIT, 4);
	ck_assert_uint_eq(case_stats(&vm, EPT_CASE_TRANSIT).by_origin[EPT_ORIGIN_DEVICE], 1);
	vm_destroy(&vm);
}
END_TEST

/* The read of a whole window fails; a guest waiting for a neighbour is not left asleep. */
START_TEST(transit_of_a_failed_window)
{
	struct ept_config config = one_thread;
	struct vm vm;
	pthread_t bad, good;

	config.vcpus = 2;
	vm = vm_file_with(&config, 64 * PAGE, EPT_FILE_COW);
	inject_set(pread_errno, EIO);
	inject_block(0, PAGE);
	pthread_create(&bad, NULL, touch, vm.hva);
	inject_wait_blocked();
	pthread_create(&good, NULL, touch, vm.hva + 9 * PAGE);
	while (!faults(&vm, EPT_CASE_TRANSIT))
		usleep(1000);
	inject_set(block, false);
	pthread_join(good, NULL);
	while (!ept_space_failure(vm.space)) /* said by the thread that woke the good one */
		usleep(1000);
	ept_space_stop(vm.space);
	pthread_join(bad, NULL);
	/* Its neighbour's window may have woken the bad one to fail once more. */
	ck_assert_uint_ge(faults(&vm, EPT_CASE_IO_ERROR), 1);
	vm_destroy(&vm);
}
END_TEST

/* The storage answers again once @space is being stopped. */
static void *answer_then(void *space)
{
	while (!ept_dying(space))
		usleep(1000);
	inject_set(block, false);
	return NULL;
}

/* Stop while a read hangs: the waiter comes back, the space can be destroyed. */
START_TEST(stop_with_a_waiter_stuck)
{
	struct vm vm = vm_file(64 * PAGE, EPT_FILE_SHARED);
	pthread_t guest, storage;

	inject_block(0, 64 * PAGE);
	pthread_create(&guest, NULL, touch, vm.hva + 3 * PAGE);
	inject_wait_blocked();
	pthread_create(&storage, NULL, answer_then, vm.space);
	ept_space_stop(vm.space);
	pthread_join(storage, NULL);
	ept_space_stop(vm.space); /* twice is once */
	pthread_join(guest, NULL);
	assert_faults(&vm, EPT_CASE_DYING, 1);
	vm_destroy(&vm);
}
END_TEST

struct copier {
	const struct vm *vm;
	enum ept_access access;
};

static void *copy_as_device(void *arg)
{
	const struct copier *c = arg;
	char byte = 7;
	int err = c->access == EPT_READ
		      ? ept_read(c->vm->space, GPA(0), &byte, 1, EPT_ORIGIN_DEVICE)
		      : ept_write(c->vm->space, GPA(0), &byte, 1, EPT_ORIGIN_DEVICE);

	return (void *)(intptr_t)err;
}

static void *stop_space(void *space)
{
	ept_space_stop(space);
	return NULL;
}

/*
 * A device has found its page granted, and reclaim takes it away before the device copies:
 * if the space is stopped then, the copy ends on zeros, and may not be called one. The test
 * is where reclaim is between a page that goes and its entry.
 */
START_TEST(stop_under_a_device_that_copies)
{
	struct vm vm = vm_anon(PAGE);
	struct copier copier = {&vm, _i ? EPT_WRITE : EPT_READ};
	struct ept_leaf *leaf;
	pthread_t device, stopper;
	uint64_t seen;
	void *result;

	*at(&vm, 0) = 7;
	leaf = ept_mirror_find(&vm.space->mirror, GPA(0));
	pthread_mutex_lock(&leaf->lock);
	ck_assert_int_eq(ept_pte_get(leaf, 0), EPT_PTE_PRIVATE);
	seen = events(vm.space);
	ck_assert_int_eq(ept_install_drop(&vm.space->installer, vm.hva, PAGE), 0);
	pthread_create(&device, NULL, copy_as_device, &copier);
	while (events(vm.space) == seen) /* it copies */
		usleep(1000);
	pthread_create(&stopper, NULL, stop_space, vm.space);
	while (!ept_dying(vm.space))
		usleep(1000);
	pthread_mutex_unlock(&leaf->lock);
	pthread_join(device, &result);
	ck_assert_int_eq((int)(intptr_t)result, -ESHUTDOWN);
	pthread_join(stopper, NULL);
	vm_destroy(&vm);
}
END_TEST

#define LATE	 16U
#define LATE_GAP 20U /* us from one to the next */

struct late {
	const struct vm *vm;
	uint64_t page;
	unsigned us; /* that it waits when the stop has begun: they come all along it */
	pthread_t thread;
};

static void *touch_late(void *arg)
{
	const struct late *l = arg;

	while (!ept_dying(l->vm->space))
		usleep(20);
	usleep(l->us);
	return touch((void *)(uintptr_t)at(l->vm, l->page));
}

/*
 * Whoever sleeps when the fault threads have ended is woken by the host as memory is taken off
 * its list. It wakes first and takes off then, going over all that is there: who comes
 * meanwhile sleeps, too, and has to be woken.
 */
START_TEST(stop_wakes_who_comes_late)
{
	uint64_t there = 8 * EPT_LEAF_BYTES;
	struct vm vm = vm_anon(there + EPT_LEAF_BYTES);
	struct late late[LATE];
	struct iovec iov;

	ck_assert_int_eq(ept_map(vm.space, GPA(0), there, EPT_WRITE, EPT_ORIGIN_LOADER, &iov, 1),
			 1);
	for (unsigned i = 0; i < LATE; i++) {
		late[i] = (struct late){.vm = &vm, .page = there / PAGE + i, .us = i * LATE_GAP};
		pthread_create(&late[i].thread, NULL, touch_late, &late[i]);
	}
	ept_space_stop(vm.space);
	for (unsigned i = 0; i < LATE; i++)
		pthread_join(late[i].thread, NULL);
	vm_destroy(&vm);
}
END_TEST

START_TEST(discard_under_writers)
{
	struct vm vm = vm_of_kind(-1, 0, true);
	struct guest guests[GUESTS];

	for (unsigned i = 0; i < GUESTS; i++) {
		guests[i] = (struct guest){.vm = &vm, .vcpu = i, .seed = i + 1};
		pthread_create(&guests[i].thread, NULL, guest_main, &guests[i]);
	}
	for (int i = 0; i < 50; i++)
		discard(&vm, 0, PAGES / 2);
	for (unsigned i = 0; i < GUESTS; i++)
		pthread_join(guests[i].thread, NULL);
	for (unsigned page = PAGES / 2; page < PAGES; page++)
		ck_assert_uint_eq(*(uint64_t *)(vm.hva + page * PAGE), (uint64_t)page << 8);
	discard(&vm, 0, PAGES);
	ck_assert_uint_eq(area_info(&vm).resident, 0);
	vm_destroy(&vm);
}
END_TEST

START_TEST(spaces_come_and_go)
{
	int before = dup(0);

	for (int i = 0; i < 50; i++) {
		struct vm vm = vm_anon(1024 * PAGE);

		vm.hva[i * PAGE] = 1;
		vm_destroy(&vm);
	}
	ck_assert_int_eq(dup(0), before + 1); /* no descriptor was left behind */
}
END_TEST

Suite *suite_uffd_races(void)
{
	Suite *suite = suite_create("ept on userfaultfd: races");
	TCase *tc = tcase_create("races");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, guests_on_one_memory, 0, 6);
	tcase_add_test(tc, transit);
	tcase_add_test(tc, transit_of_a_failed_window);
	tcase_add_test(tc, stop_with_a_waiter_stuck);
	tcase_add_loop_test(tc, stop_under_a_device_that_copies, 0, 2);
	tcase_add_loop_test(tc, stop_wakes_who_comes_late, 0, 5);
	tcase_add_test(tc, discard_under_writers);
	tcase_add_test(tc, spaces_come_and_go);
	suite_add_tcase(suite, tc);
	return suite;
}
