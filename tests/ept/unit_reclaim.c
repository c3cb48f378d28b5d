/* Reclaim step by step: each transition of a page, and what holds the limit. */
#include "tests/ept/reclaim_rig.h"
#include "tests/ept/unit_suites.h"

/* What becomes of a page, and which case a touch is then. */
static const struct {
	const char *what;
	int mode;
	bool move;
	enum ept_access first;
	char byte;
	enum ept_pte sampled;
	enum ept_case read, write; /* of the sampled page */
	enum ept_pte after_read, after_write;
	enum ept_pte evicted;
	enum ept_case refault; /* a read of it then */
} ways[] = {
    {"anonymous", ANON, true, W, 1, EPT_PTE_HELD, EPT_CASE_HINT_READ, EPT_CASE_HINT_WRITE,
     EPT_PTE_PRIVATE, EPT_PTE_PRIVATE, EPT_PTE_POOLED, EPT_CASE_SWAP_READ},
    {"anonymous zeros", ANON, true, W, 0, EPT_PTE_HELD, EPT_CASE_HINT_READ, EPT_CASE_HINT_WRITE,
     EPT_PTE_PRIVATE, EPT_PTE_PRIVATE, EPT_PTE_NONE, EPT_CASE_ANON_READ},
    {"anonymous, no move", ANON, false, W, 1, EPT_PTE_AGED, EPT_CASE_SPURIOUS, EPT_CASE_HINT_WRITE,
     EPT_PTE_AGED, EPT_PTE_PRIVATE, EPT_PTE_POOLED, EPT_CASE_SWAP_READ},
    {"read-only file", EPT_FILE_RO, true, R, 0, EPT_PTE_SAMPLED, EPT_CASE_HINT_READ,
     EPT_CASE_RO_WRITE, EPT_PTE_FILE, EPT_PTE_SAMPLED, EPT_PTE_NONE, EPT_CASE_FILE_READ},
    {"private file", EPT_FILE_COW, true, R, 0, EPT_PTE_SAMPLED, EPT_CASE_HINT_READ,
     EPT_CASE_HINT_WRITE, EPT_PTE_FILE, EPT_PTE_PRIVATE, EPT_PTE_NONE, EPT_CASE_FILE_READ},
    {"private copy", EPT_FILE_COW, true, W, 1, EPT_PTE_AGED, EPT_CASE_SPURIOUS, EPT_CASE_HINT_WRITE,
     EPT_PTE_AGED, EPT_PTE_PRIVATE, EPT_PTE_POOLED, EPT_CASE_SWAP_READ},
    {"shared file", EPT_FILE_SHARED, true, R, 0, EPT_PTE_SAMPLED, EPT_CASE_HINT_READ,
     EPT_CASE_HINT_WRITE, EPT_PTE_CLEAN, EPT_PTE_DIRTY, EPT_PTE_NONE, EPT_CASE_SHARED_READ},
};

#define NR_WAYS ((int)(sizeof(ways) / sizeof(*ways)))

static struct vm sampled_page(int way)
{
	struct vm vm = vm_limited(ways[way].mode, ways[way].move, true);

	first_touch(&vm, ways[way].first, ways[way].byte);
	ck_assert_uint_eq(sample(&vm).added, 1);
	ck_assert_int_eq(pte(&vm), ways[way].sampled);
	return vm;
}

START_TEST(transitions)
{
	bool write = _i % 2;
	int way = _i / 2;
	struct vm vm = sampled_page(way);
	enum ept_case kase = write ? ways[way].write : ways[way].read;

	ck_assert_int_eq(touch(&vm, AT, write ? W : R), EPT_RESOLVED);
	ck_assert_str_eq(ept_case_name(res.kase), ept_case_name(kase));
	ck_assert(!res.major);
	ck_assert_int_eq(pte(&vm), write ? ways[way].after_write : ways[way].after_read);
	ck_assert_uint_eq(fake_double_installs(), 0);
	vm_destroy(&vm);
}
END_TEST

