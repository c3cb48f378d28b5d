/* What rounds of reclaim cost where little can go: in pages looked at, not in time. */
#include "ept/stats.h"
#include "tests/ept/reclaim_rig.h"
#include "tests/ept/unit_suites.h"

#define LIMIT	64U
#define TOUCHES 400U

/*
 * A VM of LIMIT pages without a swap file, of which @stay cannot go: cached when it was forked, or
 * own copies. Reclaim is called from @high on, and must from @hard on.
 */
static struct vm vm_full_of(unsigned stay, bool copies, unsigned high, unsigned hard)
{
	struct vm vm = vm_limited(EPT_FILE_COW, true, false);
	struct ept_reclaim *r = &vm.space->reclaim;

	for (uint64_t page = 0; page < stay; page++)
		ck_assert_int_eq(touch(&vm, page, copies ? W : R), EPT_RESOLVED);
	if (!copies)
		ck_assert_int_eq(ept_object_freeze(vm.area->obj, 1), 0);
	r->limit = LIMIT;
	r->window = 1;
	r->hard = hard;
	r->high = high;
	r->low = stay / 2;
	r->ring.size = 64;
	return vm;
}

static struct ept_reclaim_stats stats_of(const struct vm *vm)
{
	struct ept_reclaim_stats s;

	ck_assert(ept_reclaim_stats(vm->space, &s));
	return s;
}

/* A round, if somebody called for one. */
static void serve(const struct vm *vm)
{
	struct ept_reclaim *r = &vm->space->reclaim;

	pthread_mutex_lock(&r->lock);
	bool wanted = r->wanted;
	r->wanted = false;
	pthread_mutex_unlock(&r->lock);
	if (wanted)
		ept_reclaim_round(vm->space);
}

/*
 * What is left is frozen, and each fault brings the one page that can go. A round for each fault,
 * which looks at all that stays again and again, would be 4,400 pages looked at for each.
 */
START_TEST(little_can_go)
{
	struct vm vm = vm_full_of(44, false, 40, 60);
	struct ept_reclaim_stats s;

	for (unsigned i = 0; i < TOUCHES; i++) {
		ck_assert_int_eq(touch(&vm, 44 + i % (LIMIT - 44), R), EPT_RESOLVED);
		serve(&vm);
	}
	s = stats_of(&vm);
	ck_assert_uint_ge(s.dropped, TOUCHES - 2 * (LIMIT - 44));
	ck_assert_uint_le(s.rounds, TOUCHES / 8);
	ck_assert_uint_le(s.looked, 64 * s.dropped);
	vm_destroy(&vm);
}
END_TEST

/* What came just now stays for as long as nobody has to wait for its room. */
START_TEST(only_for_who_waits)
{
	struct vm vm = vm_full_of(40, true, 40, 60);
	uint64_t copies;

	ept_reclaim_round(vm.space); /* the cached pages behind the copies go */
	copies = stats_of(&vm).dropped;
	ck_assert_uint_le(ept_reclaim_charge(vm.space), 40);
	for (unsigned i = 0; i < 20; i++) {
		ck_assert_int_eq(touch(&vm, 40 + i, R), EPT_RESOLVED);
		ept_reclaim_round(vm.space);
	}
	ck_assert_uint_eq(stats_of(&vm).dropped, copies);
	ck_assert_uint_eq(stats_of(&vm).waits, 0);
	ck_assert_int_eq(touch(&vm, 60, R), EPT_RESOLVED);
	ck_assert_uint_eq(stats_of(&vm).waits, 1);
	ck_assert_uint_gt(stats_of(&vm).dropped, copies);
	vm_destroy(&vm);
}
END_TEST

/* What a fork shared can go when it is over: nobody has to ask for it more than once. */
START_TEST(a_fork_ends)
{
	struct vm vm = vm_full_of(44, false, 40, 60);
	struct ept_reclaim *r = &vm.space->reclaim;

	for (unsigned i = 0; i < 8; i++)
		ept_reclaim_round(vm.space);
	ck_assert_uint_gt(r->again, r->hard);
	ck_assert_uint_eq(stats_of(&vm).dropped, 0);
	ept_object_thaw(vm.area->obj, 1);
	ept_reclaim_eased(r);
	ck_assert_int_eq(touch(&vm, 50, R), EPT_RESOLVED);
	serve(&vm);
	ck_assert_uint_le(ept_reclaim_charge(vm.space), r->low);
	vm_destroy(&vm);
}
END_TEST

Suite *suite_reclaim_rounds(void)
{
	Suite *suite = suite_create("ept: rounds of reclaim");
	TCase *tc = tcase_create("rounds of reclaim");

	tcase_add_test(tc, little_can_go);
	tcase_add_test(tc, only_for_who_waits);
	tcase_add_test(tc, a_fork_ends);
	suite_add_tcase(suite, tc);
	return suite;
}
