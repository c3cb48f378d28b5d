/*
 * Sweep persistent memory (guest.h, sweep), the `device=N`-th (0). With
 * `flush=1` a flush request follows and must succeed; `flush=fail`: must not.
 * With `then=loop` it says "ready" and never ends; `then=dirty`: writes page 0
 * once more before that, unflushed. `tail=N`: byte N of the last page and all
 * behind it must be zero. `mode=drop` writes and must find nothing changed. `wait=1`:
 * says "waiting" first, and waits for a character.
 */
#include "tests/kvm/guests/lib/guest.h"

static void write_dropped(uint64_t base)
{
	for (uint64_t n = 0; n < param("pages", 64); n++) {
		poke(base + n * PAGE, GUEST_PATTERN(n));
		expect(peek(base + n * PAGE) == FILE_PATTERN(n), GUEST_BAD_VALUE);
	}
}

static void check_tail(struct memmap_entry pmem, uint64_t from)
{
	const volatile uint8_t *last = (const volatile uint8_t *)(pmem.gpa + pmem.size - PAGE);

	for (uint64_t i = from; i < PAGE; i++)
		expect(last[i] == 0, GUEST_BAD_VALUE);
}

static void wait_for_a_character(void)
{
	out8(FOAL_PORT_COM1 + 4, 0x0b); /* DTR, RTS, OUT2: input is welcome */
	say("waiting\n");
	while (heard() < 0)
		;
}

unsigned guest_main(const struct start_info *info)
{
	struct memmap_entry pmem = pmem_range((unsigned)param("device", 0));

	(void)info;
	if (param("wait", 0))
		wait_for_a_character();
	if (param_is("mode", "drop"))
		write_dropped(pmem.gpa);
	else
		sweep(pmem.gpa, true);
	if (param("tail", PAGE) < PAGE)
		check_tail(pmem, param("tail", PAGE));
	if (param_is("flush", "1"))
		expect(pmem_flush() == 0, GUEST_BAD_DEVICE);
	if (param_is("flush", "fail"))
		expect(pmem_flush() == 1, GUEST_BAD_DEVICE);
	if (param_is("then", "dirty"))
		poke(pmem.gpa, ~0UL);
	if (param_is("then", "dirty") || param_is("then", "loop")) {
		say("ready\n");
		for (;;)
			__asm__ volatile("pause");
	}
	return GUEST_OK;
}
