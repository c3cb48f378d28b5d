/*
 * Say "ready" and never end, by `how=`:
 *   spin    without touching memory
 *   halt    halted, interrupts off
 *   pmem    reading the pages of pmem over and over, `mode=w`: writing them, `first=1`: the
 *           first of them before it says so
 *   anon    writing ever new pages of RAM, from the first again after the last
 */
#include "tests/kvm/guests/lib/guest.h"

static _Noreturn void visit(struct memmap_entry range, bool write)
{
	for (;;) {
		for (uint64_t at = 0; at < range.size; at += PAGE) {
			if (write)
				poke(range.gpa + at, GUEST_PATTERN(at / PAGE));
			else
				peek(range.gpa + at);
		}
	}
}

unsigned guest_main(const struct start_info *info)
{
	struct memmap_entry ram = memory_range(FOAL_MEMMAP_RAM, 1);

	(void)info;
	if (param_is("first", "1"))
		poke(pmem_range(0).gpa, GUEST_PATTERN(0));
	say("ready\n");
	if (param_is("how", "pmem"))
		visit(pmem_range(0), param_is("mode", "w"));
	if (param_is("how", "anon")) {
		ram.gpa += 4UL << 20; /* not over this guest */
		ram.size -= 4UL << 20;
		visit(ram, true);
	}
	/* On AMD a HLT that is not intercepted ends with any interrupt of the host. */
	while (param_is("how", "halt"))
		__asm__ volatile("cli; hlt");
	while (param_is("how", "spin"))
		;
	return GUEST_BAD_PARAM;
}
