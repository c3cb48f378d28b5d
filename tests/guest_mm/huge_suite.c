/* Own memory by 2 MiB where others come first, share it, or want the memory back. */
#include "guest/include/huge.h"
#include "guest/include/memory_failure.h"
#include "guest/include/swap.h"
#include "guest/include/task.h"
#include "tests/guest_mm/fake_mm.h"

#include <stdlib.h>

enum { RW = VM_READ | VM_WRITE };

static pte_t *pmd(void)
{
	return pmd_find(&fake_mm.pt, FAKE_START);
}

static pte_t entry(unsigned page)
{
	return pte_get(&fake_mm.pt, FAKE_START + page * PAGE_SIZE);
}

static struct page *mapped(unsigned page)
{
	return vm_normal_page(entry(page));
}

static enum fault_result fault(unsigned page, unsigned flags)
{
	bool major = false;

	return handle_mm_fault(&fake_vma, FAKE_START + page * PAGE_SIZE, flags, &major);
}

/* 2 MiB wide and aligned, with no table yet. */
static void setup(void)
{
	fake_setup(RW | VM_HUGEPAGE, NULL);
	fake_vma.end = FAKE_START + PMD_SIZE;
	pmd_drop_table(&fake_mm.pt, pmd());
}

static void teardown(void)
{
	zap_range(&fake_vma, fake_vma.start, fake_vma.end);
	vma_unlink(&fake_vma);
	ck_assert_uint_eq(fake_mm.rss[RSS_ANON], 0);
	ck_assert_uint_eq(fake_mm.pt.nr_huge, 0);
	ck_assert_uint_eq(root_group.usage, 0);
	ck_assert_uint_eq(root_group.nr_active + root_group.nr_inactive, 0);
	ck_assert_uint_eq(nr_huge_pages(), 0);
	huge_zero_shrink();
	ck_assert(!huge_zero_present());
}

START_TEST(write_all_at_once)
{
	setup();
	long frames = fake_frames();

	ck_assert_int_eq(fault(5, FAULT_WRITE), FAULT_RESOLVED);
	ck_assert(pmd_is_huge(*pmd()) && (*pmd() & PTE_WRITE));
	ck_assert_uint_eq(fake_mm.rss[RSS_ANON], HUGE_PAGES);
	ck_assert_uint_eq(root_group.usage, HUGE_PAGES);
	ck_assert_int_eq(fake_frames(), frames + (long)HUGE_PAGES);
	ck_assert_uint_eq(fault_counters.cases[FC_huge_page], 1);
	*pmd() &= ~(pte_t)(PTE_DIRTY | PTE_ACCESSED);
	ck_assert_int_eq(fault(5, FAULT_WRITE), FAULT_RESOLVED);
	ck_assert_uint_eq(fault_counters.cases[FC_spurious], 1);
	ck_assert_uint_eq(*pmd() & (PTE_DIRTY | PTE_ACCESSED), PTE_DIRTY | PTE_ACCESSED);
	teardown();
	ck_assert_int_eq(fake_frames(), frames);
}
END_TEST

/* None to be had, with and without the zeroes in the way. */
START_TEST(fallback)
{
	setup();
	ck_assert_int_eq(fault(0, 0), FAULT_RESOLVED);
	ck_assert(huge_zero_present());
	fake_no_huge = true;
	ck_assert_int_eq(fault(3, FAULT_WRITE), FAULT_RESOLVED);
	ck_assert_uint_eq(fault_counters.thp_fallback, 1);
	ck_assert_uint_eq(fault_counters.cases[FC_wp_zero], 1);
	ck_assert_uint_eq(pte_phys(entry(4)), page_phys(zero_page));
	ck_assert(mapped(3) && !mapped(3)->order);
	ck_assert_uint_eq(fake_mm.rss[RSS_ANON], 1);
	ck_assert_uint_eq(huge_zero_shrink(), HUGE_PAGES);
	teardown();
	setup();
	fake_no_huge = true;
	ck_assert_int_eq(fault(3, FAULT_WRITE), FAULT_RESOLVED);
	ck_assert_int_eq(fault(4, FAULT_WRITE), FAULT_RESOLVED);
	/* With a table there, it is not tried again. */
	ck_assert_uint_eq(fault_counters.thp_fallback, 1);
	teardown();
}
END_TEST

static void other_installs_huge(void)
{
	fake_huge_alloc = NULL;
	ck_assert_int_eq(fault(9, FAULT_WRITE), FAULT_RESOLVED);
}

static void other_installs_page(void)
{
	fake_huge_alloc = NULL;
	fake_no_huge = true;
	ck_assert_int_eq(fault(9, FAULT_WRITE), FAULT_RESOLVED);
	fake_no_huge = false;
}