START_TEST(evictions)
{
	struct vm vm = sampled_page(_i);
	uint64_t own = vm.space->reclaim.own, gone = ept_reclaim_evict(vm.space, 32);
	bool file = ways[_i].sampled == EPT_PTE_SAMPLED;

	ck_assert_uint_eq(gone, 1);
	ck_assert_int_eq(pte(&vm), ways[_i].evicted);
	ck_assert_uint_eq(vm.space->reclaim.own, file ? own : own - 1);
	if (vm.area->obj && file)
		ck_assert_uint_eq(vm.area->obj->nr_cached, 0);
	ck_assert_int_eq(touch(&vm, AT, R), EPT_RESOLVED);
	ck_assert_str_eq(ept_case_name(res.kase), ept_case_name(ways[_i].refault));
	ck_assert(res.major == (file && ways[_i].mode != ANON));
	if (ways[_i].byte)
		ck_assert_int_eq(vm.hva[AT * PAGE + 9], ways[_i].byte);
	else if (vm.area->obj)
		ck_assert(has_pattern(vm.hva + AT * PAGE, AT * PAGE, PAGE));
	vm_destroy(&vm);
}
END_TEST

/* A hit buys visits of the hand in peace: 3, then 5, then 7 and no more. */
START_TEST(hits_make_older)
{
	static const unsigned visits[] = {3, 5, 7, 7};
	struct vm vm = vm_limited(ANON, true, true);

	first_touch(&vm, W, 1);
	for (int round = 0; round < 4; round++) {
		ck_assert_uint_eq(sample(&vm).added, 1);
		ck_assert_int_eq(touch(&vm, AT, R), EPT_RESOLVED);
		ck_assert_uint_eq(ept_reclaim_evict(vm.space, 32), 0); /* its slot is empty */
		for (unsigned i = 0; i < visits[round]; i++)
			ck_assert_uint_eq(sample(&vm).added, 0);
	}
	vm_destroy(&vm);
}
END_TEST

/* Back before the limit went once over: as good as a hit. Later: a page like any other. */
START_TEST(back_soon_stays)
{
	struct vm vm = vm_limited(ANON, true, true);
	struct ept_reclaim *r = &vm.space->reclaim;
	bool late = _i / 2, file = _i % 2;

	first_touch(&vm, W, 1);
	ck_assert_uint_eq(sample(&vm).added, 1);
	ck_assert_uint_eq(ept_reclaim_evict(vm.space, 32), 1);
	if (file)
		ept_reclaim_write(vm.space, 0);
	ck_assert_int_eq(pte(&vm), file ? EPT_PTE_SWAPPED : EPT_PTE_POOLED);
	r->gone += late ? r->limit + r->limit / 4 : r->limit / 2;
	ck_assert_int_eq(touch(&vm, AT, R), EPT_RESOLVED);
	ck_assert_uint_eq(r->counts.activated, !late);
	for (unsigned i = 0; i < 3 && !late; i++)
		ck_assert_uint_eq(sample(&vm).added, 0);
	ck_assert_uint_eq(sample(&vm).added, 1);
	vm_destroy(&vm);
}
END_TEST

START_TEST(dirty_pages_stay)
{
	struct vm vm = vm_limited(EPT_FILE_SHARED, true, true);
	struct ept_sampled s;

	first_touch(&vm, W, 1);
	s = sample(&vm);
	ck_assert(s.dirty);
	ck_assert_uint_eq(s.added, 0);
	ck_assert_int_eq(ept_area_sync(vm.area), 0);
	s = sample(&vm);
	ck_assert(!s.dirty);
	ck_assert_uint_eq(s.added, 1);
	/* While a write-back is under way its area is left alone. */
	ck_assert_int_eq(touch(&vm, AT + 1, R), EPT_RESOLVED);
	pthread_mutex_lock(&vm.area->obj->sync_lock);
	ck_assert_uint_eq(sample(&vm).added, 0);
	pthread_mutex_unlock(&vm.area->obj->sync_lock);
	vm_destroy(&vm);
}
END_TEST

