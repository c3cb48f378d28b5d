/* The swap file's blocks: who holds one, and that a file that is full is not for ever. */
#include "tests/ept/unit_suites.h"
#include "tests/ept/util.h"

#include "ept/swap_file.h"

#define BLOCKS 256U

static struct ept_swap swap;

static void open_swap(void)
{
	struct ept_swap_file file = {
	    .fd = temp_file(0), .name = "swap.img", .size = BLOCKS * EPT_SWAP_BLOCK};

	swap = (struct ept_swap){.fd = -1};
	ck_assert_int_eq(ept_swap_open(&swap, &file), 0);
	close(file.fd);
}

static void close_swap(void)
{
	ept_swap_close(&swap);
}

/* Smallest images fill block 0, and more lie in it than in any other way. */
static void fill_a_block(uint64_t place[EPT_SWAP_BLOCK / EPT_IMAGE_ALIGN])
{
	unsigned got;
	uint64_t first = ept_swap_alloc(&swap, 1, &got);

	ck_assert_uint_eq(got, 1);
	for (size_t i = 0; i < EPT_SWAP_BLOCK / EPT_IMAGE_ALIGN; i++) {
		place[i] = ept_swap_place(first, i * EPT_IMAGE_ALIGN, EPT_IMAGE_ALIGN);
		ept_swap_hold(&swap, place[i]);
	}
	ept_swap_seal(&swap, first, got);
}

/* As many forks at once as can be, each of which keeps the fullest block; one more is refused. */
START_TEST(pins_do_not_overflow)
{
	uint64_t place[EPT_SWAP_BLOCK / EPT_IMAGE_ALIGN];
	struct ept_swap_pin *pin[EPT_SWAP_PINS], *more;

	fill_a_block(place);
	for (unsigned i = 0; i < EPT_SWAP_PINS; i++)
		ck_assert_int_eq(ept_swap_pin(&swap, &pin[i]), 0);
	ck_assert_int_eq(ept_swap_pin(&swap, &more), -EBUSY);
	ck_assert_ptr_null(more);
	ck_assert_uint_eq(swap.live[0], EPT_SWAP_BLOCK / EPT_IMAGE_ALIGN + EPT_SWAP_PINS);
	for (size_t i = 0; i < EPT_SWAP_BLOCK / EPT_IMAGE_ALIGN; i++)
		ept_swap_release(&swap, place[i]);
	/* Each of the children has it until it is done, in whatever order they are. */
	for (unsigned i = 0; i < EPT_SWAP_PINS; i++) {
		ck_assert_uint_eq(swap.used, 1);
		ept_swap_unpin(&swap, pin[i % 2 ? i - 1 : i + 1]);
	}
	ck_assert_uint_eq(swap.used, 0);
	ck_assert_int_eq(ept_swap_pin(&swap, &more), 0);
	ept_swap_unpin(&swap, more);
}
END_TEST

/* A pin is of what was in use then; what came later goes with its image. */
START_TEST(pins_are_of_their_time)
{
	uint64_t old[EPT_SWAP_BLOCK / EPT_IMAGE_ALIGN], new[EPT_SWAP_BLOCK / EPT_IMAGE_ALIGN];
	struct ept_swap_pin *pin;

	fill_a_block(old);
	ck_assert_int_eq(ept_swap_pin(&swap, &pin), 0);
	fill_a_block(new);
	for (size_t i = 0; i < EPT_SWAP_BLOCK / EPT_IMAGE_ALIGN; i++) {
		ept_swap_release(&swap, old[i]);
		ept_swap_release(&swap, new[i]);
	}
	ck_assert_uint_eq(swap.used, 1);
	ck_assert_uint_eq(swap.live[0], 1);
	ept_swap_unpin(&swap, pin);
	ck_assert_uint_eq(swap.used, 0);
}
END_TEST

