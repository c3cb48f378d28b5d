/* The books of the faults, and when pages came. */
#include "tests/ept/unit_suites.h"
#include "tests/ept/util.h"

#include <pthread.h>
#include <stdio.h>

#define MS 1000000UL

/* An event as a fault thread reads it: counted, resolved, ended. */
static void event(const struct vm *vm, uint64_t page, enum ept_access access,
		  enum ept_origin origin)
{
	struct ept_resolution res;

	__atomic_fetch_add(&vm->space->events[origin], 1, __ATOMIC_RELAXED);
	fault_as(vm, page, access, origin, EPT_FAULT_EVENT, &res);
	__atomic_fetch_add(&vm->space->ended[origin], 1, __ATOMIC_RELEASE);
}

START_TEST(each_event_is_one_case)
{
	struct ept_reconciliation r;
	struct vm vm = vm_anon(16 * PAGE);

	event(&vm, 0, EPT_READ, EPT_ORIGIN_VCPU);
	event(&vm, 0, EPT_WRITE, EPT_ORIGIN_VCPU);
	event(&vm, 1, EPT_WRITE, EPT_ORIGIN_KVM);
	event(&vm, 1, EPT_WRITE, EPT_ORIGIN_VCPU);
	/* By a call, and as exits of KVM: neither is an event. */
	ck_assert_int_eq(ept_touch_page(vm.space, GPA(5 * PAGE), EPT_WRITE, EPT_ORIGIN_DEVICE), 0);
	ept_stray(vm.space, GPA(1UL << 40), EPT_READ);
	ept_stray(vm.space, GPA(1UL << 40), EPT_WRITE);
	ept_space_reconcile(vm.space, &r);
	ck_assert(r.settled);
	ck_assert_uint_eq(r.events[EPT_ORIGIN_VCPU], 3);
	ck_assert_uint_eq(r.counted[EPT_ORIGIN_VCPU], 3);
	ck_assert_uint_eq(r.counted[EPT_ORIGIN_KVM], 1);
	ck_assert_uint_eq(r.counted[EPT_ORIGIN_DEVICE], 1);
	ck_assert_uint_eq(r.exits, 2);
	ck_assert_uint_eq(r.cases[EPT_CASE_NO_AREA], 0);
	ck_assert_uint_eq(r.cases[EPT_CASE_ANON_READ], 1);
	ck_assert_uint_eq(r.cases[EPT_CASE_ANON_WP], 1);
	ck_assert_uint_eq(r.cases[EPT_CASE_ANON_WRITE], 1);
	ck_assert_uint_eq(r.cases[EPT_CASE_SPURIOUS], 1);
	for (int o = 0; o < EPT_NR_ORIGINS; o++) {
		ck_assert_uint_eq(r.in_flight[o], 0);
		ck_assert_int_eq(ept_reconciliation_open(&r, (enum ept_origin)o), 0);
	}
	vm.space->events[EPT_ORIGIN_VCPU] += 2; /* for vm_destroy(), which sums up, too */
	vm_destroy(&vm);
}
END_TEST

/* One that is under way is neither lost nor there; books that are wrong say so. */
START_TEST(what_does_not_close)
{
	struct ept_reconciliation r;
	struct vm vm = vm_anon(16 * PAGE);
	struct ept_resolution res;

	event(&vm, 0, EPT_WRITE, EPT_ORIGIN_VCPU);
	vm.space->events[EPT_ORIGIN_VCPU]++;
	ept_space_reconcile(vm.space, &r);
	ck_assert_uint_eq(r.in_flight[EPT_ORIGIN_VCPU], 1);
	ck_assert_int_eq(ept_reconciliation_open(&r, EPT_ORIGIN_VCPU), 0);
	vm.space->ended[EPT_ORIGIN_VCPU]++; /* and no case */
	ept_space_reconcile(vm.space, &r);
	ck_assert(r.settled);
	ck_assert_int_eq(ept_reconciliation_open(&r, EPT_ORIGIN_VCPU), 1);
	fault_as(&vm, 2, EPT_WRITE, EPT_ORIGIN_VCPU, EPT_FAULT_EVENT, &res);
	ept_space_reconcile(vm.space, &r);
	ck_assert_int_eq(ept_reconciliation_open(&r, EPT_ORIGIN_VCPU), 0);
	/* One that is counted and not ended: nobody can say. */
	fault_as(&vm, 3, EPT_WRITE, EPT_ORIGIN_VCPU, EPT_FAULT_EVENT, &res);
	ept_space_reconcile(vm.space, &r);
	ck_assert(!r.settled);
	vm.space->ending--; /* a case too many */
	ept_space_reconcile(vm.space, &r);
	ck_assert(r.settled);
	ck_assert_int_eq(ept_reconciliation_open(&r, EPT_ORIGIN_VCPU), -1);
	ck_assert_int_eq(ept_reconciliation_open(&r, EPT_ORIGIN_KVM), 0);
	vm.space->events[EPT_ORIGIN_VCPU]++;
	vm_destroy(&vm);
}
END_TEST

struct busy {
	struct vm vm;
	bool stop;
};

static void *fault_on(void *arg)
{
	struct busy *busy = arg;

	for (uint64_t i = 0; !__atomic_load_n(&busy->stop, __ATOMIC_RELAXED); i++)
		event(&busy->vm, i % 8, i & 8 ? EPT_WRITE : EPT_READ, EPT_ORIGIN_VCPU);
	return NULL;
}

