/*
 * Two processors go over `pages=N` (64) pages of RAM from 16 MiB on and as many of pmem,
 * `passes=N` (2) times, each in an order of its own: in every page each has a word of its own,
 * finds what it left there and adds 1. With `flush=N` the first flushes after every N pages. It
 * says "ready" when both are at it.
 */
#include "tests/kvm/guests/lib/guest.h"

static const uint64_t steps[] = {4099, 2053}; /* primes: every page once a pass */

static uint64_t pages, passes, flush, file;
static volatile uint32_t ap_runs, ap_done;

static void add(uint64_t base, uint64_t page, unsigned me, uint64_t pass)
{
	uint64_t word = base + page * PAGE + 8 * (1 + me);

	expect(peek(word) == pass, GUEST_BAD_VALUE);
	poke(word, pass + 1);
}

static void work(unsigned me)
{
	for (uint64_t pass = 0; pass < passes; pass++)
		for (uint64_t i = 0, n = 0; i < pages; i++, n = (n + steps[me]) % pages) {
			add(16UL << 20, n, me, pass);
			add(file, n, me, pass);
			if (!me && flush && i % flush == flush - 1)
				expect(pmem_flush() == 0, GUEST_BAD_DEVICE);
		}
}

void ap_main(void)
{
	ap_runs = 1;
	work(1);
	ap_done = 1;
	for (;;)
		__asm__ volatile("cli; hlt");
}

unsigned guest_main(const struct start_info *info)
{
	(void)info;
	pages = param("pages", 64);
	passes = param("passes", 2);
	flush = param("flush", 0);
	file = pmem_range(0).gpa;
	start_processor(1);
	while (!ap_runs)
		__asm__ volatile("pause");
	say("ready\n");
	work(0);
	while (!ap_done)
		__asm__ volatile("pause");
	return GUEST_OK;
}