/* A child has none of the pins, those of other forks neither; its parent's handles are nothing. */
START_TEST(child_lets_go_of_all_pins)
{
	uint64_t kept[EPT_SWAP_BLOCK / EPT_IMAGE_ALIGN], gone[EPT_SWAP_BLOCK / EPT_IMAGE_ALIGN];
	struct ept_swap_pin *pin[3], *another;
	int own = temp_file(0);

	fill_a_block(kept);
	fill_a_block(gone);
	ck_assert_int_eq(ept_swap_write(&swap, 0, "a page of it", 13), 0);
	ck_assert_int_eq(ftruncate(swap.fd, BLOCKS * EPT_SWAP_BLOCK), 0);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(ept_swap_pin(&swap, &pin[i]), 0);
	for (size_t i = 0; i < EPT_SWAP_BLOCK / EPT_IMAGE_ALIGN; i++)
		ept_swap_release(&swap, gone[i]);
	ck_assert_uint_eq(swap.used, 2);
	ck_assert_int_eq(ept_swap_adopt(&swap, own), 0);
	ck_assert_uint_eq(swap.used, 1);
	ck_assert_uint_eq(swap.live[0], EPT_SWAP_BLOCK / EPT_IMAGE_ALIGN);
	ck_assert_uint_eq(swap.live[1], 0);
	ck_assert(file_has(own, 0, "a page of it", 13));
	ept_swap_unpin(&swap, pin[1]);
	ck_assert_uint_eq(swap.live[0], EPT_SWAP_BLOCK / EPT_IMAGE_ALIGN);
	for (unsigned i = 0; i < EPT_SWAP_PINS; i++)
		ck_assert_int_eq(ept_swap_pin(&swap, &another), 0);
	close(own);
}
END_TEST

/* Full: nothing is given, which is no error. One image less, and its block is. */
START_TEST(full_until_places_are_free)
{
	uint64_t place[BLOCKS];
	unsigned got, held = 0;

	while (held < BLOCKS) {
		uint64_t first = ept_swap_alloc(&swap, EPT_SWAP_RUN, &got);

		ck_assert_uint_gt(got, 0);
		for (unsigned i = 0; i < got; i++) {
			place[held] = ept_swap_place(first + i, 0, EPT_SWAP_BLOCK);
			ept_swap_hold(&swap, place[held++]);
		}
		ept_swap_seal(&swap, first, got);
	}
	ept_swap_alloc(&swap, EPT_SWAP_RUN, &got);
	ck_assert_uint_eq(got, 0);
	ck_assert_int_eq(swap.error, 0);
	ept_swap_release(&swap, place[77]);
	ck_assert_uint_eq(ept_swap_alloc(&swap, EPT_SWAP_RUN, &got), 77);
	ck_assert_uint_eq(got, 1);
	ept_swap_seal(&swap, 77, got);
	ck_assert_uint_eq(swap.used, BLOCKS - 1);
}
END_TEST

START_TEST(sizes_that_are_refused)
{
	struct ept_swap_file file = {.fd = swap.fd, .name = "swap.img"};
	struct ept_swap other = {.fd = -1};

	file.size = EPT_SWAP_BLOCK - 1;
	ck_assert_int_eq(ept_swap_open(&other, &file), -EINVAL);
	file.size = (1UL << 40) + EPT_SWAP_BLOCK;
	ck_assert_int_eq(ept_swap_open(&other, &file), -EINVAL);
}
END_TEST

Suite *suite_swap_file(void)
{
	Suite *suite = suite_create("ept: swap file");
	TCase *tc = tcase_create("swap file");

	tcase_add_checked_fixture(tc, open_swap, close_swap);
	tcase_add_test(tc, pins_do_not_overflow);
	tcase_add_test(tc, pins_are_of_their_time);
	tcase_add_test(tc, child_lets_go_of_all_pins);
	tcase_add_test(tc, full_until_places_are_free);
	tcase_add_test(tc, sizes_that_are_refused);
	suite_add_tcase(suite, tc);
	return suite;
}
