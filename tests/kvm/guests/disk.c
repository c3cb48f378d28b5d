/*
 * Blocks of a disk, and as many pages of memory, gone over `passes=N` (2) times: each is what the
 * pass before left, and becomes what this one is. `blocks=N` (64) of 4 KiB, in an order that is not
 * their own; the disk was zeros.
 */
#include "tests/kvm/guests/lib/guest.h"

#define STEP	1021UL /* prime: every block once a pass */
#define MEMORY	(16UL << 20)
#define SECTORS (PAGE / 512)

static uint64_t block[PAGE / 8] __attribute__((aligned(PAGE)));

/* What @n was in the pass that ended before. */
static uint64_t wanted(uint64_t n, uint64_t pass)
{
	return pass ? GUEST_PATTERN(n) + pass : 0;
}

static void go_over(uint64_t n, uint64_t pass)
{
	expect(disk_transfer(n * SECTORS, block, sizeof(block), false), GUEST_BAD_DEVICE);
	expect(block[0] == wanted(n, pass) && block[511] == wanted(n, pass), GUEST_BAD_VALUE);
	expect(peek(MEMORY + n * PAGE) == wanted(n, pass), GUEST_BAD_VALUE);
	block[0] = block[511] = wanted(n, pass + 1);
	expect(disk_transfer(n * SECTORS, block, sizeof(block), true), GUEST_BAD_DEVICE);
	poke(MEMORY + n * PAGE, wanted(n, pass + 1));
}

unsigned guest_main(const struct start_info *info)
{
	uint64_t blocks = param("blocks", 64), passes = param("passes", 2);

	(void)info;
	for (uint64_t pass = 0; pass < passes; pass++)
		for (uint64_t i = 0, n = 0; i < blocks; i++, n = (n + STEP) % blocks)
			go_over(n, pass);
	return GUEST_OK;
}