static void race(void (*other)(void), u64 pages)
{
	setup();
	long frames = fake_frames();

	fake_huge_alloc = other;
	ck_assert_int_eq(fault(8, FAULT_WRITE), FAULT_RESOLVED);
	ck_assert_uint_eq(fault_counters.cases[FC_raced], 1);
	/* The other's, and a table in reserve. */
	ck_assert_int_eq(fake_frames(), frames + (long)pages + 1);
	ck_assert_uint_eq(fake_mm.rss[RSS_ANON], pages);
	ck_assert(mapped(9));
	teardown();
}

START_TEST(raced_by_huge)
{
	race(other_installs_huge, HUGE_PAGES);
}
END_TEST

START_TEST(raced_by_page)
{
	race(other_installs_page, 1);
}
END_TEST

/* A second reference, as a fork's: entries share the frames, and only the last frees them. */
START_TEST(split_while_shared)
{
	setup();
	ck_assert_int_eq(fault(0, FAULT_WRITE), FAULT_RESOLVED);
	struct page *head = mapped(0);

	get_page(head);
	split_huge_at(&fake_mm, FAKE_START + PAGE_SIZE);
	ck_assert(!pmd_is_huge(*pmd()));
	ck_assert_ptr_eq(mapped(7), head + 7);
	ck_assert_ptr_eq(compound_head(mapped(7)), head);
	ck_assert_int_eq(head->refcount, (s32)HUGE_PAGES + 1);
	ck_assert_uint_eq(fake_mm.rss[RSS_ANON], HUGE_PAGES);
	/* Not sole: a write copies, and gives its reference back. */
	*(pte_find(&fake_mm.pt, FAKE_START + 7 * PAGE_SIZE)) &= ~(pte_t)PTE_WRITE;
	ck_assert_int_eq(fault(7, FAULT_WRITE), FAULT_RESOLVED);
	ck_assert_uint_eq(fault_counters.cases[FC_wp_copy], 1);
	ck_assert_int_eq(head->refcount, (s32)HUGE_PAGES);
	ck_assert_int_eq(head[7].mapcount, 0);
	long frames = fake_frames();

	zap_range(&fake_vma, FAKE_START, FAKE_START + PMD_SIZE);
	ck_assert_int_eq(head->refcount, 1);
	ck_assert_int_eq(fake_frames(), frames - 1);
	ck_assert_uint_eq(nr_huge_pages(), 1);
	put_page(head);
	teardown();
}
END_TEST

/* Reclaim takes apart what one entry has, and leaves what is shared or in use. */
START_TEST(split_for_reclaim)
{
	setup();
	ck_assert_int_eq(fault(0, FAULT_WRITE), FAULT_RESOLVED);
	struct page *head = mapped(0);

	lock_page(head);
	get_page(head);
	get_page(head);
	ck_assert(!split_huge_page(head));
	put_page(head);
	ck_assert(split_huge_page(head));
	unlock_page(head);
	put_page(head);
	ck_assert(!pmd_is_huge(*pmd()) && !head->order);
	ck_assert_uint_eq(nr_huge_pages(), 0);
	ck_assert_uint_eq(fault_counters.thp_split_page, 1);
	for (unsigned i = 0; i < HUGE_PAGES; i++) {
		ck_assert_ptr_eq(mapped(i), head + i);
		ck_assert_int_eq(head[i].refcount, 1);
		ck_assert_int_eq(head[i].mapcount, 1);
		ck_assert_uint_eq(head[i].index, head->index + i);
		ck_assert_uint_ne(head[i].flags & PG_LRU, 0);
	}
	ck_assert_uint_eq(root_group.nr_active + root_group.nr_inactive, HUGE_PAGES);
	ck_assert_uint_eq(root_group.usage, HUGE_PAGES);
	teardown();
}
END_TEST

START_TEST(protected_and_back)
{
	setup();
	ck_assert_int_eq(fault(0, FAULT_WRITE), FAULT_RESOLVED);
	fake_vma.flags = VM_HUGEPAGE;
	protect_range(&fake_vma, fake_vma.start, fake_vma.end);
	ck_assert(pmd_is_huge(*pmd()) && !(*pmd() & PTE_PRESENT) && mapped(3));
	fake_vma.flags = RW | VM_HUGEPAGE;
	protect_range(&fake_vma, fake_vma.start, fake_vma.end);
	ck_assert(pmd_is_huge(*pmd()) && (*pmd() & PTE_WRITE));
	/* Shared meanwhile: to write, it is to be copied. */
	get_page(mapped(0));
	protect_range(&fake_vma, fake_vma.start, fake_vma.end);
	ck_assert(!(*pmd() & PTE_WRITE));
	put_page(mapped(0));
	ck_assert_int_eq(fault(0, FAULT_WRITE), FAULT_RESOLVED);
	ck_assert_uint_eq(fault_counters.cases[FC_huge_reuse], 1);
	teardown();
}
END_TEST

