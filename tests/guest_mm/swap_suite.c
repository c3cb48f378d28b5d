/* Own pages out to a swap area and back: what is kept, what is given back, who is first. */
#include "guest/include/errno.h"
#include "guest/include/swap.h"
#include "tests/guest_mm/fake_mm.h"

enum { RW = VM_READ | VM_WRITE, SLOTS = 8 };

static u8 storage[SLOTS + 1][PAGE_SIZE];
static int io_error;
static void (*during_read)(void);

static void submit(struct block_device *bdev, struct bio *bio)
{
	u8 *at = storage[bio->sector >> (PAGE_SHIFT - SECTOR_SHIFT)];

	(void)bdev;
	if (!bio->write && during_read)
		during_read();
	for (u32 i = 0; i < bio->nr_vecs && !io_error; i++, at += PAGE_SIZE) {
		void *page = phys_to_virt(bio->vecs[i].phys);

		memcpy(bio->write ? at : page, bio->write ? page : at, PAGE_SIZE);
	}
	bio->status = io_error;
	bio->done(bio);
}

static const struct block_ops ops = {.submit = submit};
static struct block_device disk = {
    .name = "fake", .sectors = (SLOTS + 1) * PAGE_SIZE / 512, .ops = &ops};

static enum fault_result fault(unsigned page, unsigned flags)
{
	bool major = false;

	return handle_mm_fault(&fake_vma, FAKE_START + page * PAGE_SIZE, flags, &major);
}

static u8 *contents(unsigned page)
{
	return phys_to_virt(pte_phys(*fake_entry(page)));
}

static struct page *mapped(unsigned page)
{
	return vm_normal_page(*fake_entry(page));
}

/* An area of SLOTS pages, and n pages of the mapping written with their numbers. */
static void setup(unsigned n)
{
	u32 *header = (u32 *)(storage[0] + 1024);

	io_error = 0;
	during_read = NULL;
	fake_setup(RW, NULL);
	header[0] = 1;
	header[1] = SLOTS;
	memcpy(storage[0] + PAGE_SIZE - 10, "SWAPSPACE2", 10);
	ck_assert_int_eq(swap_on(&disk), 0);
	for (unsigned i = 0; i < n; i++) {
		ck_assert_int_eq(fault(i, FAULT_WRITE), FAULT_RESOLVED);
		memset(contents(i), (int)i + 1, PAGE_SIZE);
	}
}

static void out(unsigned page)
{
	struct page *p = mapped(page);

	get_page(p);
	swap_out_page(p);
}

/* What is swapped is in no frame; what comes back is what left, and leaves nothing behind. */
static void teardown(void)
{
	zap_range(&fake_vma, fake_vma.start, fake_vma.end);
	vma_unlink(&fake_vma);
	ck_assert_uint_eq(nr_free_slots(), SLOTS);
	ck_assert_int_eq(swap_off(), 0);
	ck_assert_uint_eq(fake_mm.rss[RSS_ANON] + fake_mm.rss[RSS_SWAP], 0);
	ck_assert_uint_eq(root_group.usage, 0);
}

START_TEST(out_and_back)
{
	setup(2);
	long frames = fake_frames();

	out(0);
	ck_assert(pte_is_swap(*fake_entry(0)));
	ck_assert_int_eq(fake_frames(), frames - 1);
	ck_assert_uint_eq(fake_mm.rss[RSS_SWAP], 1);
	ck_assert_uint_eq(nr_free_slots(), SLOTS - 1);
	ck_assert_int_eq(swap_off(), -EBUSY);
	ck_assert_int_eq(fault(0, 0), FAULT_RESOLVED);
	ck_assert_uint_eq(fault_counters.cases[FC_swap_read], 1);
	ck_assert_uint_eq(contents(0)[PAGE_SIZE - 1], 1);
	/* Nobody else's, so writable at once. */
	ck_assert(*fake_entry(0) & PTE_WRITE);
	ck_assert_uint_eq(nr_free_slots(), SLOTS);
	teardown();
}
END_TEST

