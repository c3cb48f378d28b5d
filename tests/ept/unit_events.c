/* Fault threads, fed with events of our own making. */
#include "ept/uffd_compat.h"
#include "tests/ept/fake_install.h"
#include "tests/ept/unit_suites.h"
#include "tests/ept/util.h"

#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define WRITE UFFD_PAGEFAULT_FLAG_WRITE
#define WP    UFFD_PAGEFAULT_FLAG_WP

static void send(const struct vm *vm, uint64_t page, uint64_t flags, pid_t tid)
{
	fake_event(&vm->space->installer, vm->hva + page * PAGE, flags, tid);
}

static void wait_for(const struct vm *vm, uint64_t n)
{
	while (event_faults(vm->space) < n)
		usleep(200);
}

START_TEST(origins)
{
	struct vm vm = vm_anon(64 * PAGE);

	send(&vm, 1, WRITE, gettid());
	send(&vm, 2, WRITE, gettid() + 12345);
	send(&vm, 3, 0, gettid());
	send(&vm, 3, WP | WRITE, gettid());
	wait_for(&vm, 4);
	ck_assert_uint_eq(case_stats(&vm, EPT_CASE_ANON_WRITE).by_origin[EPT_ORIGIN_VCPU], 1);
	ck_assert_uint_eq(case_stats(&vm, EPT_CASE_ANON_WRITE).by_origin[EPT_ORIGIN_KVM], 1);
	ck_assert_uint_eq(case_stats(&vm, EPT_CASE_ANON_WRITE).latency.count, 2);
	assert_faults(&vm, EPT_CASE_ANON_READ, 1);
	assert_faults(&vm, EPT_CASE_ANON_WP, 1);
	vm_destroy(&vm); /* also: events equal the sum of cases */
}
END_TEST

/* An event that comes late is woken once more and counted; nothing is installed twice. */
START_TEST(late_events)
{
	struct vm vm = vm_anon(64 * PAGE);
	unsigned woken;

	send(&vm, 1, WRITE, gettid());
	wait_for(&vm, 1);
	woken = fake_wakes(vm.hva + PAGE);
	send(&vm, 1, 0, gettid());
	send(&vm, 1, WP | WRITE, gettid());
	wait_for(&vm, 3);
	ck_assert_uint_eq(fake_wakes(vm.hva + PAGE), woken + 2);
	assert_faults(&vm, EPT_CASE_SPURIOUS, 2);
	ck_assert_uint_eq(fake_double_installs(), 0);
	vm_destroy(&vm);
}
END_TEST

/*
 * While page 3 is read its window is in transit: events there are left alone,
 * a device waits, and the install at the end wakes them all.
 */
static void *read_as_device(void *arg)
{
	const struct vm *vm = arg;
	char c;

	return (void *)(intptr_t)ept_read(vm->space, GPA(5 * PAGE), &c, 1, EPT_ORIGIN_DEVICE);
}

START_TEST(transit)
{
	struct ept_config config = one_thread;
	pthread_t device;
	struct vm vm;
	void *result;

	config.vcpus = 2;
	vm = vm_file_with(&config, 64 * PAGE, EPT_FILE_COW);
	inject_block(0, 64 * PAGE);
	send(&vm, 3, 0, gettid());
	inject_wait_blocked();
	send(&vm, 3, WRITE, gettid());
	send(&vm, 9, 0, gettid());
	wait_for(&vm, 2);
	assert_faults(&vm, EPT_CASE_TRANSIT, 2);
	ck_assert_uint_eq(fake_wakes(vm.hva + 3 * PAGE), 0);
	pthread_create(&device, NULL, read_as_device, &vm);
	while (!waits_in_transit(&vm))
		usleep(200);
	inject_set(block, false);
	pthread_join(device, &result);
	ck_assert_ptr_null(result);
	wait_for(&vm, 3);
	ck_assert_uint_ge(fake_wakes(vm.hva + 3 * PAGE), 1);
	ck_assert_uint_ge(fake_wakes(vm.hva + 9 * PAGE), 1);
	assert_faults(&vm, EPT_CASE_TRANSIT, 3);
	assert_faults(&vm, EPT_CASE_FILE_READ, 1);
	ck_assert_uint_eq(inject_get(preads), 1);
	ck_assert_uint_eq(fake_double_installs(), 0);
	vm_destroy(&vm);
}
END_TEST

static int cpu_allowed(pid_t tid)
{
	cpu_set_t set;

	ck_assert_int_eq(sched_getaffinity(tid, sizeof(set), &set), 0);
	for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&set) == 1; cpu++)
		if (CPU_ISSET(cpu, &set))
			return cpu;
	return -1;
}