/* Two VMs share a cache: what one of them maps stays for both. */
START_TEST(mapped_elsewhere)
{
	struct vm vm = vm_limited(EPT_FILE_RO, true, false);
	struct ept_space *other;
	struct ept_slot slot;
	struct ept_request req = {.gpa = GPA(AT * PAGE), .origin = EPT_ORIGIN_LOADER};

	ck_assert_int_eq(ept_space_create(&one_thread, &other), 0);
	ck_assert_int_eq(ept_area_add(other, "f", GPA(0), vm.size, vm.area->obj, NULL), 0);
	ck_assert_int_eq(ept_space_start(other), 0);
	ept_space_slots(other, &slot, 1);
	first_touch(&vm, R, 0);
	ck_assert_int_eq(handle_ept_fault(other, &req, &res), EPT_RESOLVED);
	ck_assert_uint_eq(sample(&vm).added, 1);
	ck_assert_uint_eq(ept_reclaim_evict(vm.space, 32), 0);
	ck_assert_uint_eq(vm.area->obj->nr_cached, 1);
	ck_assert(has_pattern((char *)slot.hva + AT * PAGE, AT * PAGE, PAGE));
	ck_assert_int_eq(touch(&vm, AT, R), EPT_RESOLVED);
	ck_assert(!res.major);
	ept_space_destroy(other);
	vm_destroy(&vm);
}
END_TEST

/* The guest gives the page back: wherever it was, it is nowhere, and its place is free. */
START_TEST(discard_of_reclaimed_pages)
{
	struct vm vm = _i == 0 ? sampled_page(0) : _i == 1 ? pooled_page() : swapped_page();
	const struct ept_reclaim *r = &vm.space->reclaim;
	const char *held = NULL;

	if (_i == 0) {
		ck_assert_int_eq(pte(&vm), EPT_PTE_HELD);
		held = r->ring.base + (ept_pte_value(leaf_of(&vm), AT) - 1) * PAGE;
		ck_assert_int_ne(fake_page(held), FAKE_NONE);
	}
	discard(&vm, AT, 1);
	ck_assert_int_eq(pte(&vm), EPT_PTE_NONE);
	if (held)
		ck_assert_int_eq(fake_page(held), FAKE_NONE);
	ck_assert_uint_eq(r->own + r->pool.pages + r->pool.bytes + r->swap.pages + r->swap.used, 0);
	ck_assert_uint_eq(ept_reclaim_evict(vm.space, 32), 0);
	ck_assert_int_eq(touch(&vm, AT, R), EPT_RESOLVED);
	ck_assert_int_eq(res.kase, EPT_CASE_ANON_READ);
	vm_destroy(&vm);
}
END_TEST

/* The kernel holds the page: it is passed over on its way out, copied on its way back. */
START_TEST(page_is_busy)
{
	struct vm vm = vm_limited(ANON, true, true);

	first_touch(&vm, W, 7);
	fake_fail(FAKE_OP_MOVE, -EBUSY, 1);
	ck_assert_uint_eq(sample(&vm).added, 0);
	ck_assert_int_eq(pte(&vm), EPT_PTE_PRIVATE);
	ck_assert_uint_eq(sample(&vm).added, 0); /* left alone for one visit */
	ck_assert_uint_eq(sample(&vm).added, 1);
	fake_fail(FAKE_OP_MOVE, -EBUSY, 1);
	ck_assert_int_eq(touch(&vm, AT, R), EPT_RESOLVED);
	ck_assert_int_eq(pte(&vm), EPT_PTE_PRIVATE);
	ck_assert_int_eq(vm.hva[AT * PAGE + 9], 7);
	vm_destroy(&vm);
}
END_TEST

