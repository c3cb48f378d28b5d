/*
 * The guest's fault path where one CPU rarely or never leads: an entry that another sets first, a
 * fault that finds nothing to do, a page that is locked again the second time; and reclaim.
 */
#include "guest/include/smp.h"
#include "guest/include/swap.h"
#include "guest/include/task.h"
#include "tests/guest_mm/fake_mm.h"
#include "tests/run_suites.h"

#include <stdlib.h>

enum { RW = VM_READ | VM_WRITE };

static struct page *page;	/* the one a test is about */
static struct page *other_page; /* what another task maps in its place */

/* A fault on the mapping's first page. */
static enum fault_result fault(unsigned flags)
{
	bool major = false;

	return handle_mm_fault(&fake_vma, FAKE_START, flags, &major);
}

/* Another CPU's fault on the same entry, done first. */
static void other_installs(void)
{
	other_page = alloc_page(0);
	other_page->flags = PG_ANON | PG_UPTODATE;
	other_page->group = &root_group;
	page_add_mapping(&fake_mm, other_page);
	*fake_entry(0) = page_phys(other_page) | vma_pte_flags(&fake_vma) | PTE_WRITE;
}

static void expect_raced(long frames)
{
	ck_assert_uint_eq(fault_counters.cases[FC_raced], 1);
	ck_assert_uint_eq(pte_phys(*fake_entry(0)), page_phys(other_page));
	ck_assert_int_eq(other_page->refcount, 1);
	ck_assert_int_eq(fake_frames(), frames + 1); /* the other's, nothing of ours */
}

/* --- nothing to do --------------------------------------------------------------------------- */

START_TEST(spurious_write)
{
	fake_setup(RW, NULL);
	ck_assert_int_eq(fault(FAULT_WRITE), FAULT_RESOLVED);
	*fake_entry(0) &= ~(pte_t)(PTE_DIRTY | PTE_ACCESSED);
	host_flushes = 0;
	ck_assert_int_eq(fault(FAULT_WRITE), FAULT_RESOLVED);
	ck_assert_uint_eq(fault_counters.cases[FC_spurious], 1);
	ck_assert_uint_eq(*fake_entry(0) & (PTE_DIRTY | PTE_ACCESSED), PTE_DIRTY | PTE_ACCESSED);
	ck_assert_uint_eq(host_flushes, 1); /* or the stale translation faults for ever */
}
END_TEST

START_TEST(spurious_read)
{
	fake_setup(RW, NULL);
	ck_assert_int_eq(fault(0), FAULT_RESOLVED);
	ck_assert_int_eq(fault(0), FAULT_RESOLVED);
	ck_assert_uint_eq(fault_counters.cases[FC_spurious], 1);
	ck_assert_uint_eq(*fake_entry(0) & (PTE_DIRTY | PTE_WRITE), 0);
}
END_TEST

/* --- another was first ----------------------------------------------------------------------- */

static unsigned map_nothing(struct fault *f, u64 start, u64 end)
{
	(void)f, (void)start, (void)end;
	return 0;
}

/* Brings the page, and loses the race meanwhile. */
static enum fault_result slow_fault(struct fault *f)
{
	f->page = page;
	get_page(page);
	lock_page(page);
	other_installs();
	return FAULT_LOCKED;
}

static int no_mkwrite(struct fault *f)
{
	set_page_dirty(f->page);
	return 0;
}

static const struct vm_ops slow_ops = {"slow", slow_fault, map_nothing, no_mkwrite};

static void race_on_file(unsigned vm_flags, unsigned flags)
{
	fake_setup(vm_flags, &slow_ops);
	page = fake_cached(0);
	long frames = fake_frames();

	ck_assert_int_eq(fault(flags), FAULT_RESOLVED);
	expect_raced(frames);
	ck_assert_int_eq(page->refcount, 1);
	ck_assert_uint_eq(page->flags & PG_LOCKED, 0);
}

START_TEST(raced_read)
{
	race_on_file(RW, 0);
}
END_TEST

START_TEST(raced_cow)
{
	race_on_file(RW, FAULT_WRITE);
}
END_TEST

