/* Guests, reclaim with its thread, discards and write-back, all at once on the fake installer. */
#include "ept/stats.h"
#include "tests/ept/reclaim_rig.h"
#include "tests/ept/unit_suites.h"

#include <pthread.h>

#define GUESTS	4U
#define TOUCHES 20000U
#define GIVEN	48U /* pages from here on are given back now and then */

struct guest {
	struct vm *vm;
	uint64_t random;
	uint8_t *expected; /* byte 9 of each page; under the leaf's lock, as its page is */
	pthread_t thread;
};

/* As a guest's write: it reaches the page while it is there and writable. */
static void write_byte(const struct guest *g, uint64_t page)
{
	struct ept_leaf *leaf = leaf_of(g->vm);
	char *byte = g->vm->hva + page * PAGE + 9;
	enum ept_pte is;

	pthread_mutex_lock(&leaf->lock);
	is = ept_pte_get(leaf, (unsigned)page);
	if (is == EPT_PTE_PRIVATE || is == EPT_PTE_DIRTY) {
		if (page < GIVEN && g->expected[page] && (uint8_t)*byte != g->expected[page])
			ck_abort_msg("page %lu has not what was written to it last", page);
		*byte = (char)(g->expected[page] = (uint8_t)(g->random >> 40 | 1));
	}
	pthread_mutex_unlock(&leaf->lock);
}

static void *guest_main(void *arg)
{
	struct guest *g = arg;
	struct ept_resolution mine;

	for (unsigned i = 0; i < TOUCHES; i++) {
		struct ept_request req = {.origin = EPT_ORIGIN_LOADER};
		uint64_t page;

		g->random = g->random * 6364136223846793005UL + 1442695040888963407UL;
		page = g->random >> 33 & 63;
		req.gpa = GPA(page * PAGE);
		req.access = g->random >> 62 ? R : W;
		if (handle_ept_fault(g->vm->space, &req, &mine) != EPT_RESOLVED)
			ck_abort_msg("a fault on page %lu is not resolved", page);
		if (req.access == W)
			write_byte(g, page);
	}
	return NULL;
}

static void check_all_pages(const struct vm *vm, const uint8_t *expected)
{
	const struct ept_reclaim *r = &vm->space->reclaim;
	uint64_t own = 0, pooled = 0, swapped = 0;

	for (uint64_t page = 0; page < 64; page++) {
		enum ept_pte is;

		ck_assert_int_eq(touch(vm, page, R), EPT_RESOLVED);
		is = ept_pte_get(leaf_of(vm), (unsigned)page);
		if (page < GIVEN && expected[page] && is != EPT_PTE_NONE)
			ck_assert_int_eq((uint8_t)vm->hva[page * PAGE + 9], expected[page]);
	}
	for (unsigned page = 0; page < 64; page++) {
		enum ept_pte is = ept_pte_get(leaf_of(vm), page);

		own += ept_pte_own(is);
		pooled += is == EPT_PTE_POOLED;
		swapped += is == EPT_PTE_SWAPPED;
	}
	ck_assert_uint_eq(own, r->own);
	ck_assert_uint_eq(pooled, r->pool.pages);
	ck_assert_uint_eq(swapped, r->swap.pages);
	ck_assert_uint_eq(fake_double_installs(), 0);
}

/* Guests, reclaim with its thread, discards or write-back, on 64 pages of which 24 may be there. */
START_TEST(all_at_once)
{
	static const int modes[] = {ANON, ANON, EPT_FILE_COW, EPT_FILE_SHARED};
	struct vm vm = vm_limited(modes[_i], _i != 1, true);
	struct ept_reclaim *r = &vm.space->reclaim;
	uint8_t expected[64] = {0};
	struct guest guests[GUESTS];
	struct ept_reclaim_stats stats;

	r->limit = 64;
	r->window = 1;
	r->hard = 24;
	r->high = 20;
	r->low = 16;
	r->ring.size = 12;
	__atomic_store_n(&r->manual, false, __ATOMIC_RELAXED);
	ck_assert_int_eq(touch(&vm, 0, R), EPT_RESOLVED);
	for (unsigned i = 0; i < GUESTS; i++) {
		guests[i] = (struct guest){.vm = &vm, .random = i, .expected = expected};
		pthread_create(&guests[i].thread, NULL, guest_main, &guests[i]);
	}
	for (unsigned i = 0; i < 200; i++) {
		if (modes[_i] == ANON)
			discard(&vm, GIVEN + i % 8, 8);
		else
			ck_assert_int_eq(ept_area_sync(vm.area), 0);
		pthread_mutex_lock(&r->work);
		ept_reclaim_write(vm.space, 0);
		pthread_mutex_unlock(&r->work);
	}
	for (unsigned i = 0; i < GUESTS; i++)
		pthread_join(guests[i].thread, NULL);
	ck_assert_ptr_null(ept_space_failure(vm.space));
	ck_assert(ept_reclaim_stats(vm.space, &stats));
	ck_assert_uint_gt(stats.sampled, 100);
	pthread_mutex_lock(&r->work); /* its round is over, and no other begins */
	__atomic_store_n(&r->manual, true, __ATOMIC_RELAXED);
	r->hard = r->high = r->low = 1000;
	pthread_mutex_unlock(&r->work);
	check_all_pages(&vm, expected);
	vm_destroy(&vm);
}
END_TEST

Suite *suite_reclaim_race(void)
{
	Suite *suite = suite_create("ept: reclaim at once");
	TCase *tc = tcase_create("reclaim at once");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, all_at_once, 0, 4);
	suite_add_tcase(suite, tc);
	return suite;
}
