/* stress.h on userfaultfd: this process's threads touch the memory as guests would. */
#include "tests/ept/stress.h"
#include "tests/ept/uffd_suites.h"

#include <sched.h>

bool stress_touch(struct world *w, unsigned vcpu, enum stress_kind kind, unsigned page,
		  unsigned word, enum ept_access access, uint64_t *value)
{
	volatile uint64_t *at = (volatile uint64_t *)(w->hva[kind] + page * PAGE) + word;

	ept_vcpu_on_cpu(w->space, vcpu, sched_getcpu());
	if (access == EPT_WRITE)
		*at = *value;
	else
		*value = *at;
	/* What a touch sees while the space is stopped is anything. */
	return !__atomic_load_n(&w->stopping, __ATOMIC_ACQUIRE);
}

/* What guests wrote to memory that is theirs alone is there to the end. */
static void check_private(struct world *w)
{
	for (unsigned page = 0; page < STRESS_PAGES; page++)
		for (unsigned v = 0; v < STRESS_VCPUS; v++) {
			uint64_t wrote = w->wrote[v][STRESS_COW][page], got;

			if (!wrote)
				continue;
			ck_assert(
			    stress_touch(w, v, STRESS_COW, page, STRESS_WORD(v), EPT_READ, &got));
			ck_assert_uint_eq(got, wrote);
		}
}

START_TEST(all_at_once)
{
	stress_run((unsigned)_i + 1, false, check_private);
}
END_TEST

START_TEST(stopped_under_them)
{
	stress_run((unsigned)_i + 1, true, check_private);
}
END_TEST

Suite *suite_uffd_stress(void)
{
	Suite *suite = suite_create("ept on userfaultfd: stress");
	TCase *tc = tcase_create("stress");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, all_at_once, 0, 6);
	tcase_add_loop_test(tc, stopped_under_them, 0, 12);
	suite_add_tcase(suite, tc);
	return suite;
}