/* Four threads fault without a pause: whenever the books settle, they close. */
START_TEST(while_faults_go_on)
{
	struct busy busy = {.vm = vm_anon(8 * PAGE)};
	pthread_t threads[4];
	uint64_t settled = 0, under_way = 0;

	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, fault_on, &busy), 0);
	for (int i = 0; i < 2000 || !settled; i++) {
		struct ept_reconciliation r;

		ept_space_reconcile(busy.vm.space, &r);
		if (!r.settled)
			continue;
		settled++;
		under_way += r.in_flight[EPT_ORIGIN_VCPU] != 0;
		ck_assert_int_eq(ept_reconciliation_open(&r, EPT_ORIGIN_VCPU), 0);
	}
	__atomic_store_n(&busy.stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	printf("2000 looks: %ju settled, %ju with a fault under way\n", (uintmax_t)settled,
	       (uintmax_t)under_way);
	vm_destroy(&busy.vm);
}
END_TEST

/* --- debt ----------------------------------------------------------------------------------- */

static struct ept_debt_point point(const struct vm *vm, unsigned percent)
{
	struct ept_debt_stats stats;
	struct ept_debt_point at;

	ept_space_debt(vm->space, &stats);
	stats.ns = UINT64_MAX;
	ept_debt_at(&stats, percent, &at);
	return at;
}

/* What came when is told within a sixteenth, and never too early. */
START_TEST(when_pages_came)
{
	struct vm vm = vm_anon(PAGE);
	struct ept_debt *debt = &vm.space->debt;
	const uint64_t begun = 1000 * MS;

	ept_space_begins(vm.space, begun);
	ept_debt_note(debt, begun - 1, 10, 0); /* before: counted as of the start */
	ept_debt_note(debt, begun + 3 * MS, 40, 4);
	ept_debt_note(debt, begun + 50 * MS, 40, 20);
	ept_debt_note(debt, begun + 7000 * MS, 10, 10);
	ck_assert_uint_eq(point(&vm, 10).ns, 0);
	ck_assert_uint_eq(point(&vm, 10).pages, 10);
	ck_assert_uint_eq(point(&vm, 50).pages, 50);
	ck_assert_uint_eq(point(&vm, 50).faults, 4);
	ck_assert_uint_ge(point(&vm, 50).ns, 3 * MS);
	ck_assert_uint_le(point(&vm, 50).ns, 3 * MS + 3 * MS / 16 + 1024);
	ck_assert_uint_ge(point(&vm, 51).ns, 50 * MS);
	ck_assert_uint_le(point(&vm, 90).ns, 50 * MS + 50 * MS / 16 + 1024);
	ck_assert_uint_eq(point(&vm, 90).faults, 24);
	ck_assert_uint_ge(point(&vm, 99).ns, 7000 * MS);
	ck_assert_uint_eq(point(&vm, 100).pages, 100);
	ck_assert_uint_eq(point(&vm, 100).faults, 34);
	/* Anew: what is there was there before, and its faults are nobody's. */
	ept_space_begins(vm.space, begun + 9000 * MS);
	ck_assert_uint_eq(point(&vm, 100).ns, 0);
	ck_assert_uint_eq(point(&vm, 100).pages, 100);
	ck_assert_uint_eq(point(&vm, 100).faults, 0);
	ept_debt_note(debt, UINT64_MAX, 1, 1); /* later than can be told */
	ck_assert_uint_eq(point(&vm, 100).pages, 101);
	ept_debt_clear(debt);
	ck_assert_uint_eq(point(&vm, 50).pages, 0);
	ck_assert_uint_eq(point(&vm, 50).ns, 0);
	vm_destroy(&vm);
}
END_TEST

/* A page counts when it is first there, whatever is done to it later. */
START_TEST(what_counts)
{
	struct vm vm = vm_anon(16 * PAGE);
	struct ept_debt_point all;
	struct ept_debt_stats stats;

	event(&vm, 0, EPT_READ, EPT_ORIGIN_VCPU);
	event(&vm, 0, EPT_WRITE, EPT_ORIGIN_VCPU); /* in place of the zero page */
	event(&vm, 0, EPT_WRITE, EPT_ORIGIN_VCPU); /* spurious */
	event(&vm, 1, EPT_WRITE, EPT_ORIGIN_KVM);
	ck_assert_int_eq(ept_touch_page(vm.space, GPA(5 * PAGE), EPT_WRITE, EPT_ORIGIN_DEVICE), 0);
	ept_space_debt(vm.space, &stats);
	ept_debt_all(&stats, &all);
	ck_assert_uint_eq(all.pages, 3);
	ck_assert_uint_eq(all.faults, 4);
	vm_destroy(&vm);
}
END_TEST

Suite *suite_reconcile(void)
{
	Suite *suite = suite_create("ept: reconcile");
	TCase *tc = tcase_create("reconcile");

	tcase_add_test(tc, each_event_is_one_case);
	tcase_add_test(tc, what_does_not_close);
	tcase_add_test(tc, while_faults_go_on);
	tcase_add_test(tc, when_pages_came);
	tcase_add_test(tc, what_counts);
	suite_add_tcase(suite, tc);
	return suite;
}