/* One of 512 is lost: the others are as they were, and nobody gets its frame again. */
START_TEST(part_is_lost)
{
	static struct task task = {.mm = &fake_mm};

	setup();
	ck_assert_int_eq(fault(0, FAULT_WRITE), FAULT_RESOLVED);
	long frames = fake_frames();
	struct page *lost = mapped(0) + 7;

	cpus[0].task = &task;
	memory_failure(page_phys(lost));
	ck_assert_int_eq(fake_signal.sig, SIGBUS);
	ck_assert_int_eq(fake_signal.code, BUS_MCEERR_AR);
	ck_assert_uint_eq(fake_signal.addr, FAKE_START + 7 * PAGE_SIZE);
	ck_assert_uint_eq(entry(7), PTE_POISON);
	ck_assert_int_eq(fault(7, 0), FAULT_HWPOISON);
	ck_assert_int_eq(fault(7, FAULT_WRITE), FAULT_HWPOISON);
	ck_assert_int_eq(fault(8, FAULT_WRITE), FAULT_RESOLVED);
	ck_assert_uint_eq(fake_mm.rss[RSS_ANON], HUGE_PAGES - 1);
	/* Nobody maps it any more: there is no address to name. */
	memory_failure(page_phys(lost));
	ck_assert_uint_eq(fake_signal.addr, 0);
	teardown();
	ck_assert_int_eq(fake_frames(), frames - (long)HUGE_PAGES + 1);
}
END_TEST

/* A page of a file: who has it mapped, and who maps it later. */
START_TEST(file_page_is_lost)
{
	static struct task task = {.mm = &fake_mm};
	struct page *page;

	fake_setup(RW, &filemap_vm_ops);
	page = fake_cached(0);
	fake_cached(1);
	ck_assert_int_eq(fault(0, 0), FAULT_RESOLVED);
	ck_assert_ptr_eq(mapped(0), page);
	cpus[0].task = &task;
	memory_failure(page_phys(page));
	ck_assert_int_eq(fault(0, 0), FAULT_HWPOISON);
	zap_range(&fake_vma, fake_vma.start, fake_vma.end);
	/* Neither around another nor by itself. */
	ck_assert_int_eq(fault(1, 0), FAULT_RESOLVED);
	ck_assert_uint_eq(entry(0), 0);
	ck_assert_int_eq(fault(0, 0), FAULT_HWPOISON);
	ck_assert_int_eq(fault(0, FAULT_WRITE), FAULT_HWPOISON);
	ck_assert_int_eq(page->refcount, 1);
}
END_TEST

/* Taken for a hint: one fault gives the rights back, to write as well if they were had. */
START_TEST(hint_and_back)
{
	setup();
	ck_assert_int_eq(fault(0, FAULT_WRITE), FAULT_RESOLVED);
	numa_balancing = true;
	for (unsigned i = 0; i < 64; i++)
		task_numa_work(&fake_mm);
	numa_balancing = false;
	ck_assert_uint_eq(fault_counters.numa_pte_updates, 1);
	ck_assert(pmd_is_huge(*pmd()) && !(*pmd() & PTE_PRESENT) && mapped(0));
	ck_assert_int_eq(fault(9, FAULT_WRITE), FAULT_RESOLVED);
	ck_assert_uint_eq(fault_counters.cases[FC_numa_hint], 1);
	ck_assert(pmd_is_huge(*pmd()) && (*pmd() & PTE_PRESENT) && (*pmd() & PTE_WRITE));
	teardown();
}
END_TEST

Suite *guest_huge_suite(void)
{
	Suite *s = suite_create("guest_huge");
	TCase *tc = tcase_create("huge");

	suite_add_tcase(s, tc);
	tcase_add_test(tc, write_all_at_once);
	tcase_add_test(tc, fallback);
	tcase_add_test(tc, raced_by_huge);
	tcase_add_test(tc, raced_by_page);
	tcase_add_test(tc, split_while_shared);
	tcase_add_test(tc, split_for_reclaim);
	tcase_add_test(tc, protected_and_back);
	tcase_add_test(tc, hint_and_back);
	tcase_add_test(tc, part_is_lost);
	tcase_add_test(tc, file_page_is_lost);
	return s;
}
