/* The guest's page allocator: blocks of 2 MiB while there are any, and after its memory was in
 * pieces. */
#include "tests/guest_mm/host_cpu.h"

#include "guest/abi.h"
#include "guest/include/boot.h"
#include "guest/include/hugetlb.h"
#include "guest/include/mm_init.h"
#include "guest/include/page.h"
#include "guest/include/printk.h"
#include "guest/include/string.h"
#include "guest/include/swap.h"
#include "tests/run_suites.h"

#include <sys/mman.h>

enum { RAM_MIB = 34, FRAMES = RAM_MIB * 256, BLOCK = 1 << MAX_ORDER };

struct boot_info boot_info;
bool host_irqs_off;
char kernel_start[1];
static struct page *held[FRAMES];

/* --- what it needs of a kernel --------------------------------------------------------------- */

u64 early_alloc_end(void)
{
	return virt_to_phys(kernel_start) + 1;
}

void anon_page_free(struct page *page)
{
	(void)page;
}

void hugetlb_page_free(struct page *page)
{
	ck_abort_msg("a page of a pool: %p", (void *)page);
}

void clear_page(void *page)
{
	memset(page, 0, PAGE_SIZE);
}

void pr_info(const char *fmt, ...)
{
	(void)fmt;
}

void panic(const char *fmt, ...)
{
	ck_abort_msg("panic: %s", fmt);
}

/* --- tests ----------------------------------------------------------------------------------- */

/* RAM that starts and ends off any 2 MiB, its first MiB unused as on a PC. */
static void setup(void)
{
	void *want = phys_to_virt(0);

	ck_assert_ptr_eq(mmap(want, RAM_MIB << 20, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 want);
	boot_info.nr_ranges = 1;
	boot_info.ranges[0] =
	    (struct boot_range){0, (RAM_MIB << 20) - 3 * PAGE_SIZE, FOAL_MEMMAP_RAM};
	page_alloc_init();
}

/* Takes blocks until there are none; how many. */
static unsigned take_all(unsigned order)
{
	unsigned n = 0;

	while (n < FRAMES && (held[n] = alloc_pages(order, 0)))
		n++;
	return n;
}

START_TEST(blocks_are_aligned)
{
	u64 before = nr_free_pages();
	unsigned n = take_all(MAX_ORDER);

	ck_assert_uint_ge(n, RAM_MIB / 2 - 2);
	ck_assert_uint_eq(nr_free_pages(), before - (u64)n * BLOCK);
	for (unsigned i = 0; i < n; i++) {
		ck_assert_uint_eq(page_phys(held[i]) % (BLOCK * PAGE_SIZE), 0);
		ck_assert_uint_ge(page_phys(held[i]), 1 << 20);
		for (unsigned j = 0; j < i; j++)
			ck_assert_ptr_ne(held[i], held[j]);
	}
	for (unsigned i = 0; i < n; i++)
		put_page(held[i]);
	ck_assert_uint_eq(nr_free_pages(), before);
}
END_TEST

/* Half of memory is free, and no two frames of it lie together: no block, until they do again. */
START_TEST(fragmented)
{
	u64 before = nr_free_pages();
	unsigned blocks = take_all(MAX_ORDER), n;

	while (blocks)
		put_page(held[--blocks]);
	blocks = take_all(MAX_ORDER);
	while (blocks)
		put_page(held[--blocks]);
	n = take_all(0);
	ck_assert_uint_eq(n, before);
	ck_assert_uint_eq(nr_free_pages(), 0);
	for (unsigned i = 0; i < n; i++)
		if (page_to_pfn(held[i]) % 2)
			put_page(held[i]);
	ck_assert_uint_ge(nr_free_pages(), before / 2 - 1);
	ck_assert_ptr_null(alloc_pages(MAX_ORDER, 0));
	ck_assert_ptr_null(alloc_pages(1, 0));
	struct page *single = alloc_page(0);
	ck_assert_ptr_nonnull(single);
	put_page(single);
	for (unsigned i = 0; i < n; i++)
		if (page_to_pfn(held[i]) % 2 == 0)
			put_page(held[i]);
	ck_assert_uint_eq(nr_free_pages(), before);
	ck_assert_uint_ge(take_all(MAX_ORDER), RAM_MIB / 2 - 2);
}
END_TEST

START_TEST(split_block)
{
	u64 before = nr_free_pages();
	struct page *block = alloc_pages(MAX_ORDER, GFP_ZERO);

	ck_assert_ptr_nonnull(block);
	for (u64 i = 0; i < BLOCK * PAGE_SIZE; i += PAGE_SIZE)
		ck_assert_uint_eq(((u8 *)page_kva(block))[i], 0);
	split_pages(block);
	for (unsigned i = 0; i < BLOCK; i++)
		put_page(block + i);
	ck_assert_uint_eq(nr_free_pages(), before);
	ck_assert_uint_ge(take_all(MAX_ORDER), RAM_MIB / 2 - 2);
}
END_TEST

static Suite *guest_pages_suite(void)
{
	Suite *s = suite_create("guest_pages");
	TCase *tc = tcase_create("buddy");

	suite_add_tcase(s, tc);
	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, blocks_are_aligned);
	tcase_add_test(tc, fragmented);
	tcase_add_test(tc, split_block);
	return s;
}

int main(int argc, char **argv)
{
	static Suite *(*const suites[])(void) = {guest_pages_suite};

	return run_suites(suites, 1, argc ? argv + 1 : argv);
}