/*
 * Without a swap file own pages come back from the ring, and the fault that waited ends. Who
 * touched it is woken, and has it above the limit then, so that what is under way ends.
 */
START_TEST(limit_cannot_be_held)
{
	struct vm vm = vm_limited(ANON, _i, false);
	struct ept_reclaim *r = &vm.space->reclaim;
	unsigned woken;

	for (uint64_t page = 0; page < 8; page++) {
		ck_assert_int_eq(touch(&vm, page, W), EPT_RESOLVED);
		vm.hva[page * PAGE] = 1;
	}
	r->limit = r->hard = r->high = 8;
	r->low = 7;
	woken = fake_wakes(vm.hva + AT * PAGE);
	ck_assert_int_eq(touch(&vm, AT, R), EPT_OUT_OF_MEM);
	ck_assert_int_eq(res.kase, EPT_CASE_NO_MEMORY);
	ck_assert_uint_eq(r->own, 8);
	ck_assert_ptr_nonnull(strstr(ept_space_failure(vm.space)->message, "give a swap file"));
	ck_assert_uint_gt(fake_wakes(vm.hva + AT * PAGE), woken);
	for (unsigned page = 0; page < 8; page++) {
		const char *at = vm.hva + page * PAGE;

		if (ept_pte_get(leaf_of(&vm), page) == EPT_PTE_HELD)
			at = r->ring.base + (ept_pte_value(leaf_of(&vm), page) - 1) * PAGE;
		ck_assert_int_ne(fake_page(at), FAKE_NONE);
		ck_assert_int_eq(*at, 1);
	}
	ck_assert_int_eq(touch(&vm, AT, W), EPT_RESOLVED);
	ck_assert_uint_eq(r->own, 9);
	vm_destroy(&vm);
}
END_TEST

START_TEST(limit_makes_room)
{
	struct vm vm = vm_limited(ANON, true, true);
	struct ept_reclaim *r = &vm.space->reclaim;

	for (uint64_t page = 0; page < 8; page++)
		ck_assert_int_eq(touch(&vm, page, W), EPT_RESOLVED); /* zeros */
	r->limit = r->hard = 8;
	r->high = 7;
	r->low = 6;
	ck_assert_int_eq(touch(&vm, AT, W), EPT_RESOLVED);
	ck_assert_uint_le(r->own, 7);
	ck_assert_uint_ge(r->counts.zeroed, 2);
	ck_assert_uint_eq(r->counts.waits, 1);
	ck_assert_uint_le(r->peak, 8);
	vm_destroy(&vm);
}
END_TEST

START_TEST(limits_that_are_refused)
{
	struct ept_config config = one_thread;
	struct ept_space *space;

	config.memory_limit = EPT_LIMIT_FLOOR - PAGE;
	ck_assert_int_eq(ept_space_create(&config, &space), -EINVAL);
	config.memory_limit = EPT_LIMIT_FLOOR;
	config.engine = EPT_ENGINE_KERNEL;
	ck_assert_int_eq(ept_space_create(&config, &space), -EINVAL);
}
END_TEST

Suite *suite_reclaim(void)
{
	Suite *suite = suite_create("ept: reclaim");
	TCase *tc = tcase_create("reclaim");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, transitions, 0, 2 * NR_WAYS);
	tcase_add_loop_test(tc, evictions, 0, NR_WAYS);
	tcase_add_test(tc, hits_make_older);
	tcase_add_loop_test(tc, back_soon_stays, 0, 4);
	tcase_add_test(tc, dirty_pages_stay);
	tcase_add_test(tc, mapped_elsewhere);
	tcase_add_loop_test(tc, discard_of_reclaimed_pages, 0, 3);
	tcase_add_test(tc, page_is_busy);
	tcase_add_loop_test(tc, limit_cannot_be_held, 0, 2);
	tcase_add_test(tc, limit_makes_room);
	tcase_add_test(tc, limits_that_are_refused);
	suite_add_tcase(suite, tc);
	return suite;
}