/* The thread that serves vCPU 0, by its name. */
static pid_t fault_thread_tid(void)
{
	DIR *dir = opendir("/proc/self/task");
	pid_t found = -1;

	ck_assert_ptr_nonnull(dir);
	for (struct dirent *e; (e = readdir(dir));) {
		char path[320], name[32] = "";
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", e->d_name);
		f = fopen(path, "re");
		if (f && fgets(name, sizeof(name), f) && !strcmp(name, "foal-fault/0\n"))
			found = (pid_t)atoi(e->d_name);
		if (f)
			fclose(f);
	}
	closedir(dir);
	return found;
}

START_TEST(thread_follows_its_vcpu)
{
	struct vm vm = vm_anon(4096 * PAGE);
	cpu_set_t set;
	int cpu = sched_getcpu();
	pid_t tid;

	/* This thread is the vCPU, and the fault thread looks where it is. */
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
	while ((tid = fault_thread_tid()) < 0) /* it names itself when it begins */
		usleep(1000);
	ept_vcpu_on_cpu(vm.space, 0, cpu);
	ept_vcpu_on_cpu(vm.space, 1000, cpu); /* no such vCPU: ignored */
	send(&vm, 1, WRITE, gettid());
	while (cpu_allowed(tid) != cpu)
		usleep(1000);
	/* A vCPU that never comes back to user space is found by looking. */
	ept_vcpu_on_cpu(vm.space, 0, cpu == 0 ? 1 : 0);
	for (uint64_t page = 2; page < 600; page++) {
		send(&vm, page, WRITE, gettid());
		wait_for(&vm, page);
	}
	ck_assert_int_eq(cpu_allowed(tid), cpu);
	vm_destroy(&vm);
}
END_TEST

static const struct vm *woken_vm;
static unsigned wakes;

/* Who is woken may run at once: it must find the leaf free, and noted what is there. */
static void is_noted(char *hva, size_t len)
{
	gpa_t gpa = GPA((uint64_t)(hva - woken_vm->hva));
	struct ept_leaf *leaf = ept_mirror_find(&woken_vm->space->mirror, gpa);

	ck_assert_ptr_nonnull(leaf);
	ck_assert_int_eq(pthread_mutex_trylock(&leaf->lock), 0);
	pthread_mutex_unlock(&leaf->lock);
	for (size_t i = 0; i < len / PAGE; i++) {
		enum ept_pte pte = ept_pte_get(leaf, ept_leaf_index(gpa) + (unsigned)i);

		ck_assert(pte != EPT_PTE_NONE && pte != EPT_PTE_TRANSIT);
	}
	wakes++;
}

/* Resolve a fault on page 3 in this thread, and have its wake looked at. */
static void fault_noted(struct vm *vm, enum ept_access access)
{
	struct ept_resolution res;

	woken_vm = vm;
	wakes = 0;
	fake_before_wake = is_noted;
	ck_assert_int_eq(fault_as(vm, 3, access, EPT_ORIGIN_DEVICE, 0, &res), EPT_RESOLVED);
	fake_before_wake = NULL;
	ck_assert_uint_eq(wakes, 1);
}

START_TEST(woken_when_noted)
{
	const struct first_touch *touch = &first_touches[_i];
	struct vm vm = vm_file(64 * PAGE, touch->mode);

	fault_noted(&vm, touch->access);
	if (touch->access == EPT_READ && touch->mode != EPT_FILE_RO)
		fault_noted(&vm, EPT_WRITE);
	vm_destroy(&vm);
}
END_TEST

START_TEST(woken_when_noted_anonymous)
{
	struct ept_config config = one_thread;
	struct vm vm;

	config.huge = _i ? EPT_HUGE_ALWAYS : EPT_HUGE_NEVER;
	vm = vm_create(&config, -1, 0, EPT_LEAF_BYTES, EPT_FILE_COW);
	if (!_i)
		fault_noted(&vm, EPT_READ);
	fault_noted(&vm, EPT_WRITE);
	vm_destroy(&vm);
}
END_TEST

START_TEST(stray_events_are_ignored)
{
	struct vm vm = vm_anon(64 * PAGE);

	send(&vm, 4096, WRITE, gettid()); /* an address that is not ours */
	send(&vm, 1, WRITE, gettid());
	wait_for(&vm, 1);
	ck_assert_ptr_null(ept_space_failure(vm.space));
	vm_destroy(&vm);
}
END_TEST

Suite *suite_events(void)
{
	Suite *suite = suite_create("ept: events");
	TCase *tc = tcase_create("events");

	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, origins);
	tcase_add_test(tc, late_events);
	tcase_add_test(tc, transit);
	tcase_add_test(tc, thread_follows_its_vcpu);
	tcase_add_loop_test(tc, woken_when_noted, 0, FIRST_TOUCHES);
	tcase_add_loop_test(tc, woken_when_noted_anonymous, 0, 2);
	tcase_add_test(tc, stray_events_are_ignored);
	suite_add_tcase(suite, tc);
	return suite;
}