START_TEST(raced_shared)
{
	race_on_file(RW | VM_SHARED, FAULT_WRITE);
}
END_TEST

/* The page was unmapped and another mapped while page_mkwrite slept. */
static int slow_mkwrite(struct fault *f)
{
	*fake_entry(0) = 0;
	page_remove_mapping(&fake_mm, f->page);
	other_installs();
	return 0;
}

START_TEST(raced_wp_shared)
{
	static const struct vm_ops ops = {"slow", slow_fault, map_nothing, slow_mkwrite};

	fake_setup(RW | VM_SHARED, &ops);
	page = fake_cached(0);
	long frames = fake_frames();

	get_page(page);
	page_add_mapping(&fake_mm, page);
	*fake_entry(0) = page_phys(page) | vma_pte_flags(&fake_vma);
	ck_assert_int_eq(fault(FAULT_WRITE), FAULT_RESOLVED);
	expect_raced(frames);
	ck_assert_int_eq(page->refcount, 1);
}
END_TEST

/* --- waiting for a page ---------------------------------------------------------------------- */

static void unlock(void)
{
	unlock_page(page);
}

START_TEST(retry_then_wait)
{
	fake_setup(RW, &filemap_vm_ops);
	page = fake_cached(0);
	down_read(&fake_mm.lock);
	lock_page(page);
	fake_event = unlock;
	ck_assert_int_eq(fault(FAULT_ALLOW_RETRY), FAULT_RETRY);
	ck_assert_int_eq(fake_mm.lock.holders, 0);
	ck_assert_int_eq(page->refcount, 1);

	/* Locked again by the time the lock is had: no third pass, it waits. */
	down_read(&fake_mm.lock);
	lock_page(page);
	fake_event = unlock;
	ck_assert_int_eq(fault(FAULT_ALLOW_RETRY | FAULT_TRIED), FAULT_RESOLVED);
	ck_assert_int_eq(fake_mm.lock.holders, 1);
	ck_assert_uint_eq(fault_counters.cases[FC_file_read], 1);
	ck_assert_uint_eq(pte_phys(*fake_entry(0)), page_phys(page));
}
END_TEST

/* The lock comes free between the look and the sleep: it is had, once. */
START_TEST(lock_in_the_gap)
{
	fake_setup(RW, &filemap_vm_ops);
	page = fake_cached(0);
	lock_page(page);
	fake_interrupt = unlock;
	lock_page(page);
	ck_assert_uint_ne(page->flags & PG_LOCKED, 0);
}
END_TEST

/* Another task read the page again and changed it, while this one waited to do the same. */
static void other_reads(void)
{
	page->flags = PG_UPTODATE;
	memset(page_kva(page), 0x77, PAGE_SIZE);
}

START_TEST(failed_page_read_once)
{
	struct page *got;

	fake_setup(RW, &filemap_vm_ops);
	page = fake_cached(3);
	page->flags = PG_ERROR | PG_LOCKED;
	fake_event = other_reads;
	ck_assert_int_eq(read_cache_page(&fake_inode.mapping, 3, &got), 0);
	ck_assert_ptr_eq(got, page);
	ck_assert_uint_eq(*(u8 *)page_kva(page), 0x77);
	put_page(got);

	page->flags = PG_ERROR;
	ck_assert_int_eq(read_cache_page(&fake_inode.mapping, 3, &got), 0);
	ck_assert_uint_eq(*(u8 *)page_kva(page), 3);
	put_page(got);
}
END_TEST

/* --- reclaim --------------------------------------------------------------------------------- */

