/*
 * Writes pages of RAM in ring 3 with interrupts on, over and over: under a memory limit it
 * waits for one at nearly any moment, and KVM may halt it meanwhile. Says "ready" first; what
 * is typed ends it.
 */
#include "tests/kvm/guests/lib/guest.h"

#define FIRST (4UL << 20)     /* not over this guest */
#define STEP  (1009UL * PAGE) /* never a neighbour: what is brought in with another is no fault */

unsigned guest_main(const struct start_info *info)
{
	struct memmap_entry ram = memory_range(FOAL_MEMMAP_RAM, 1);
	uint64_t at = FIRST;

	(void)info;
	set_up_touch();
	for (uint64_t gpa = ram.gpa + FIRST; gpa < ram.gpa + ram.size; gpa += 2UL << 20)
		open_to_user(gpa);
	out8(FOAL_PORT_COM1 + 4, 0x0b); /* DTR, RTS, OUT2: input is welcome */
	say("ready\n");
	while (heard() < 0) {
		expect(touch(ram.gpa + at, true, 3) == TOUCHED, GUEST_BAD_VALUE);
		at = FIRST + (at - FIRST + STEP) % (ram.size - FIRST);
	}
	return GUEST_OK;
}
