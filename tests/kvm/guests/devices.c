/*
 * Read devices over and over and check what comes: a byte of a port, a string of them,
 * 32 bits of MMIO. Says "ready"; 'n' typed says how many rounds were made, 'q' ends the
 * run. A pause that lost or repeated an access shows as a wrong value.
 */
#include "tests/kvm/guests/lib/guest.h"

#define SCRATCH (FOAL_PORT_COM1 + 7)
#define STRING	16
#define SELECT	FOAL_IOAPIC_BASE
#define WINDOW	(FOAL_IOAPIC_BASE + 0x10)

static void in_string(uint16_t port, uint8_t *to, unsigned long count)
{
	__asm__ volatile("rep insb" : "+D"(to), "+c"(count) : "d"(port) : "memory");
}

static void one_round(uint8_t seed)
{
	uint8_t bytes[STRING];

	out8(SCRATCH, seed);
	expect(in8(SCRATCH) == seed, GUEST_BAD_VALUE);
	in_string(SCRATCH, bytes, STRING);
	for (unsigned i = 0; i < STRING; i++)
		expect(bytes[i] == seed, GUEST_BAD_VALUE);
	poke32(SELECT, 0); /* its ID: the upper byte's lower half */
	poke32(WINDOW, (uint32_t)(seed & 0xf) << 24);
	expect(peek32(WINDOW) == (uint32_t)(seed & 0xf) << 24, GUEST_BAD_DEVICE);
}

unsigned guest_main(const struct start_info *info)
{
	(void)info;
	out8(FOAL_PORT_COM1 + 4, 0x0b); /* DTR, RTS, OUT2: input is welcome */
	say("ready\n");
	for (uint64_t rounds = 0;; rounds++) {
		int c = heard();
		one_round((uint8_t)rounds);
		if (c == 'q')
			return GUEST_OK;
		if (c == 'n') {
			say("rounds ");
			say_hex(rounds);
			say("\n");
		}
	}
}