START_TEST(reclaim_spares_the_used)
{
	struct page *pages[8];

	fake_setup(RW, &filemap_vm_ops);
	for (unsigned i = 0; i < 8; i++)
		pages[i] = fake_cached(i);
	set_page_dirty(pages[0]);
	get_page(pages[1]); /* a system call is copying from it */
	lock_page(pages[2]);
	long frames = fake_frames();

	/* Maps them all but the locked one, on the first page's fault. */
	ck_assert_int_eq(fault(0), FAULT_RESOLVED);
	ck_assert_int_eq(pages[7]->mapcount, 1);
	*fake_entry(7) &= ~(pte_t)PTE_ACCESSED;
	ck_assert_uint_eq(reclaim_pages(1), 1);
	ck_assert_uint_eq(*fake_entry(7), 0);
	ck_assert(*fake_entry(6));

	/* Then the rest, whose accessed bits are gone by now; and no more than what may go. */
	ck_assert_uint_eq(reclaim_pages(100), 4);
	ck_assert_int_eq(fake_frames(), frames - 5);
	ck_assert(*fake_entry(0) && *fake_entry(1) && !*fake_entry(3));
	ck_assert_uint_eq(fake_inode.mapping.nr_pages, 3);
	ck_assert_uint_eq(fake_mm.rss[RSS_FILE], 2);
	ck_assert_uint_eq(reclaim_pages(100), 0);

	/* What went comes back. */
	bool major = false;
	ck_assert_int_eq(handle_mm_fault(&fake_vma, FAKE_START + 7 * PAGE_SIZE, 0, &major),
			 FAULT_RESOLVED);
	ck_assert(major);
	ck_assert_uint_eq(*(u8 *)phys_to_virt(pte_phys(*fake_entry(7))), 7);
}
END_TEST

/* --- other CPUs ------------------------------------------------------------------------------ */

static long frames_at_call;
static unsigned calls;

static void note_call(void)
{
	frames_at_call = fake_frames();
	calls++;
}

/* The mapping's program runs on the other one. */
static void use_elsewhere(void)
{
	static struct task task;

	cpus[0].task = &task;
	nr_cpus = 2;
	fake_mm.users = 1;
	fake_mm.cpumask = 1 << 1;
	fake_call = note_call;
	calls = 0;
}

/* Others are asked to forget the pages before those can become somebody else's. */
START_TEST(asked_before_freed)
{
	fake_setup(RW, NULL);
	for (unsigned i = 0; i < FAKE_PAGES; i++) {
		bool major = false;

		ck_assert_int_eq(
		    handle_mm_fault(&fake_vma, FAKE_START + i * PAGE_SIZE, FAULT_WRITE, &major),
		    FAULT_RESOLVED);
	}
	use_elsewhere();
	long before = fake_frames();
	zap_range(&fake_vma, fake_vma.start, fake_vma.end);
	ck_assert_uint_eq(calls, 1);
	ck_assert_int_eq(frames_at_call, before);
	ck_assert_int_eq(fake_frames(), before - FAKE_PAGES);
}
END_TEST

/* A page is copied: nobody has the copy while another CPU has the old one. */
START_TEST(asked_before_replaced)
{
	fake_setup(RW, NULL);
	ck_assert_int_eq(fault(0), FAULT_RESOLVED);
	use_elsewhere();
	ck_assert_int_eq(fault(FAULT_WRITE), FAULT_RESOLVED);
	ck_assert_uint_ge(calls, 1);
	ck_assert(*fake_entry(0) & PTE_WRITE);
}
END_TEST

static Suite *guest_mm_suite(void)
{
	Suite *s = suite_create("guest_mm");
	TCase *tc = tcase_create("fault");

	suite_add_tcase(s, tc);
	tcase_add_test(tc, spurious_write);
	tcase_add_test(tc, spurious_read);
	tcase_add_test(tc, raced_read);
	tcase_add_test(tc, raced_cow);
	tcase_add_test(tc, raced_shared);
	tcase_add_test(tc, raced_wp_shared);
	tcase_add_test(tc, retry_then_wait);
	tcase_add_test(tc, lock_in_the_gap);
	tcase_add_test(tc, failed_page_read_once);
	tcase_add_test(tc, reclaim_spares_the_used);
	tcase_add_test(tc, asked_before_freed);
	tcase_add_test(tc, asked_before_replaced);
	return s;
}

int main(int argc, char **argv)
{
	static Suite *(*const suites[])(void) = {guest_mm_suite, guest_swap_suite,
						 guest_huge_suite};

	return run_suites(suites, 3, argc ? argv + 1 : argv);
}
