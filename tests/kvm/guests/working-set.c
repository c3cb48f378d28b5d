/*
 * A working set of `pages=N` (64) pages, `where=ram` from 16 MiB on or `where=pmem`, gone
 * over `passes=N` (2) times in an order that is not the pages' own: each pass must find what
 * the one before left, and adds 1. With `flush=1` a flush follows. `wait=1`: says "ready" first,
 * "done" at the end, and waits for a character each time; `wait=2`: and "pass" after each pass but
 * the last. With `ready=N` it says by its port that it is ready, in each pass, after N pages. Its
 * code has to fit into a page: one that is a file's in whole can leave, and is in no snapshot.
 */
#include "tests/kvm/guests/lib/guest.h"

#define STEP 4099UL /* prime: every page once a pass */

static __attribute__((noinline)) void wait_for_a_character(const char *text)
{
	out8(FOAL_PORT_COM1 + 4, 0x0b); /* DTR, RTS, OUT2: input is welcome */
	say(text);
	while (heard() < 0)
		;
}

unsigned guest_main(const struct start_info *info)
{
	bool is_file = param_is("where", "pmem");
	uint64_t base = is_file ? pmem_range(0).gpa : 16UL << 20;
	uint64_t pages = param("pages", 64), passes = param("passes", 2), ready = param("ready", 0);
	uint64_t wait = param("wait", 0);

	(void)info;
	if (wait)
		wait_for_a_character("ready\n");
	for (uint64_t pass = 0; pass < passes; pass++) {
		if (pass && wait > 1)
			wait_for_a_character("pass\n");
		for (uint64_t i = 0, n = 0; i < pages; i++, n = (n + STEP) % pages) {
			uint64_t was = is_file ? FILE_PATTERN(n) : pass ? GUEST_PATTERN(n) : 0;

			expect(peek(base + n * PAGE) == was + pass, GUEST_BAD_VALUE);
			if (!is_file && !pass)
				was = GUEST_PATTERN(n);
			poke(base + n * PAGE, was + pass + 1);
			if (ready && i + 1 == ready)
				out8(FOAL_PORT_READY, 1);
		}
	}
	if (param_is("flush", "1"))
		expect(pmem_flush() == 0, GUEST_BAD_DEVICE);
	if (wait)
		wait_for_a_character("done\n");
	return GUEST_OK;
}
