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

int stress_device(struct world *w, enum stress_kind kind, uint64_t at, uint64_t words[2],
		  enum ept_access access)
{
	gpa_t gpa = GPA(w->area[kind]->start + at);

	if (access == EPT_READ)
		return ept_read(w->space, gpa, words, 16, EPT_ORIGIN_DEVICE);
	return ept_write(w->space, gpa, words, 16, EPT_ORIGIN_DEVICE);
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

Suite *suite_uffd_stress(void)
{
#ifdef __SANITIZE_THREAD__
	/* It does not know that the kernel's write protection orders guest and reclaim. */
	bool limits = false;
#else
	bool limits = true;
#endif
	return stress_suite("ept on userfaultfd: stress", check_private, limits);
}
