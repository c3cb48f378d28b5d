#include "tests/kvm/guests/lib/guest.h"

#define TRAMPOLINE     0x8000UL /* start.S is assembled for it */

/* Local APIC registers (SDM 3A 11.4.1). */
#define LAPIC_SVR      (FOAL_LAPIC_BASE + 0xf0)
#define LAPIC_ICR_LOW  (FOAL_LAPIC_BASE + 0x300)
#define LAPIC_ICR_HIGH (FOAL_LAPIC_BASE + 0x310)
#define ICR_INIT       0x4500
#define ICR_STARTUP    0x4600

extern const char ap_start[], ap_end[];

void start_processor(uint32_t apic_id)
{
	volatile char *to = (volatile char *)TRAMPOLINE;

	for (const char *from = ap_start; from < ap_end; from++)
		*to++ = *from;
	poke32(LAPIC_SVR, 0x1ff); /* enabled */
	poke32(LAPIC_ICR_HIGH, apic_id << 24);
	poke32(LAPIC_ICR_LOW, ICR_INIT);
	poke32(LAPIC_ICR_HIGH, apic_id << 24);
	poke32(LAPIC_ICR_LOW, ICR_STARTUP | TRAMPOLINE >> 12);
}