/* Neighbours come along, and wait in the cache. */
START_TEST(read_with_neighbours)
{
	setup(3);
	for (unsigned i = 0; i < 3; i++)
		out(i);
	ck_assert_int_eq(fault(0, 0), FAULT_RESOLVED);
	ck_assert_int_eq(fault(1, 0), FAULT_RESOLVED);
	ck_assert_uint_eq(fault_counters.cases[FC_swap_read], 1);
	ck_assert_uint_eq(fault_counters.cases[FC_swap_cached], 1);
	ck_assert_uint_eq(contents(1)[7], 2);
	teardown(); /* the third, cached and never mapped, goes with its entry */
}
END_TEST

/* Two entries for a slot: the first to come back leaves it to the other, and copies to write. */
START_TEST(slot_of_two)
{
	setup(1);
	out(0);
	pte_t entry = *fake_entry(0);

	swap_dup(pte_slot(entry)); /* a fork's */
	ck_assert_int_eq(fault(0, FAULT_WRITE), FAULT_RESOLVED);
	ck_assert(!(*fake_entry(0) & PTE_WRITE));
	ck_assert_int_eq(fault(0, FAULT_WRITE), FAULT_RESOLVED);
	ck_assert_uint_eq(fault_counters.cases[FC_wp_copy], 1);
	contents(0)[0] = 99;
	ck_assert_uint_eq(nr_free_slots(), SLOTS - 1);
	swap_put(pte_slot(entry));
	teardown();
}
END_TEST

START_TEST(write_fails)
{
	setup(1);
	io_error = -EIO;
	out(0);
	io_error = 0;
	ck_assert(pte_is_swap(*fake_entry(0)));
	memset(storage[1], 0xee, PAGE_SIZE);
	ck_assert_int_eq(fault(0, 0), FAULT_RESOLVED);
	ck_assert_uint_eq(contents(0)[0], 1);
	teardown();
}
END_TEST

START_TEST(read_fails)
{
	setup(1);
	out(0);
	io_error = -EIO;
	ck_assert_int_eq(fault(0, 0), FAULT_SIGBUS);
	teardown();
}
END_TEST

static void unmapped_meanwhile(void)
{
	zap_range(&fake_vma, fake_vma.start, fake_vma.end);
}

START_TEST(unmapped_during_read)
{
	setup(1);
	out(0);
	during_read = unmapped_meanwhile;
	ck_assert_int_eq(fault(0, FAULT_WRITE), FAULT_RESOLVED);
	ck_assert_uint_eq(fault_counters.cases[FC_raced], 1);
	ck_assert_uint_eq(*fake_entry(0), 0);
	teardown();
}
END_TEST

/* The used page stays, the other goes; and a full area takes no more. */
START_TEST(lru_order)
{
	setup(4);
	*fake_entry(2) &= ~(pte_t)PTE_ACCESSED;
	ck_assert_uint_eq(shrink_group(&root_group, 1), 1);
	ck_assert(pte_is_swap(*fake_entry(2)) && mapped(0) && mapped(1) && mapped(3));
	/* All in use: the second look takes them. */
	ck_assert_uint_eq(shrink_group(&root_group, 100), 3);
	teardown();
	setup(SLOTS + 2);
	ck_assert_uint_eq(shrink_group(&root_group, 100), SLOTS);
	ck_assert_uint_eq(nr_free_slots(), 0);
	teardown();
}
END_TEST

Suite *guest_swap_suite(void)
{
	Suite *s = suite_create("guest_swap");
	TCase *tc = tcase_create("swap");

	suite_add_tcase(s, tc);
	tcase_add_test(tc, out_and_back);
	tcase_add_test(tc, read_with_neighbours);
	tcase_add_test(tc, slot_of_two);
	tcase_add_test(tc, write_fails);
	tcase_add_test(tc, read_fails);
	tcase_add_test(tc, unmapped_during_read);
	tcase_add_test(tc, lru_order);
	return s;
}
