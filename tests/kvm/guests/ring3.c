/*
 * Writes `pages=N` (64) pages of RAM from 16 MiB on in ring 3, each once, in order: where a host
 * emulates ring 0, KVM counts no faults but those of ring 3. `wait=1`: says "ready" first, and
 * "done" behind; goes on at what is typed.
 */
#include "tests/kvm/guests/lib/guest.h"

#define FIRST	   (16UL << 20)
#define PIECE	   (2UL << 20)
#define MOST_PAGES 8192UL

static void wait_for_key(const char *why)
{
	if (!param("wait", 0))
		return;
	say(why);
	/* Seldom looked for: each look is an exit, and who counts those has to keep up. */
	while (heard() < 0)
		for (unsigned i = 0; i < 1000; i++)
			__asm__ volatile("pause");
}

unsigned guest_main(const struct start_info *info)
{
	uint64_t pages = param("pages", 64);

	(void)info;
	set_up_touch();
	out8(FOAL_PORT_COM1 + 4, 0x0b); /* DTR, RTS, OUT2: input is welcome */
	/* The same for any number, so that it costs the same. */
	for (uint64_t gpa = FIRST; gpa < FIRST + MOST_PAGES * PAGE; gpa += PIECE)
		open_to_user(gpa);
	wait_for_key("ready\n");
	for (uint64_t i = 0; i < pages && i < MOST_PAGES; i++)
		expect(touch(FIRST + i * PAGE, true, 3) == TOUCHED, GUEST_BAD_VALUE);
	wait_for_key("done\n");
	return GUEST_OK;
}
