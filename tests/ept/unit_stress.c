/* stress.h on the fake installer, with the real fault threads: what ThreadSanitizer looks at. */
#include "ept/stats.h"
#include "ept/uffd_compat.h"
#include "tests/ept/fake_install.h"
#include "tests/ept/stress.h"
#include "tests/ept/unit_suites.h"

static bool grants(enum fake_page page, enum ept_access access, bool read_only)
{
	switch (page) {
	case FAKE_NONE:
	case FAKE_POISON:
		return false;
	case FAKE_ZERO:
	case FAKE_PROTECTED:
		return access == EPT_READ;
	case FAKE_OWN:
	case FAKE_WRITABLE:
	case FAKE_FOREIGN:
		return access == EPT_READ || !read_only;
	}
	return false;
}

/* As hardware does it: what grants the access cannot be taken back meanwhile. */
static bool touched(char *hva, enum stress_kind kind, unsigned word, enum ept_access access,
		    uint64_t *value, enum fake_page *is)
{
	uint64_t *at = (uint64_t *)hva + word;
	bool granted;

	*is = fake_touch(hva);
	granted = grants(*is, access, kind == STRESS_RO);
	if (granted && access == EPT_WRITE)
		*at = *value;
	else if (granted)
		*value = *at;
	fake_touched();
	return granted;
}

/*
 * What hardware and kernel do: look, and if the access is not granted queue as a waiter,
 * send the event, sleep until woken, look again. (The number of wakes is read before the
 * page: a wake after that ends the sleep.)
 */
bool stress_touch(struct world *w, unsigned vcpu, enum stress_kind kind, unsigned page,
		  unsigned word, enum ept_access access, uint64_t *value)
{
	char *hva = w->hva[kind] + page * PAGE;

	(void)vcpu;
	for (;;) {
		unsigned wakes = fake_wakes(hva);
		uint64_t flags = access == EPT_WRITE ? UFFD_PAGEFAULT_FLAG_WRITE : 0;
		enum fake_page is;

		if (__atomic_load_n(&w->stopping, __ATOMIC_ACQUIRE))
			return false;
		if (touched(hva, kind, word, access, value, &is))
			return true;
		if (is != FAKE_NONE)
			flags |= UFFD_PAGEFAULT_FLAG_WP;
		fake_event(&w->space->installer, hva, flags, gettid());
		if (!fake_wait(hva, wakes)) {
			stress_wrong(w, "a wake was lost, page", page);
			return false;
		}
	}
}

int stress_device(struct world *w, enum stress_kind kind, uint64_t at, uint64_t words[2],
		  enum ept_access access)
{
	struct iovec iov[2];
	ssize_t n = ept_map(w->space, GPA(w->area[kind]->start + at), 16, access, EPT_ORIGIN_DEVICE,
			    iov, 2);

	for (unsigned i = 0; i < 2 && n >= 0; i++, at += 8)
		if (!stress_touch(w, 0, kind, (unsigned)(at / PAGE), at % PAGE / 8, access,
				  &words[i]))
			n = -ESHUTDOWN;
	return n < 0 ? (int)n : 0;
}

/* What the mirror says is what is installed. */
static void check_pages(struct world *w)
{
	static const struct {
		enum fake_page rest, ro;
	} expected[EPT_NR_PTES] = {
	    [EPT_PTE_NONE] = {FAKE_NONE, FAKE_NONE},
	    [EPT_PTE_ZERO] = {FAKE_ZERO, FAKE_NONE},
	    [EPT_PTE_FILE] = {FAKE_PROTECTED, FAKE_WRITABLE},
	    [EPT_PTE_CLEAN] = {FAKE_PROTECTED, FAKE_NONE},
	    [EPT_PTE_DIRTY] = {FAKE_WRITABLE, FAKE_NONE},
	    [EPT_PTE_AGED] = {FAKE_PROTECTED, FAKE_NONE},
	    /* held, sampled, pooled, swapped: none */
	};

	uint64_t installed = 0, put = 0;

	ck_assert_uint_eq(fake_double_installs(), 0);
	for (int k = 0; k < STRESS_KINDS; k++)
		for (int c = 0; c < EPT_NR_CASES; c++) {
			struct ept_case_stats stats;

			ept_area_case_stats(w->space, (size_t)k, (enum ept_case)c, &stats);
			installed += stats.installed;
		}
	for (int k = 0; k < STRESS_KINDS; k++)
		put += fake_installs(w->hva[k]);
	ck_assert_uint_eq(put, installed);
	for (int k = 0; k < STRESS_KINDS; k++)
		for (unsigned page = 0; page < STRESS_PAGES; page++) {
			gpa_t gpa = GPA(w->area[k]->start + page * PAGE);
			struct ept_leaf *leaf = ept_mirror_find(&w->space->mirror, gpa);
			enum ept_pte pte =
			    leaf ? ept_pte_get(leaf, ept_leaf_index(gpa)) : EPT_PTE_NONE;
			enum fake_page is = fake_page(w->hva[k] + page * PAGE);

			if (pte == EPT_PTE_PRIVATE)
				ck_assert(is == FAKE_OWN || is == FAKE_WRITABLE);
			else
				ck_assert_int_eq(is, k == STRESS_RO ? expected[pte].ro
								    : expected[pte].rest);
		}
}

Suite *suite_stress(void)
{
	return stress_suite("ept: stress", check_pages, true);
}
