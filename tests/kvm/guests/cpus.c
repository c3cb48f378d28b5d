/*
 * Starts each of `cpus=N` processors by INIT and STARTUP, one after the other,
 * and counts them. Each looks at its own CPUID: its APIC id, and that it is one
 * of N cores of one socket. `x2apic=1`: by x2APIC.
 */
#include "tests/kvm/guests/lib/guest.h"

static uint32_t cpus;
static volatile uint32_t started, wrong;

static void cpuid(uint32_t leaf, uint32_t index, uint32_t out[4])
{
	__asm__ volatile("cpuid"
			 : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
			 : "a"(leaf), "c"(index));
}

/* @me is what its APIC id has to be. */
static void look(uint32_t me)
{
	uint32_t r[4];

	cpuid(1, 0, r);
	wrong |= r[1] >> 24 != (me & 0xff);
	cpuid(0xb, 1, r);
	wrong |= r[3] != me || (r[1] & 0xffff) != cpus || (r[2] >> 8 & 0xff) != 2;
	cpuid(0xb, 0, r);
	wrong |= r[0] != 0 || (r[1] & 0xffff) != 1 || (r[2] >> 8 & 0xff) != 1;
}

/* All run on one stack, so each is done with it before the next is started. */
void ap_main(void)
{
	look(started);
	started++;
	for (;;)
		__asm__ volatile("cli; hlt");
}

unsigned guest_main(const struct start_info *info)
{
	(void)info;
	cpus = param("cpus", 1);
	look(0);
	if (param("x2apic", 0))
		use_x2apic();
	started = 1;
	for (uint32_t id = 1; id < cpus; id++) {
		start_processor(id);
		while (started != id + 1)
			__asm__ volatile("pause");
	}
	say_hex(started);
	return wrong ? GUEST_BAD_VALUE : GUEST_OK;
}
